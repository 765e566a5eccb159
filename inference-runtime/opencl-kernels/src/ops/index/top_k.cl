// TopK: every element counts how many come before it; those with fewer than `k` before them know their place.
//
// Quadratic in the axis' length, but without a sort's steps that wait for each other; made for the lengths of
// classes and candidates.
//
//   TYPE  float, int or long

#ifndef TYPE
#define TYPE float
#endif

// Whether a, at position i, comes before b, at position j. What is no number comes last; among equals, the first.
inline bool before(TYPE a, int i, TYPE b, int j, int largest) {
    const bool a_is_number = a == a;
    const bool b_is_number = b == b;
    if (a_is_number != b_is_number) {
        return a_is_number;
    }
    const bool better = largest ? a > b : a < b;
    const bool worse = largest ? a < b : a > b;
    return better || (!worse && i < j);
}

__kernel void top_k(__global const TYPE *source, __global TYPE *values, __global long *indices, uint count, int inner,
                    uint inner_magic, uint inner_shift, int length, uint length_magic, uint length_shift, int k,
                    int largest) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint line = divide(id, inner_magic, inner_shift);
    const int e = (int)id - (int)line * inner;
    const int o = (int)divide(line, length_magic, length_shift);
    const int at = (int)line - o * length;

    const TYPE own = source[id];
    __global const TYPE *axis = source + o * length * inner + e;
    int place = 0;
    for (int i = 0; i < length; ++i) {
        place += before(axis[i * inner], i, own, at, largest) ? 1 : 0;
    }
    if (place < k) {
        const int to = (o * k + place) * inner + e;
        values[to] = own;
        indices[to] = at;
    }
}

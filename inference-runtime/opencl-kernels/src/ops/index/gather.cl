// Gather: target[o, n, e] = source[o, indices[n], e]
//
//   ELEMENT  what one work-item moves; the inner run is moved in wide elements
//   INDEX    int or long

#ifndef ELEMENT
#define ELEMENT uint
#endif
#ifndef INDEX
#define INDEX long
#endif

__kernel void gather(__global const ELEMENT *source, __global const INDEX *indices, __global ELEMENT *target,
                     __global long *fault, int code, uint count, int inner, uint inner_magic, uint inner_shift,
                     int positions, uint positions_magic, uint positions_shift, int length) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint line = divide(id, inner_magic, inner_shift);
    const int e = (int)id - (int)line * inner;
    const int o = (int)divide(line, positions_magic, positions_shift);
    const int n = (int)line - o * positions;
    const int at = checked_index(indices[n], length, fault, code);
    target[id] = source[(o * length + at) * inner + e];
}

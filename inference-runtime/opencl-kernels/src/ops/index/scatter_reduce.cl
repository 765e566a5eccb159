// Scatter with a reduction: updates are combined with what is at their target, in row-major order of the updates,
// because sums of floats depend on it. Updates with one target are one work-item's work.
//
//   TYPE   float, int or long
//   INDEX  int or long

#ifndef TYPE
#define TYPE float
#endif
#ifndef INDEX
#define INDEX long
#endif

#define ADD 0
#define MULTIPLY 1
#define MAXIMUM 2

inline TYPE combine(TYPE a, TYPE b, int reduction) {
    if (reduction == ADD) {
        return a + b;
    }
    if (reduction == MULTIPLY) {
        return a * b;
    }
    if (reduction == MAXIMUM) {
        return a < b ? b : a;
    }
    return a < b ? a : b;
}

#define PEEL(n)                                                                                                        \
    if (n < inner) {                                                                                                   \
        const uint outer = divide(rest, (uint)magics.s##n, (uint)shifts.s##n);                                         \
        const int i = (int)rest - (int)outer * extents.s##n;                                                           \
        from += i * from_strides.s##n;                                                                                 \
        to += i * to_strides.s##n;                                                                                     \
        rest = outer;                                                                                                  \
    }

// ScatterElements: one work-item a line of updates along the axis (`steps` of them, `step` apart).
__kernel void reduce_lines(__global const TYPE *updates, __global const INDEX *indices, __global TYPE *target,
                           __global long *fault, int code, uint lines, int inner, int8 extents, int8 magics,
                           int8 shifts, int8 from_strides, int8 to_strides, int steps, int step, int length,
                           int stride, int reduction) {
    uint rest = (uint)get_global_id(0);
    if (rest >= lines) {
        return;
    }
    int from = 0;
    int to = 0;
    PEEL(0)
    PEEL(1)
    PEEL(2)
    PEEL(3)
    PEEL(4)
    PEEL(5)
    PEEL(6)
    from += (int)rest * from_strides.s7;
    to += (int)rest * to_strides.s7;
    for (int i = 0; i < steps; ++i, from += step) {
        const int at = to + checked_index(indices[from], length, fault, code) * stride;
        target[at] = combine(target[at], updates[from], reduction);
    }
}

#define COMPONENT(n)                                                                                                   \
    if (n < depth) {                                                                                                   \
        at += checked_index(tuple[n], lengths.s##n, fault, code + n) * strides.s##n;                                   \
    }

// ScatterND: one work-item a place within the slices, for all tuples.
__kernel void reduce_slices(__global const TYPE *updates, __global const INDEX *indices, __global TYPE *target,
                            __global long *fault, int code, uint run, int tuples, int depth, int8 lengths,
                            int8 strides, int reduction) {
    const uint e = (uint)get_global_id(0);
    if (e >= run) {
        return;
    }
    for (int t = 0; t < tuples; ++t) {
        __global const INDEX *tuple = indices + t * depth;
        int at = (int)e;
        COMPONENT(0)
        COMPONENT(1)
        COMPONENT(2)
        COMPONENT(3)
        COMPONENT(4)
        COMPONENT(5)
        COMPONENT(6)
        COMPONENT(7)
        target[at] = combine(target[at], updates[t * (int)run + (int)e], reduction);
    }
}

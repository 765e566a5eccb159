// Pad: each work-item finds its element of the (cropped) source, or none.
//
// Axes are given as in strided_copy.cl: lane 0 is the innermost that has another one outside, lane 7 the outermost.
// `extents` are the output's; `lengths` and `strides` the source's after cropping; `before` counts the elements
// added in front.
//
//   ELEMENT  unsigned type of the element's size

#ifndef ELEMENT
#define ELEMENT uint
#endif

#define FOR_EACH_AXIS(VISIT)                                                                                           \
    PEEL(0, VISIT)                                                                                                     \
    PEEL(1, VISIT)                                                                                                     \
    PEEL(2, VISIT)                                                                                                     \
    PEEL(3, VISIT)                                                                                                     \
    PEEL(4, VISIT)                                                                                                     \
    PEEL(5, VISIT)                                                                                                     \
    PEEL(6, VISIT)                                                                                                     \
    VISIT(7, (int)rest - before.s7)

#define PEEL(n, VISIT)                                                                                                 \
    if (n < inner) {                                                                                                   \
        const uint outer = divide(rest, (uint)magics.s##n, (uint)shifts.s##n);                                         \
        VISIT(n, (int)rest - (int)outer * extents.s##n - before.s##n)                                                  \
        rest = outer;                                                                                                  \
    }

#define INSIDE(n, coordinate)                                                                                          \
    {                                                                                                                  \
        const int at = coordinate;                                                                                     \
        inside = inside && at >= 0 && at < lengths.s##n;                                                               \
        from += at * strides.s##n;                                                                                     \
    }

__kernel void pad_constant(__global const ELEMENT *source, __global ELEMENT *target, uint count, int inner,
                           int8 extents, int8 magics, int8 shifts, int8 before, int8 lengths, int8 strides, int from,
                           __global const ELEMENT *value) {
    uint rest = (uint)get_global_id(0);
    if (rest >= count) {
        return;
    }
    bool inside = true;
    FOR_EACH_AXIS(INSIDE)
    target[get_global_id(0)] = inside ? source[from] : value[0];
}

#define EDGE 0
#define REFLECT 1
#define WRAP 2

// Where in 0..length the coordinate `at` outside of it takes its element from.
inline int fold(int at, int length, int mode) {
    if (mode == EDGE) {
        return clamp(at, 0, length - 1);
    }
    if (mode == REFLECT) {
        const int mirrored = at < 0 ? -at : at;
        return mirrored < length ? mirrored : 2 * (length - 1) - mirrored;
    }
    if (at >= 0 && at < length) {
        return at;
    }
    const int remainder = at % length;
    return remainder < 0 ? remainder + length : remainder;
}

#define FOLDED(n, coordinate) from += fold(coordinate, lengths.s##n, mode) * strides.s##n;

__kernel void pad_fold(__global const ELEMENT *source, __global ELEMENT *target, uint count, int inner, int8 extents,
                       int8 magics, int8 shifts, int8 before, int8 lengths, int8 strides, int from, int mode) {
    uint rest = (uint)get_global_id(0);
    if (rest >= count) {
        return;
    }
    FOR_EACH_AXIS(FOLDED)
    target[get_global_id(0)] = source[from];
}

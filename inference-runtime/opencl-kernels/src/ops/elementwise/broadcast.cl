// The end of every elementwise program: walks the output and calls, for each element,
//
//   inline RESULT apply(FIRST a, SECOND b, THIRD c, float p, float q)
//
// on the elements of up to three broadcast operands. An operation with fewer operands ignores the others; its
// launcher passes the first one again, and the compiler drops the loads.
//
//   FIRST, SECOND, THIRD, RESULT   element types      p, q   the operation's parameters

#define PASTE(a, b) a##b
#define VECTOR(type) PASTE(type, 4)

#define APPLY_4(x, y, z)                                                                                               \
    (VECTOR(RESULT))(apply(x.s0, y.s0, z.s0, p, q), apply(x.s1, y.s1, z.s1, p, q), apply(x.s2, y.s2, z.s2, p, q),      \
                     apply(x.s3, y.s3, z.s3, p, q))

// Each operand is as long as the output (step 1) or one element (step 0). Four elements per work-item.
__kernel void map_flat(__global RESULT *out, __global const FIRST *a, __global const SECOND *b,
                       __global const THIRD *c, uint count, int4 steps, float p, float q) {
    const uint item = (uint)get_global_id(0);
    const uint i = item * 4;
    if (i + 4 <= count) {
        const VECTOR(FIRST) x = steps.s0 ? ((__global const VECTOR(FIRST) *)a)[item] : (VECTOR(FIRST))(a[0]);
        const VECTOR(SECOND) y = steps.s1 ? ((__global const VECTOR(SECOND) *)b)[item] : (VECTOR(SECOND))(b[0]);
        const VECTOR(THIRD) z = steps.s2 ? ((__global const VECTOR(THIRD) *)c)[item] : (VECTOR(THIRD))(c[0]);
        ((__global VECTOR(RESULT) *)out)[item] = APPLY_4(x, y, z);
    } else {
        for (uint j = i; j < count; j++) {
            out[j] = apply(a[j * steps.s0], b[j * steps.s1], c[j * steps.s2], p, q);
        }
    }
}

#ifndef FLAT_ONLY

// At most three axes, lane 0 the innermost; a row of the innermost axis is walked as in map_flat.
__kernel void map_rows(__global RESULT *out, __global const FIRST *a, __global const SECOND *b,
                       __global const THIRD *c, int4 extents, int4 first, int4 second, int4 third, float p, float q) {
    const int i = (int)get_global_id(0) * 4;
    const int row = (int)get_global_id(1);
    const int plane = (int)get_global_id(2);
    if (i >= extents.s0) {
        return;
    }
    out += (plane * extents.s1 + row) * extents.s0;
    a += plane * first.s2 + row * first.s1;
    b += plane * second.s2 + row * second.s1;
    c += plane * third.s2 + row * third.s1;
    if (i + 4 <= extents.s0) {
        const VECTOR(FIRST) x = first.s0 ? vload4(0, a + i) : (VECTOR(FIRST))(a[0]);
        const VECTOR(SECOND) y = second.s0 ? vload4(0, b + i) : (VECTOR(SECOND))(b[0]);
        const VECTOR(THIRD) z = third.s0 ? vload4(0, c + i) : (VECTOR(THIRD))(c[0]);
        vstore4(APPLY_4(x, y, z), 0, out + i);
    } else {
        for (int j = i; j < extents.s0; j++) {
            out[j] = apply(a[j * first.s0], b[j * second.s0], c[j * third.s0], p, q);
        }
    }
}

// Any number of axes, one element per work-item. Lane 0 is the innermost of the `inner` axes that have another one
// outside; the outermost axis' strides are in lane 7, and it needs no division.
__kernel void map_any(__global RESULT *out, __global const FIRST *a, __global const SECOND *b,
                      __global const THIRD *c, uint count, int inner, int8 extents, int8 magics, int8 shifts,
                      int8 first, int8 second, int8 third, float p, float q) {
    const uint at = (uint)get_global_id(0);
    if (at >= count) {
        return;
    }
    uint rest = at;
#define PEEL(n)                                                                                                        \
    if (n < inner) {                                                                                                   \
        const uint outer = divide(rest, (uint)magics.s##n, (uint)shifts.s##n);                                         \
        const int i = (int)rest - (int)outer * extents.s##n;                                                           \
        a += i * first.s##n;                                                                                           \
        b += i * second.s##n;                                                                                          \
        c += i * third.s##n;                                                                                           \
        rest = outer;                                                                                                  \
    }
    PEEL(0)
    PEEL(1)
    PEEL(2)
    PEEL(3)
    PEEL(4)
    PEEL(5)
    PEEL(6)
    const int last = (int)rest;
    out[at] = apply(a[last * first.s7], b[last * second.s7], c[last * third.s7], p, q);
}

#endif

// GatherElements: each element of the output lies where its own index says on one axis, and where it lies itself on
// the others. `from_strides` are the source's, 0 on that axis.
//
//   ELEMENT  unsigned type of the element's size
//   INDEX    int or long

#ifndef ELEMENT
#define ELEMENT uint
#endif
#ifndef INDEX
#define INDEX long
#endif

#define PEEL(n)                                                                                                        \
    if (n < inner) {                                                                                                   \
        const uint outer = divide(rest, (uint)magics.s##n, (uint)shifts.s##n);                                         \
        from += ((int)rest - (int)outer * extents.s##n) * from_strides.s##n;                                           \
        rest = outer;                                                                                                  \
    }

__kernel void gather_elements(__global const ELEMENT *source, __global const INDEX *indices,
                              __global ELEMENT *target, __global long *fault, int code, uint count, int inner,
                              int8 extents, int8 magics, int8 shifts, int8 from_strides, int length, int stride) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    uint rest = id;
    int from = checked_index(indices[id], length, fault, code) * stride;
    PEEL(0)
    PEEL(1)
    PEEL(2)
    PEEL(3)
    PEEL(4)
    PEEL(5)
    PEEL(6)
    target[id] = source[from + (int)rest * from_strides.s7];
}

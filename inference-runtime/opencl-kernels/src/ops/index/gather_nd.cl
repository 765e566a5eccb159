// GatherND: each tuple of `depth` indices names a run of the source, batch by batch.
//
//     target[t, e] = source[batch of t, indices[t, 0], ..., indices[t, depth - 1], e]
//
//   ELEMENT  what one work-item moves; runs are moved in wide elements

#ifndef ELEMENT
#define ELEMENT uint
#endif

#define COMPONENT(n)                                                                                                   \
    if (n < depth) {                                                                                                   \
        from += checked_index(tuple[n], lengths.s##n, fault, code + n) * strides.s##n;                                 \
    }

__kernel void gather_nd(__global const ELEMENT *source, __global const long *indices, __global ELEMENT *target,
                        __global long *fault, int code, uint count, int inner, uint inner_magic, uint inner_shift,
                        int batch_tuples, uint batch_magic, uint batch_shift, int batch_stride, int depth,
                        int8 lengths, int8 strides) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint t = divide(id, inner_magic, inner_shift);
    int from = (int)id - (int)t * inner + (int)divide(t, batch_magic, batch_shift) * batch_stride;
    __global const long *tuple = indices + (int)t * depth;
    COMPONENT(0)
    COMPONENT(1)
    COMPONENT(2)
    COMPONENT(3)
    COMPONENT(4)
    COMPONENT(5)
    COMPONENT(6)
    COMPONENT(7)
    target[id] = source[from];
}

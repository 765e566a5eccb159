// ScatterElements: each update goes where its own index says on one axis, and where it lies itself on the others.
// `from_strides` are the data's, 0 on that axis.
//
// Several updates may have one target; the last of them in row-major order counts. Work-items run in any order, so
// they first bid for the target with their number, and the highest number writes.
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
        at += ((int)rest - (int)outer * extents.s##n) * from_strides.s##n;                                             \
        rest = outer;                                                                                                  \
    }

inline int target_of(int id, int inner, int8 extents, int8 magics, int8 shifts, int8 from_strides,
                     __global const INDEX *indices, int length, int stride, __global long *fault, int code) {
    uint rest = (uint)id;
    int at = checked_index(indices[id], length, fault, code) * stride;
    PEEL(0)
    PEEL(1)
    PEEL(2)
    PEEL(3)
    PEEL(4)
    PEEL(5)
    PEEL(6)
    return at + (int)rest * from_strides.s7;
}

__kernel void clear_bids(__global int *bids, uint count) {
    const uint id = (uint)get_global_id(0);
    if (id < count) {
        bids[id] = -1;
    }
}

__kernel void bid(__global const INDEX *indices, volatile __global int *bids, __global long *fault, int code,
                  uint count, int inner, int8 extents, int8 magics, int8 shifts, int8 from_strides, int length,
                  int stride) {
    const int id = (int)get_global_id(0);
    if (id < (int)count) {
        const int at = target_of(id, inner, extents, magics, shifts, from_strides, indices, length, stride, fault, code);
        atomic_max(&bids[at], id);
    }
}

__kernel void scatter_elements(__global const ELEMENT *updates, __global const INDEX *indices,
                               __global const int *bids, __global ELEMENT *target, __global long *fault, int code,
                               uint count, int inner, int8 extents, int8 magics, int8 shifts, int8 from_strides,
                               int length, int stride) {
    const int id = (int)get_global_id(0);
    if (id < (int)count) {
        const int at = target_of(id, inner, extents, magics, shifts, from_strides, indices, length, stride, fault, code);
        if (bids[at] == id) {
            target[at] = updates[id];
        }
    }
}

// ScatterND: each tuple of `depth` indices names a run of the target, which its update replaces.
//
// Several tuples may name one run; the last of them counts. Work-items run in any order, so tuples first bid for
// their run with their number, and the highest number writes. `slices` counts runs, `lengths` and `strides` lead to
// them.
//
//   ELEMENT  what one work-item moves; runs are moved in wide elements

#ifndef ELEMENT
#define ELEMENT uint
#endif

#define COMPONENT(n)                                                                                                   \
    if (n < depth) {                                                                                                   \
        at += checked_index(tuple[n], lengths.s##n, fault, code + n) * strides.s##n;                                   \
    }

inline int slice_of(__global const long *tuple, int depth, int8 lengths, int8 strides, __global long *fault,
                    int code) {
    int at = 0;
    COMPONENT(0)
    COMPONENT(1)
    COMPONENT(2)
    COMPONENT(3)
    COMPONENT(4)
    COMPONENT(5)
    COMPONENT(6)
    COMPONENT(7)
    return at;
}

__kernel void clear_bids(__global int *bids, uint slices) {
    const uint id = (uint)get_global_id(0);
    if (id < slices) {
        bids[id] = -1;
    }
}

__kernel void bid(__global const long *indices, volatile __global int *bids, __global long *fault, int code,
                  uint tuples, int depth, int8 lengths, int8 strides) {
    const int t = (int)get_global_id(0);
    if (t < (int)tuples) {
        atomic_max(&bids[slice_of(indices + t * depth, depth, lengths, strides, fault, code)], t);
    }
}

__kernel void scatter_nd(__global const ELEMENT *updates, __global const long *indices, __global const int *bids,
                         __global ELEMENT *target, __global long *fault, int code, uint count, int run,
                         uint run_magic, uint run_shift, int depth, int8 lengths, int8 strides) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const int t = (int)divide(id, run_magic, run_shift);
    const int slice = slice_of(indices + t * depth, depth, lengths, strides, fault, code);
    if (bids[slice] == t) {
        target[slice * run + (int)id - t * run] = updates[id];
    }
}

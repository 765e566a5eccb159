// OneHot: target[o, d, e] = indices[o, e] == d ? values[1] : values[0]. Indices out of range are hot nowhere.
//
//   ELEMENT  unsigned type of the element's size
//   INDEX    int or long

#ifndef ELEMENT
#define ELEMENT uint
#endif
#ifndef INDEX
#define INDEX long
#endif

__kernel void one_hot(__global const INDEX *indices, __global const ELEMENT *values, __global ELEMENT *target,
                      uint count, int inner, uint inner_magic, uint inner_shift, int depth, uint depth_magic,
                      uint depth_shift) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint line = divide(id, inner_magic, inner_shift);
    const int e = (int)id - (int)line * inner;
    const int o = (int)divide(line, depth_magic, depth_shift);
    const int d = (int)line - o * depth;
    const INDEX index = indices[o * inner + e];
    target[id] = values[index == d || index == (INDEX)d - depth];
}

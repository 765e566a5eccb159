// Resize, one axis at a time: the tensor is [outer, axis, inner]; tables name the elements to take on the axis.
//
//   ELEMENT  what one work-item of `take_nearest` moves; runs of the inner extent are moved in wide elements

#ifndef ELEMENT
#define ELEMENT uint
#endif

// target[o, i, e] = source[o, indices[i], e]
__kernel void take_nearest(__global const ELEMENT *source, __global ELEMENT *target, __global const int *indices,
                           uint count, int inner, uint inner_magic, uint inner_shift, int resized,
                           uint resized_magic, uint resized_shift, int length) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint line = divide(id, inner_magic, inner_shift);
    const int e = (int)id - (int)line * inner;
    const int o = (int)divide(line, resized_magic, resized_shift);
    const int i = (int)line - o * resized;
    target[id] = source[(o * length + indices[i]) * inner + e];
}

// target[o, i, e] = sum over taps t of weights[i, t] * source[o, indices[i, t], e]
__kernel void blend(__global const float *source, __global float *target, __global const int *indices, uint count,
                    int inner, uint inner_magic, uint inner_shift, int resized, uint resized_magic,
                    uint resized_shift, int length, __global const float *weights, int taps) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint line = divide(id, inner_magic, inner_shift);
    const int e = (int)id - (int)line * inner;
    const int o = (int)divide(line, resized_magic, resized_shift);
    const int i = (int)line - o * resized;
    float sum = 0.0f;
    for (int t = i * taps; t < (i + 1) * taps; ++t) {
        sum += weights[t] * source[(o * length + indices[t]) * inner + e];
    }
    target[id] = sum;
}

// Repacks weights for convolve_implicit, where they are not constant: repacked[group][tap][in][out] from
// W[group][out][in][tap], `in` padded with zeros to a multiple of 16 and `out` to one of 4, so that the convolution reads
// them without a check.
__kernel void repack_weights(__global const float *weights, __global float *repacked,
                             const int4 shape /* groups, out, in, taps */) {
    const int out = get_global_id(0), in = get_global_id(1), z = get_global_id(2);
    const int outs = (shape.y + 3) / 4 * 4, ins = (shape.z + 15) / 16 * 16;
    if (out >= outs || in >= ins) {
        return;
    }
    const int group = z / shape.w, tap = z - group * shape.w;
    const bool padding = out >= shape.y || in >= shape.z;
    repacked[((size_t)z * ins + in) * outs + out] =
        padding ? 0.0f : weights[(((size_t)group * shape.y + out) * shape.z + in) * shape.w + tap];
}

// Transposed convolution of any shape, as a gather: a work-item computes 8 output channels of one pixel, from every tap
// that some input element would have scattered there. Up to three spatial axes.

// Input place that tap t of a window scatters to output o: (o + before - t * dilation) / stride where that is whole and
// inside, else -1.
inline int source(int o, int t, int stride, int dilation, int before, int extent) {
    const int at = o + before - t * dilation;
    const int place = at / stride;
    return at < 0 || place * stride != at || place >= extent ? -1 : place;
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void convolve_transposed(
    __global const float *restrict x, __global const float *restrict weights, __global float *restrict y,
    __global const float *bias, const int4 channels /* groups, out per group, in per group, has bias */,
    const int4 input /* D, H, W, - */, const int4 output /* D, H, W, - */, const int4 window /* D, H, W, taps */,
    const int4 stride, const int4 dilation, const int4 before) {
    const int rows = channels.y, depth = channels.z;
    const int pixels = output.x * output.y * output.z, in_plane = input.x * input.y * input.z;
    const int pixel = get_global_id(0), row = get_group_id(1) * 8, z = get_group_id(2);
    const int group = z % channels.x;
    if (pixel >= pixels) {
        return;
    }
    const int out_w = pixel % output.z, rest = pixel / output.z;
    const int out_h = rest % output.y, out_d = rest / output.y;
    __global const float *from = x + (size_t)z * depth * in_plane;
    // W[in][out][tap]; rows beyond the last repeat it, and what they sum is not stored.
    const int last = rows - 1 - row;
    __global const float *w0 = weights + ((size_t)group * depth * rows + row) * window.w;
#define ROW_POINTER(i) __global const float *w##i = w0 + min(i, last) * window.w;
    ROW_POINTER(1) ROW_POINTER(2) ROW_POINTER(3) ROW_POINTER(4) ROW_POINTER(5) ROW_POINTER(6) ROW_POINTER(7)
    float4 low = (float4)(0.0f), high = (float4)(0.0f);
    if (channels.w) {
#define BIAS(i) bias[group * rows + row + min(i, last)]
        low = (float4)(BIAS(0), BIAS(1), BIAS(2), BIAS(3));
        high = (float4)(BIAS(4), BIAS(5), BIAS(6), BIAS(7));
    }
    for (int td = 0; td < window.x; td++) {
        const int d = source(out_d, td, stride.x, dilation.x, before.x, input.x);
        for (int th = 0; th < window.y && d >= 0; th++) {
            const int h = source(out_h, th, stride.y, dilation.y, before.y, input.y);
            for (int tw = 0; tw < window.z && h >= 0; tw++) {
                const int w = source(out_w, tw, stride.z, dilation.z, before.z, input.z);
                if (w < 0) {
                    continue;
                }
                const int at = (d * input.y + h) * input.z + w;
                size_t k = (td * window.y + th) * window.z + tw;
                for (int c = 0; c < depth; c++) {
                    const float value = from[(size_t)c * in_plane + at];
                    low += value * (float4)(w0[k], w1[k], w2[k], w3[k]);
                    high += value * (float4)(w4[k], w5[k], w6[k], w7[k]);
                    k += (size_t)rows * window.w;
                }
            }
        }
    }
    const size_t out = ((size_t)z * rows + row) * pixels + pixel;
#define STORE_ROW(i, v)                                                                                      \
    if (i <= last) y[out + (size_t)(i) * pixels] = v;
    STORE_ROW(0, low.x)
    STORE_ROW(1, low.y)
    STORE_ROW(2, low.z)
    STORE_ROW(3, low.w)
    STORE_ROW(4, high.x)
    STORE_ROW(5, high.y)
    STORE_ROW(6, high.z)
    STORE_ROW(7, high.w)
}

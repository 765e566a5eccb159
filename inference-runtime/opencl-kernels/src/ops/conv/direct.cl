// Convolution of any shape for GPUs (and the fallback elsewhere): no tiles, no local memory, up to three spatial axes.
//
//   convolve_direct   a work-item computes 8 output channels of one pixel: one element of X serves 8 sums, and the
//                     weights are the same for all items of a work-group. Few input channels, as in a first layer.
//   convolve_single   a work-item computes one output. Depthwise and other tiny groups.

#define FLAG_BIAS 1
#define FLAG_RESIDUAL 2

#define CONV_ARGUMENTS                                                                                       \
    __global const float *restrict x, __global const float *restrict weights, __global float *restrict y,    \
        __global const float *bias, __global const float *residual,                                          \
        const int4 channels /* groups, out per group, in per group, flags */, const int4 input /* D, H, W, - */, \
        const int4 output /* D, H, W, - */, const int4 window /* D, H, W, taps */, const int4 stride,         \
        const int4 dilation, const int4 before, const float act_p, const float act_q

// For every tap inside the input and every input channel of the group: DO(offset in weights, offset in X).
#define EACH_TAP(DO)                                                                                         \
    for (int td = 0; td < window.x; td++) {                                                                  \
        const int d = out_d * stride.x + td * dilation.x - before.x;                                         \
        for (int th = 0; th < window.y; th++) {                                                              \
            const int h = out_h * stride.y + th * dilation.y - before.y;                                     \
            for (int tw = 0; tw < window.z; tw++) {                                                          \
                const int w = out_w * stride.z + tw * dilation.z - before.z;                                 \
                if (d < 0 || d >= input.x || h < 0 || h >= input.y || w < 0 || w >= input.z) {               \
                    continue;                                                                                \
                }                                                                                            \
                const int tap = (td * window.y + th) * window.z + tw;                                        \
                const int at = (d * input.y + h) * input.z + w;                                              \
                for (int c = 0; c < depth; c++) {                                                            \
                    DO((size_t)c * window.w + tap, (size_t)c * in_plane + at)                                \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void convolve_direct(CONV_ARGUMENTS) {
    const int rows = channels.y, depth = channels.z, flags = channels.w;
    const int pixels = output.x * output.y * output.z, in_plane = input.x * input.y * input.z;
    const int pixel = get_global_id(0), row = get_group_id(1) * 8, z = get_group_id(2);
    const int group = z % channels.x;
    if (pixel >= pixels) {
        return;
    }
    const int out_w = pixel % output.z, rest = pixel / output.z;
    const int out_h = rest % output.y, out_d = rest / output.y;
    __global const float *from = x + (size_t)z * depth * in_plane;
    // Rows beyond the last repeat it; what they sum is not stored.
    const size_t row_stride = (size_t)depth * window.w;
    __global const float *w0 = weights + ((size_t)group * rows + row) * row_stride;
#define ROW_POINTER(i) __global const float *w##i = w0 + min(i, rows - 1 - row) * row_stride;
    ROW_POINTER(1) ROW_POINTER(2) ROW_POINTER(3) ROW_POINTER(4) ROW_POINTER(5) ROW_POINTER(6) ROW_POINTER(7)
    float4 low = (float4)(0.0f), high = (float4)(0.0f);
#define ADD_ROWS(k, place)                                                                                   \
    const float value = from[place];                                                                         \
    low += value * (float4)(w0[k], w1[k], w2[k], w3[k]);                                                     \
    high += value * (float4)(w4[k], w5[k], w6[k], w7[k]);
    EACH_TAP(ADD_ROWS)

    const size_t out = ((size_t)z * rows + row) * pixels + pixel;
    const int bias_row = group * rows + row, last = rows - 1 - row;
    if (flags & FLAG_BIAS) {
#define BIAS(i) bias[bias_row + min(i, last)]
        low += (float4)(BIAS(0), BIAS(1), BIAS(2), BIAS(3));
        high += (float4)(BIAS(4), BIAS(5), BIAS(6), BIAS(7));
    }
    if (flags & FLAG_RESIDUAL) {
#define RESIDUAL(i) residual[out + (size_t)min(i, last) * pixels]
        low += (float4)(RESIDUAL(0), RESIDUAL(1), RESIDUAL(2), RESIDUAL(3));
        high += (float4)(RESIDUAL(4), RESIDUAL(5), RESIDUAL(6), RESIDUAL(7));
    }
    low = activate(low, act_p, act_q);
    high = activate(high, act_p, act_q);
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

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void convolve_single(CONV_ARGUMENTS) {
    const int rows = channels.y, depth = channels.z, flags = channels.w;
    const int pixels = output.x * output.y * output.z, in_plane = input.x * input.y * input.z;
    const int pixel = get_global_id(0), row = get_group_id(1), z = get_group_id(2);
    const int channel = (z % channels.x) * rows + row;
    if (pixel >= pixels) {
        return;
    }
    const int out_w = pixel % output.z, rest = pixel / output.z;
    const int out_h = rest % output.y, out_d = rest / output.y;
    __global const float *from = x + (size_t)z * depth * in_plane;
    __global const float *factors = weights + (size_t)channel * depth * window.w;
    float sum = flags & FLAG_BIAS ? bias[channel] : 0.0f;
#define ADD_ONE(k, place) sum += from[place] * factors[k];
    EACH_TAP(ADD_ONE)
    const size_t out = ((size_t)z * rows + row) * pixels + pixel;
    if (flags & FLAG_RESIDUAL) {
        sum += residual[out];
    }
    y[out] = activate((float4)(sum), act_p, act_q).x;
}

// Convolution for CPU runtimes, second step: for every tap and channel, a row of weights times a shifted row of the
// placed input (phases.cl). One work-item computes 8 output channels x 32 places of the grid (block.cl).
//
// The grid is the placed input's rows laid end to end, so a tap's 32 places are contiguous whatever the width. Places
// behind a row's last output are computed and dropped.

// Most taps a window may have here; larger ones use direct.cl.
#define MOST_TAPS 128

#define CONV_ARGUMENTS                                                                                       \
    __global const float *restrict x, __global const float *restrict weights, __global float *restrict y,    \
        __global const float *bias, __global const float *residual,                                          \
        const int4 channels /* groups, out per group, in per group, flags */, const int4 window /* D, H, W, taps */, \
        const int4 stride, const int4 dilation, const int4 phases, const int4 grid /* D, H, W, places */,     \
        const int4 output /* D, H, W, - */, const float act_p, const float act_q

#define FLAG_BIAS 1
#define FLAG_RESIDUAL 2

// Shift of tap t within one channel of the placed input.
inline int tap_shift(int t, int4 window, int4 stride, int4 dilation, int4 phases, int4 grid) {
    const int w = (t % window.z) * dilation.z;
    t /= window.z;
    const int h = (t % window.y) * dilation.y, d = (t / window.y) * dilation.x;
    const int phase = ((d % stride.x) * phases.y + h % stride.y) * phases.z + w % stride.z;
    return ((phase * grid.x + d / stride.x) * grid.y + h / stride.y) * grid.z + w / stride.z;
}

__kernel void convolve_taps(CONV_ARGUMENTS) {
    const int block = get_global_id(0), tile = get_global_id(1), z = get_global_id(2);
    const int groups = channels.x, rows = channels.y, depth = channels.z, flags = channels.w;
    const int row = block * BLOCK_ROWS, first = tile * BLOCK_COLUMNS;
    if (row >= rows || first >= grid.w) {
        return;
    }
    const int image = z / groups, group = z - image * groups;
    const int taps = window.w, phase_planes = phases.x * phases.y * phases.z;
    const size_t channel = (size_t)phase_planes * grid.x * grid.y * grid.z;
    int shifts[MOST_TAPS];
    for (int t = 0; t < taps; t++) {
        shifts[t] = tap_shift(t, window, stride, dilation, phases, grid);
    }

    const size_t row_stride = (size_t)depth * taps;
    __global const float *left = weights + (size_t)group * rows * row_stride;
    __global const float *right = x + (size_t)z * depth * channel + first;
    EACH_BLOCK_ROW(BLOCK_ROW_POINTER)
    EACH_BLOCK_ROW(BLOCK_SUMS)
    size_t k = 0;
    for (int c = 0; c < depth; c++) {
        for (int t = 0; t < taps; t++) {
            BLOCK_STEP(k, right + shifts[t])
            k++;
        }
        right += channel;
    }

    // Where each place goes in its output plane; -1 for places that are no output.
    const int pixels = output.x * output.y * output.z;
    int where[BLOCK_COLUMNS];
    bool whole_low = true, whole_high = true;
    int w = first % grid.z, h = (first / grid.z) % grid.y, d = first / (grid.z * grid.y);
    for (int i = 0; i < BLOCK_COLUMNS; i++) {
        const bool is_output = d < output.x && h < output.y && w < output.z;
        where[i] = is_output ? (d * output.y + h) * output.z + w : -1;
        if (i < 16) {
            whole_low = whole_low && is_output && where[i] == where[0] + i;
        } else {
            whole_high = whole_high && is_output && where[i] == where[16] + i - 16;
        }
        if (++w == grid.z) {
            w = 0;
            if (++h == grid.y) {
                h = 0;
                d++;
            }
        }
    }
    const size_t plane0 = ((size_t)z * rows + row) * pixels;
#define STORE_HALF(i, sum, whole, at)                                                                        \
    {                                                                                                        \
        const size_t plane = plane0 + (size_t)(i) * pixels;                                                  \
        float16 v = sum + shift;                                                                             \
        if (whole) {                                                                                         \
            if (flags & FLAG_RESIDUAL) {                                                                     \
                v += vload16(0, residual + plane + where[at]);                                               \
            }                                                                                                \
            vstore16(activate(v, act_p, act_q), 0, y + plane + where[at]);                                   \
        } else {                                                                                             \
            float lanes[16];                                                                                 \
            vstore16(v, 0, lanes);                                                                           \
            if (flags & FLAG_RESIDUAL) {                                                                     \
                for (int j = 0; j < 16; j++) {                                                               \
                    lanes[j] += where[(at) + j] >= 0 ? residual[plane + where[(at) + j]] : 0.0f;             \
                }                                                                                            \
            }                                                                                                \
            vstore16(activate(vload16(0, lanes), act_p, act_q), 0, lanes);                                   \
            for (int j = 0; j < 16; j++) {                                                                   \
                if (where[(at) + j] >= 0) {                                                                  \
                    y[plane + where[(at) + j]] = lanes[j];                                                   \
                }                                                                                            \
            }                                                                                                \
        }                                                                                                    \
    }
#define STORE_ROW(i)                                                                                         \
    if (row + i < rows) {                                                                                    \
        const float shift = flags & FLAG_BIAS ? bias[group * rows + row + i] : 0.0f;                         \
        STORE_HALF(i, low##i, whole_low, 0)                                                                  \
        STORE_HALF(i, high##i, whole_high, 16)                                                               \
    }
    EACH_BLOCK_ROW(STORE_ROW)
}

// One channel in per group: a work-item computes one row of one output channel, 16 outputs at a time.
__kernel void convolve_taps_depthwise(CONV_ARGUMENTS) {
    const int row = get_global_id(0), channel = get_global_id(1), image = get_global_id(2);
    const int groups = channels.x, per_group = channels.y, flags = channels.w;
    if (row >= output.x * output.y) {
        return;
    }
    const int d = row / output.y, h = row - d * output.y;
    const int taps = window.w, phase_planes = phases.x * phases.y * phases.z;
    const size_t plane = (size_t)phase_planes * grid.x * grid.y * grid.z;
    int shifts[MOST_TAPS];
    for (int t = 0; t < taps; t++) {
        shifts[t] = tap_shift(t, window, stride, dilation, phases, grid);
    }
    __global const float *from =
        x + ((size_t)image * groups + channel / per_group) * plane + (size_t)(d * grid.y + h) * grid.z;
    __global const float *factors = weights + (size_t)channel * taps;
    const size_t at = (((size_t)image * groups * per_group + channel) * output.x * output.y + row) * output.z;
    const float shift = flags & FLAG_BIAS ? bias[channel] : 0.0f;
    for (int w = 0; w < output.z; w += 16) {
        float16 sum = (float16)(shift);
        for (int t = 0; t < taps; t++) {
            sum += factors[t] * vload16(0, from + shifts[t] + w);
        }
        if (flags & FLAG_RESIDUAL) {
            sum += load_lanes(residual + at + w, 1, output.z - w);
        }
        store_lanes(activate(sum, act_p, act_q), y + at + w, output.z - w);
    }
}

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

// Shift of every tap within one channel of the placed input: phase and quotient along each axis, counted up rather than
// divided out, since a work-item has little else to do.
inline void tap_shifts(int *shifts, int4 window, int4 stride, int4 dilation, int4 phases, int4 grid) {
    int t = 0;
    for (int i = 0, phase_d = 0, d = 0; i < window.x; i++) {
        for (int j = 0, phase_h = 0, h = 0; j < window.y; j++) {
            for (int k = 0, phase_w = 0, w = 0; k < window.z; k++) {
                const int phase = (phase_d * phases.y + phase_h) * phases.z + phase_w;
                shifts[t++] = ((phase * grid.x + d) * grid.y + h) * grid.z + w;
                for (phase_w += dilation.z; phase_w >= stride.z; phase_w -= stride.z) {
                    w++;
                }
            }
            for (phase_h += dilation.y; phase_h >= stride.y; phase_h -= stride.y) {
                h++;
            }
        }
        for (phase_d += dilation.x; phase_d >= stride.x; phase_d -= stride.x) {
            d++;
        }
    }
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
    tap_shifts(shifts, window, stride, dilation, phases, grid);

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

// One channel in per group: a work-item computes an output plane, 16 outputs of a row at a time.
__kernel void convolve_taps_depthwise(CONV_ARGUMENTS) {
    const int channel = get_global_id(0), image = get_global_id(1);
    const int groups = channels.x, per_group = channels.y, flags = channels.w;
    if (channel >= groups * per_group) {
        return;
    }
    const int taps = window.w, phase_planes = phases.x * phases.y * phases.z;
    const size_t plane = (size_t)phase_planes * grid.x * grid.y * grid.z;
    int shifts[MOST_TAPS];
    tap_shifts(shifts, window, stride, dilation, phases, grid);
    __global const float *from = x + ((size_t)image * groups + channel / per_group) * plane;
    __global const float *factors = weights + (size_t)channel * taps;
    const float shift = flags & FLAG_BIAS ? bias[channel] : 0.0f;
    size_t at = ((size_t)image * groups * per_group + channel) * output.x * output.y * output.z;
    for (int d = 0; d < output.x; d++) {
        for (int h = 0; h < output.y; h++) {
            __global const float *row = from + (size_t)(d * grid.y + h) * grid.z;
            for (int w = 0; w < output.z; w += 16) {
                float16 sum = (float16)(shift);
                for (int t = 0; t < taps; t++) {
                    sum += factors[t] * vload16(0, row + shifts[t] + w);
                }
                if (flags & FLAG_RESIDUAL) {
                    sum += load_lanes(residual + at + w, 1, output.z - w);
                }
                store_lanes(activate(sum, act_p, act_q), y + at + w, output.z - w);
            }
            at += output.z;
        }
    }
}

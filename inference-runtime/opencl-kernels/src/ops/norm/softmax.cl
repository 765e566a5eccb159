// Softmax over rows: y = e^s / sum(e^s), s = scale x + mask, with the row's maximum subtracted from s first.
// Comes after axes.cl and group.cl.
//
//   LOG    y = s - log(sum(e^s)) instead
//   MASK   there is a mask; it broadcasts to x, and lies row by row where `locate` says
//
// A row with a NaN, with +inf or with nothing but -inf becomes NaN, as the formula has it. The exponents are at most
// 0, where the error of native_exp is below 3e-8.

#ifdef MASK
#define SCORE(i) (x[i] * scale + mask[(i) * mask_step])
#define SCORE_8(i) (vload8(0, x + (i)) * scale + (mask_step ? vload8(0, mask + (i)) : (float8)(mask[0])))
#else
#define SCORE(i) (x[i] * scale)
#define SCORE_8(i) (vload8(0, x + (i)) * scale)
#endif

#define ARGUMENTS                                                                                                      \
    __global float *y, __global const float *x, __global const float *mask, int n, float scale, int mask_step,         \
        int inner, int8 extents, int8 magics, int8 shifts, int8 mask_strides

#define TO_ROW(row)                                                                                                    \
    x += (size_t)(row)*n;                                                                                              \
    y += (size_t)(row)*n;                                                                                              \
    mask += locate((uint)(row), inner, extents, magics, shifts, mask_strides);

// One work-group per row.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void softmax_group(ARGUMENTS) {
    __local float partial[GROUP];
    const int lane = (int)get_local_id(0);
    TO_ROW(get_group_id(0))

    float largest = -INFINITY;
    for (int i = lane; i < n; i += GROUP) {
        const float s = SCORE(i);
        largest = s > largest ? s : largest;
    }
    largest = group_max(largest, partial, lane);

    float sum = 0.0f;
    for (int i = lane; i < n; i += GROUP) {
        sum += native_exp(SCORE(i) - largest);
    }
    sum = group_sum(sum, partial, lane);

#ifdef LOG
    const float offset = log(sum);
    for (int i = lane; i < n; i += GROUP) {
        y[i] = SCORE(i) - largest - offset;
    }
#else
    const float factor = 1.0f / sum;
    for (int i = lane; i < n; i += GROUP) {
        y[i] = native_exp(SCORE(i) - largest) * factor;
    }
#endif
}

// One work-item per row, in vectors: for devices without lanes to spare.
__kernel void softmax_serial(ARGUMENTS) {
    TO_ROW(get_global_id(0))
    const int whole = n & ~7;

    float8 largest_8 = (float8)(-INFINITY);
    for (int i = 0; i < whole; i += 8) {
        const float8 s = SCORE_8(i);
        largest_8 = s > largest_8 ? s : largest_8;
    }
    float largest = largest_lane(largest_8);
    for (int i = whole; i < n; i++) {
        const float s = SCORE(i);
        largest = s > largest ? s : largest;
    }

    // Blocks, so that a long row's sum does not swallow its small terms.
    float sum = 0.0f;
    for (int block = 0; block < whole; block += 256) {
        const int end = block + 256 < whole ? block + 256 : whole;
        float8 part = (float8)(0.0f);
        for (int i = block; i < end; i += 8) {
            const float8 e = exp(SCORE_8(i) - largest);
#ifndef LOG
            vstore8(e, 0, y + i);
#endif
            part += e;
        }
        sum += sum_of_lanes(part);
    }
    for (int i = whole; i < n; i++) {
        const float e = exp(SCORE(i) - largest);
#ifndef LOG
        y[i] = e;
#endif
        sum += e;
    }

#ifdef LOG
    const float offset = log(sum);
    for (int i = 0; i < whole; i += 8) {
        vstore8(SCORE_8(i) - largest - offset, 0, y + i);
    }
    for (int i = whole; i < n; i++) {
        y[i] = SCORE(i) - largest - offset;
    }
#else
    const float factor = 1.0f / sum;
    for (int i = 0; i < whole; i += 8) {
        vstore8(vload8(0, y + i) * factor, 0, y + i);
    }
    for (int i = whole; i < n; i++) {
        y[i] *= factor;
    }
#endif
}

// Softmax over an axis with `stride` elements behind it: one work-item per column, neighbours side by side.
__kernel void softmax_columns(__global float *y, __global const float *x, uint columns, int n, int stride) {
    const uint column = (uint)get_global_id(0);
    if (column >= columns) {
        return;
    }
    const uint outer = column / (uint)stride;
    const size_t start = (size_t)outer * n * stride + (column - outer * stride);
    x += start;
    y += start;

    float largest = -INFINITY;
    for (int i = 0; i < n; i++) {
        const float s = x[i * stride];
        largest = s > largest ? s : largest;
    }
    float sum = 0.0f;
    for (int block = 0; block < n; block += 64) {
        const int end = block + 64 < n ? block + 64 : n;
        float part = 0.0f;
        for (int i = block; i < end; i++) {
            part += native_exp(x[i * stride] - largest);
        }
        sum += part;
    }
#ifdef LOG
    const float offset = log(sum);
    for (int i = 0; i < n; i++) {
        y[i * stride] = x[i * stride] - largest - offset;
    }
#else
    const float factor = 1.0f / sum;
    for (int i = 0; i < n; i++) {
        y[i * stride] = native_exp(x[i * stride] - largest) * factor;
    }
#endif
}

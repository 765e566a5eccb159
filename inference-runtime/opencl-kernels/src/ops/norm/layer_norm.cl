// Brings every row to zero mean and unit variance: y = (v - mean) / sqrt(variance + epsilon) * scale + bias.
// Comes after group.cl.
//
//   SKIP         v = x + residual, otherwise v = x
//   KEEP_SUM     v goes to `sum`
//   RMS          y = v / sqrt(mean(v^2) + epsilon) * scale + bias: the mean is not subtracted
//   AFFINE       there is a scale, as long as a row
//   BIAS         there is a bias, as long as a row
//   STATISTICS   each row's mean and 1 / sqrt(variance + epsilon) go to `means` and `inverses`
//
// The variance is taken around the mean in a second pass: sum(v^2) - n mean^2 cancels.

#ifdef SKIP
#define VALUE(i) (x[i] + residual[i])
#define VALUE_8(i) (vload8(0, x + (i)) + vload8(0, residual + (i)))
#else
#define VALUE(i) (x[i])
#define VALUE_8(i) (vload8(0, x + (i)))
#endif

#ifdef AFFINE
#define SCALED(v, i) ((v)*scale[i])
#define SCALED_8(v, i) ((v)*vload8(0, scale + (i)))
#else
#define SCALED(v, i) (v)
#define SCALED_8(v, i) (v)
#endif

#ifdef BIAS
#define SHIFTED(v, i) ((v) + bias[i])
#define SHIFTED_8(v, i) ((v) + vload8(0, bias + (i)))
#else
#define SHIFTED(v, i) (v)
#define SHIFTED_8(v, i) (v)
#endif

#define ARGUMENTS                                                                                                      \
    __global float *y, __global float *sum, __global float *means, __global float *inverses, __global const float *x,  \
        __global const float *residual, __global const float *scale, __global const float *bias, int n, float epsilon

#define TO_ROW(row)                                                                                                    \
    x += (size_t)(row)*n;                                                                                              \
    y += (size_t)(row)*n;                                                                                              \
    residual += (size_t)(row)*n;                                                                                       \
    sum += (size_t)(row)*n;

// One work-group per row.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void layer_norm_group(ARGUMENTS) {
    __local float partial[GROUP];
    const int lane = (int)get_local_id(0);
    const size_t row = get_group_id(0);
    TO_ROW(row)

    float mean = 0.0f;
#ifndef RMS
    for (int i = lane; i < n; i += GROUP) {
        mean += VALUE(i);
    }
    mean = group_sum(mean, partial, lane) / n;
#endif

    float variance = 0.0f;
    for (int i = lane; i < n; i += GROUP) {
        const float centred = VALUE(i) - mean;
        variance += centred * centred;
    }
    variance = group_sum(variance, partial, lane) / n;

    const float inverse = 1.0f / sqrt(variance + epsilon);
    for (int i = lane; i < n; i += GROUP) {
        const float v = VALUE(i);
        y[i] = SHIFTED(SCALED((v - mean) * inverse, i), i);
#ifdef KEEP_SUM
        sum[i] = v;
#endif
    }
#ifdef STATISTICS
    if (lane == 0) {
        means[row] = mean;
        inverses[row] = inverse;
    }
#endif
}

// One work-item per row, in vectors: for devices without lanes to spare. Sums go by blocks, so that a long row's sum
// does not swallow its small terms.
#define BLOCK 256

__kernel void layer_norm_serial(ARGUMENTS) {
    const size_t row = get_global_id(0);
    TO_ROW(row)
    const int whole = n & ~7;

    float mean = 0.0f;
#ifndef RMS
    for (int block = 0; block < whole; block += BLOCK) {
        const int end = block + BLOCK < whole ? block + BLOCK : whole;
        float8 part = (float8)(0.0f);
        for (int i = block; i < end; i += 8) {
            part += VALUE_8(i);
        }
        mean += sum_of_lanes(part);
    }
    for (int i = whole; i < n; i++) {
        mean += VALUE(i);
    }
    mean /= n;
#endif

    float variance = 0.0f;
    for (int block = 0; block < whole; block += BLOCK) {
        const int end = block + BLOCK < whole ? block + BLOCK : whole;
        float8 part = (float8)(0.0f);
        for (int i = block; i < end; i += 8) {
            const float8 centred = VALUE_8(i) - mean;
            part += centred * centred;
        }
        variance += sum_of_lanes(part);
    }
    for (int i = whole; i < n; i++) {
        const float centred = VALUE(i) - mean;
        variance += centred * centred;
    }
    variance /= n;

    const float inverse = 1.0f / sqrt(variance + epsilon);
    for (int i = 0; i < whole; i += 8) {
        const float8 v = VALUE_8(i);
        vstore8(SHIFTED_8(SCALED_8((v - mean) * inverse, i), i), 0, y + i);
#ifdef KEEP_SUM
        vstore8(v, 0, sum + i);
#endif
    }
    for (int i = whole; i < n; i++) {
        const float v = VALUE(i);
        y[i] = SHIFTED(SCALED((v - mean) * inverse, i), i);
#ifdef KEEP_SUM
        sum[i] = v;
#endif
    }
#ifdef STATISTICS
    means[row] = mean;
    inverses[row] = inverse;
#endif
}

// Brings every group of channels of every image to zero mean and unit variance, then scales and shifts it:
//
//   y[i] = (x[i] - mean) / sqrt(variance + epsilon) * scale[k] + bias[k],   k = first + i / span
//
// A group is n elements in a row; every `span` of them share a parameter, of which it has `parameters`; groups repeat
// after `groups` of them. Comes after group.cl.

#define ARGUMENTS                                                                                                      \
    __global float *y, __global const float *x, __global const float *scale, __global const float *bias, int n,        \
        int groups, int parameters, int span, uint magic, uint shift, float epsilon

#define TO_GROUP(at)                                                                                                   \
    x += (size_t)(at)*n;                                                                                               \
    y += (size_t)(at)*n;                                                                                               \
    scale += (int)((at) % (size_t)groups) * parameters;                                                                \
    bias += (int)((at) % (size_t)groups) * parameters;

// One work-group per group.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void group_norm_group(ARGUMENTS) {
    __local float partial[GROUP];
    const int lane = (int)get_local_id(0);
    TO_GROUP(get_group_id(0))

    float mean = 0.0f;
    for (int i = lane; i < n; i += GROUP) {
        mean += x[i];
    }
    mean = group_sum(mean, partial, lane) / n;
    float variance = 0.0f;
    for (int i = lane; i < n; i += GROUP) {
        const float centred = x[i] - mean;
        variance += centred * centred;
    }
    variance = group_sum(variance, partial, lane) / n;

    const float inverse = 1.0f / sqrt(variance + epsilon);
    for (int i = lane; i < n; i += GROUP) {
        const uint k = divide((uint)i, magic, shift);
        y[i] = (x[i] - mean) * inverse * scale[k] + bias[k];
    }
}

// One work-item per group, in vectors. Sums go by blocks, so that a long sum does not swallow its small terms.
#define BLOCK 256

__kernel void group_norm_serial(ARGUMENTS) {
    TO_GROUP(get_global_id(0))
    const int whole = n & ~7;

    float mean = 0.0f;
    for (int block = 0; block < whole; block += BLOCK) {
        const int end = block + BLOCK < whole ? block + BLOCK : whole;
        float8 part = (float8)(0.0f);
        for (int i = block; i < end; i += 8) {
            part += vload8(0, x + i);
        }
        mean += sum_of_lanes(part);
    }
    for (int i = whole; i < n; i++) {
        mean += x[i];
    }
    mean /= n;

    float variance = 0.0f;
    for (int block = 0; block < whole; block += BLOCK) {
        const int end = block + BLOCK < whole ? block + BLOCK : whole;
        float8 part = (float8)(0.0f);
        for (int i = block; i < end; i += 8) {
            const float8 centred = vload8(0, x + i) - mean;
            part += centred * centred;
        }
        variance += sum_of_lanes(part);
    }
    for (int i = whole; i < n; i++) {
        const float centred = x[i] - mean;
        variance += centred * centred;
    }
    variance /= n;

    const float inverse = 1.0f / sqrt(variance + epsilon);
    for (int k = 0; k < parameters; k++) {
        const float factor = inverse * scale[k];
        const float offset = bias[k];
        for (int i = 0; i < span; i++) {
            y[k * span + i] = (x[k * span + i] - mean) * factor + offset;
        }
    }
}

// y = x * factor + shift with a factor and a shift per channel. Comes before broadcast.cl.

#define FIRST float
#define SECOND float
#define THIRD float
#define RESULT float

inline float apply(float a, float b, float c, float p, float q) {
    return a * b + c;
}

// Batch normalization's factor and shift: what is left of four numbers per channel.
__kernel void fold_statistics(__global float *factor, __global float *shift, __global const float *scale,
                              __global const float *bias, __global const float *mean, __global const float *variance,
                              int channels, float epsilon) {
    const int c = (int)get_global_id(0);
    if (c < channels) {
        const float f = scale[c] / sqrt(variance[c] + epsilon);
        factor[c] = f;
        shift[c] = bias[c] - mean[c] * f;
    }
}

// Arguments of every product kernel, in this order (product.rs fills them in):
//
//   C[z] = act(alpha * A[z] B[z] + beta * bias[z] + residual[z])      C dense, row-major: z, row, column
//
//   shape    M, N, K, flags (FLAG_*), A's row and column stride, B's row and column stride (elements)
//   addends  bias' row and column stride, the residual's row and column stride; a column stride is 0 or 1
//   batch    extents of up to four batch axes, outermost first; then each operand's stride along them
//   base     first element of A, B, C, bias, residual; slices of k, steps per slice, batches
#define PRODUCT_ARGUMENTS                                                                                    \
    __global const float *restrict a, __global const float *restrict b, __global float *restrict c,          \
        __global const float *bias, __global const float *residual, const int8 shape, const int8 addends,    \
        const int4 batch, const int4 a_batch, const int4 b_batch, const int4 bias_batch,                     \
        const int4 residual_batch, const int8 base, const float alpha, const float beta, const float act_p,  \
        const float act_q

#define FLAG_BIAS 1
#define FLAG_RESIDUAL 2
// The panels kernel only: B is read where it lies, not from packed panels.
#define FLAG_IN_PLACE 4
// The panels kernel only: neighbouring work-groups share rows of A, not columns of B.
#define FLAG_COLUMNS_FIRST 8

inline size_t batch_offset(int z, int4 extents, int4 strides) {
    int w = z % extents.w;
    z /= extents.w;
    int y = z % extents.z;
    z /= extents.z;
    int x = z % extents.y;
    z /= extents.y;
    return (size_t)z * strides.x + (size_t)x * strides.y + (size_t)y * strides.z + (size_t)w * strides.w;
}

// LANES finished elements of one row, starting at `column`; `count` of them exist.
inline REAL finish(REAL sum, int row, int column, int count, __global const float *bias,
                   __global const float *residual, int8 addends, int flags, float alpha, float beta, float act_p,
                   float act_q) {
    REAL y = alpha * sum;
    if (flags & FLAG_BIAS) {
        size_t at = (size_t)row * addends.s0 + (size_t)column * addends.s1;
        y += beta * load_lanes(bias + at, addends.s1, count);
    }
    if (flags & FLAG_RESIDUAL) {
        size_t at = (size_t)row * addends.s2 + (size_t)column * addends.s3;
        y += load_lanes(residual + at, addends.s3, count);
    }
    return activate(y, act_p, act_q);
}

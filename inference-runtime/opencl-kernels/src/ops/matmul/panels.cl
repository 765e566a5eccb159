// Matrix product for CPU runtimes: one work-item computes 8 rows x 32 columns (block.cl).
//
// B is read in panels of 32 columns. Packed (pack.cl), panel p holds k * 32 + j for column 32 p + j, zero beyond the last
// column; the kernel walks it front to back. In place (FLAG_IN_PLACE, at least 32 contiguous columns), the last panel
// starts 32 columns before the end and leaves alone what its neighbour stores.

__kernel void multiply_panels(PRODUCT_ARGUMENTS) {
    const int M = shape.s0, N = shape.s1, K = shape.s2, flags = shape.s3;
    const bool columns_first = (flags & FLAG_COLUMNS_FIRST) != 0, in_place = (flags & FLAG_IN_PLACE) != 0;
    // PoCL 3.1 does not link a kernel that chooses the dimension inside get_global_id's parentheses.
    const int x = get_global_id(0), y = get_global_id(1);
    const int row = (columns_first ? y : x) * BLOCK_ROWS, panel = columns_first ? x : y;
    const int z = get_global_id(2);
    if (row >= M || panel * BLOCK_COLUMNS >= N) {
        return;
    }
    a += base.s0 + batch_offset(z, batch, a_batch);
    b += base.s1 + batch_offset(z, batch, b_batch);
    c += base.s2 + (size_t)z * M * N;
    bias += base.s3 + batch_offset(z, batch, bias_batch);
    residual += base.s4 + batch_offset(z, batch, residual_batch);

    const int column = in_place ? min(panel * BLOCK_COLUMNS, N - BLOCK_COLUMNS) : panel * BLOCK_COLUMNS;
    const int fresh = panel * BLOCK_COLUMNS - column;
    const int a_k = shape.s5, b_k = shape.s6;
    b += in_place ? (size_t)column : (size_t)panel * K * BLOCK_COLUMNS;

    __global const float *left = a;
    const int rows = M;
    const size_t row_stride = shape.s4;
    EACH_BLOCK_ROW(BLOCK_ROW_POINTER)
    EACH_BLOCK_ROW(BLOCK_SUMS)
    if (a_k == 1) {
        for (int k = 0; k < K; k++) {
            BLOCK_STEP(k, b)
            b += b_k;
        }
    } else {
        for (int k = 0; k < K; k++) {
            BLOCK_STEP((size_t)k * a_k, b)
            b += b_k;
        }
    }

#define STORE_HALF(i, sum, at)                                                                               \
    if ((at) < N) {                                                                                          \
        store_range(finish(sum, row + i, at, N - (at), bias, residual, addends, flags, alpha, beta, act_p,   \
                           act_q),                                                                           \
                    c + (size_t)(row + i) * N + (at), column + fresh - (at), N - (at));                      \
    }
#define STORE_ROW(i)                                                                                         \
    if (row + i < M) {                                                                                       \
        STORE_HALF(i, low##i, column)                                                                        \
        STORE_HALF(i, high##i, column + 16)                                                                  \
    }
    EACH_BLOCK_ROW(STORE_ROW)
}

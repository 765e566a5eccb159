// Matrix product of few rows (a batch-1 classifier, a decoder's step) for GPUs: bound by reading B once.
//
// A work-group of 256 computes 16 columns; 16 work-items share a column, each summing every 16th k, and add up in
// local memory. Neighbouring items walk B along its contiguous axis.

// Rows of A that one work-group multiplies with what it read of B: 1 or 8.
#ifndef ROWS
#define ROWS 8
#endif

#if ROWS == 1
#define EACH_ROW(DO) DO(0)
#else
#define EACH_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)
#endif

// One row's partial sums -> its finished columns. Each item leads to a REAL of which only x is used.
#define STORE_ROW(i)                                                                                         \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                            \
    partial[slice * 17 + lane] = sum##i;                                                                     \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                            \
    if (item < 16 && first_row + i < M && first_column + item < N) {                                         \
        float total = 0.0f;                                                                                  \
        for (int s = 0; s < 16; s++) {                                                                       \
            total += partial[s * 17 + item];                                                                 \
        }                                                                                                    \
        const int row = first_row + i, column = first_column + item;                                         \
        c[(size_t)row * N + column] = finish((REAL)(total), row, column, 1, bias, residual, addends, flags,  \
                                             alpha, beta, act_p, act_q)                                      \
                                          .x;                                                                \
    }

__kernel __attribute__((reqd_work_group_size(256, 1, 1))) void multiply_skinny(PRODUCT_ARGUMENTS) {
    // [slice of k][column], a pitch of 17 against bank conflicts.
    __local float partial[16 * 17];

    const int M = shape.s0, N = shape.s1, K = shape.s2, flags = shape.s3;
    const int item = get_local_id(0);
    const int first_row = get_group_id(1) * ROWS, first_column = get_group_id(0) * 16;
    const int z = get_group_id(2);
    a += base.s0 + batch_offset(z, batch, a_batch);
    b += base.s1 + batch_offset(z, batch, b_batch);
    c += base.s2 + (size_t)z * M * N;
    bias += base.s3 + batch_offset(z, batch, bias_batch);
    residual += base.s4 + batch_offset(z, batch, residual_batch);

    const bool along_k = shape.s6 == 1 && shape.s7 != 1;
    const int lane = along_k ? item >> 4 : item & 15, slice = along_k ? item & 15 : item >> 4;
    // Items beyond the last column or row repeat it; what they sum is not stored.
    b += (size_t)min(first_column + lane, N - 1) * shape.s7;
#define DECLARE_ROW(i)                                                                                       \
    float sum##i = 0.0f;                                                                                     \
    __global const float *row##i = a + (size_t)min(first_row + i, M - 1) * shape.s4;
    EACH_ROW(DECLARE_ROW)

    for (int k = slice; k < K; k += 16) {
        const float factor = b[(size_t)k * shape.s6];
        const size_t at = (size_t)k * shape.s5;
#define ADD_ROW(i) sum##i += row##i[at] * factor;
        EACH_ROW(ADD_ROW)
    }
    EACH_ROW(STORE_ROW)
}

// Matrix product for GPUs: a work-group of 256 computes a 64 x 64 tile of C, each work-item 4 x 4 of it.
//
//            k: 16 at a time                columns: 64
//          +----------------+        k +--------------------+
//     rows |  tile_a, by k  |       16 |       tile_b       |        item (tx, ty) holds rows 4 ty .. 4 ty + 3,
//      64  |                |          +--------------------+        columns 4 tx .. 4 tx + 3
//          +----------------+
//
// The next 16 k are fetched into registers while this 16 are multiplied. Either operand may be transposed: the four
// elements that an item fetches lie along whichever axis is contiguous.
//
// With more than one slice of k, a work-group sums one slice and stores the bare sums to C[slice][z][row][column];
// join.cl does the rest.

#define TILE 64
#define STEP 16
// Rows of 68 floats: still 16-byte aligned, and the transposing stores meet half the bank conflicts of 64.
#define PITCH 68

// Four elements `stride` apart, of which `count` exist; zero for the others.
inline float4 load_line(__global const float *p, int stride, int count) {
    float4 v = (float4)(0.0f);
    if (count > 0) v.x = p[0];
    if (count > 1) v.y = p[stride];
    if (count > 2) v.z = p[2 * stride];
    if (count > 3) v.w = p[3 * stride];
    return v;
}

__kernel __attribute__((reqd_work_group_size(256, 1, 1))) void multiply_tiled(PRODUCT_ARGUMENTS) {
    // As vectors, so that the compiler knows their alignment and reads them whole.
    __local float4 tile_a[STEP * PITCH / 4];
    __local float4 tile_b[STEP * PITCH / 4];
    __local float *scalars_a = (__local float *)tile_a, *scalars_b = (__local float *)tile_b;

    const int M = shape.s0, N = shape.s1, flags = shape.s3;
    const int item = get_local_id(0);
    const int first_row = get_group_id(1) * TILE, first_column = get_group_id(0) * TILE;
    // Counted down instead of divided: a quotient would live in vector registers, and with it all that follows from it.
    const int slices = base.s5, batches = base.s7;
    int z = get_group_id(2), slice = 0;
    for (; z >= batches; z -= batches) {
        slice++;
    }
    const int first_k = slice * base.s6 * STEP, K = min(shape.s2, first_k + base.s6 * STEP);
    a += base.s0 + batch_offset(z, batch, a_batch);
    b += base.s1 + batch_offset(z, batch, b_batch);
    c += base.s2 + ((size_t)slice * batches + z) * M * N;
    bias += base.s3 + batch_offset(z, batch, bias_batch);
    residual += base.s4 + batch_offset(z, batch, residual_batch);

    // What this item fetches: a line along k (quad = item % 4) or across k (quad = item % 16). Along k, rows of A and
    // columns of B beyond the last repeat it, and what they sum is not stored.
    const bool a_along_k = shape.s5 == 1, b_along_k = shape.s6 == 1 && shape.s7 != 1;
    const int a_k = a_along_k ? (item & 3) * 4 : item >> 4, b_k = b_along_k ? (item & 3) * 4 : item >> 4;
    const int a_row = a_along_k ? item >> 2 : (item & 15) * 4, b_column = b_along_k ? item >> 2 : (item & 15) * 4;
    const int a_from = min(first_row + a_row, M - 1), b_from = min(first_column + b_column, N - 1);
    const int a_rows = M - first_row - a_row, b_columns = N - first_column - b_column;
    const int a_line_step = a_along_k ? shape.s5 : shape.s4, b_line_step = b_along_k ? shape.s6 : shape.s7;
    const int a_advance = STEP * shape.s5, b_advance = STEP * shape.s6;
    __global const float *a_line = a + (size_t)a_from * shape.s4 + (size_t)(first_k + a_k) * shape.s5;
    __global const float *b_line = b + (size_t)b_from * shape.s7 + (size_t)(first_k + b_k) * shape.s6;
    // Whether all lines of a whole step are four contiguous elements: the same for all items, so a cheap branch.
    const bool a_whole = a_line_step == 1 && (a_along_k || first_row + TILE <= M);
    const bool b_whole = b_line_step == 1 && (b_along_k || first_column + TILE <= N);

    float4 c0 = (float4)(0.0f), c1 = c0, c2 = c0, c3 = c0;
    const int tx = item & 15, ty = item >> 4;

#define FETCH(k0)                                                                                            \
    {                                                                                                        \
        const bool whole_step = (k0) + STEP <= K;                                                            \
        if (a_whole && whole_step) {                                                                         \
            a_next = vload4(0, a_line);                                                                      \
        } else {                                                                                             \
            const int left = K - (k0) - a_k;                                                                 \
            a_next = load_line(a_line, a_line_step, a_along_k ? left : left > 0 ? a_rows : 0);               \
        }                                                                                                    \
        if (b_whole && whole_step) {                                                                         \
            b_next = vload4(0, b_line);                                                                      \
        } else {                                                                                             \
            const int left = K - (k0) - b_k;                                                                 \
            b_next = load_line(b_line, b_line_step, b_along_k ? left : left > 0 ? b_columns : 0);            \
        }                                                                                                    \
        a_line += a_advance;                                                                                 \
        b_line += b_advance;                                                                                 \
    }

    float4 a_next, b_next;
    FETCH(first_k)
    for (int k0 = first_k; k0 < K; k0 += STEP) {
        if (a_along_k) {
            scalars_a[a_k * PITCH + a_row] = a_next.x;
            scalars_a[(a_k + 1) * PITCH + a_row] = a_next.y;
            scalars_a[(a_k + 2) * PITCH + a_row] = a_next.z;
            scalars_a[(a_k + 3) * PITCH + a_row] = a_next.w;
        } else {
            tile_a[(a_k * PITCH + a_row) / 4] = a_next;
        }
        if (b_along_k) {
            scalars_b[b_k * PITCH + b_column] = b_next.x;
            scalars_b[(b_k + 1) * PITCH + b_column] = b_next.y;
            scalars_b[(b_k + 2) * PITCH + b_column] = b_next.z;
            scalars_b[(b_k + 3) * PITCH + b_column] = b_next.w;
        } else {
            tile_b[(b_k * PITCH + b_column) / 4] = b_next;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (k0 + STEP < K) {
            FETCH(k0 + STEP)
        }
#pragma unroll
        for (int k = 0; k < STEP; k++) {
            const float4 rows = tile_a[k * (PITCH / 4) + ty], columns = tile_b[k * (PITCH / 4) + tx];
            c0 += rows.x * columns;
            c1 += rows.y * columns;
            c2 += rows.z * columns;
            c3 += rows.w * columns;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    const int row = first_row + 4 * ty, column = first_column + 4 * tx, count = N - column;
    if (count <= 0) {
        return;
    }
#define STORE_ROW(i, sum)                                                                                    \
    if (row + i < M) {                                                                                       \
        float4 y = sum;                                                                                      \
        if (slices == 1) {                                                                                   \
            y = finish(sum, row + i, column, count, bias, residual, addends, flags, alpha, beta, act_p,      \
                       act_q);                                                                               \
        }                                                                                                    \
        store_lanes(y, c + (size_t)(row + i) * N + column, count);                                           \
    }
    STORE_ROW(0, c0)
    STORE_ROW(1, c1)
    STORE_ROW(2, c2)
    STORE_ROW(3, c3)
}

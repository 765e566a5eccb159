// Packs the right operand of multiply_panels: packed[z][panel][k][32] from a matrix with any strides, zero beyond the last
// column. One work-item a panel and 16 k.
__kernel void pack_panels(__global const float *b, __global float *packed, const int4 shape /* K, N, strides */,
                          const int4 batch, const int4 b_batch, const int base) {
    const int K = shape.x, N = shape.y;
    const int panel = get_global_id(0), first_k = get_global_id(1) * 16, z = get_global_id(2);
    const int panels = (N + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS;
    const int column = panel * BLOCK_COLUMNS, count = min(N - column, BLOCK_COLUMNS);
    if (panel >= panels) {
        return;
    }
    b += base + batch_offset(z, batch, b_batch) + (size_t)column * shape.w;
    packed += ((size_t)z * panels + panel) * K * BLOCK_COLUMNS;
    const int last_k = min(first_k + 16, K);
    if (shape.w == 1 && count == BLOCK_COLUMNS) {
        for (int k = first_k; k < last_k; k++) {
            __global const float *from = b + (size_t)k * shape.z;
            vstore16(vload16(0, from), 2 * k, packed);
            vstore16(vload16(1, from), 2 * k + 1, packed);
        }
        return;
    }
    for (int k = first_k; k < last_k; k++) {
        for (int j = 0; j < BLOCK_COLUMNS; j++) {
            packed[(size_t)k * BLOCK_COLUMNS + j] =
                j < count ? b[(size_t)k * shape.z + (size_t)j * shape.w] : 0.0f;
        }
    }
}

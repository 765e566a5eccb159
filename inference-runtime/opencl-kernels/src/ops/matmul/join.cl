// Adds up what the slices of a product's k summed, and ends the product: one work-item four columns.
//
// A holds [slice][z][row][column]; the other arguments are the product's own (product.cl).

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void join_slices(PRODUCT_ARGUMENTS) {
    const int M = shape.s0, N = shape.s1, flags = shape.s3, slices = base.s5;
    const int column = (int)get_global_id(0) * 4, row = get_group_id(1), z = get_group_id(2);
    const int count = N - column;
    if (count <= 0) {
        return;
    }
    const size_t at = ((size_t)z * M + row) * N + column, slice_size = (size_t)get_num_groups(2) * M * N;
    float4 sum = (float4)(0.0f);
    for (int slice = 0; slice < slices; slice++) {
        sum += load_lanes(a + slice * slice_size + at, 1, count);
    }
    bias += base.s3 + batch_offset(z, batch, bias_batch);
    residual += base.s4 + batch_offset(z, batch, residual_batch);
    store_lanes(finish(sum, row, column, count, bias, residual, addends, flags, alpha, beta, act_p, act_q), c + at,
                count);
}

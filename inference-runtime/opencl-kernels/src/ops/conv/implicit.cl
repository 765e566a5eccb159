// Convolution for GPUs as an implicit matrix product: a work-group of 256 computes 64 output channels x 64 pixels,
// each work-item 4 x 4 of it. Nothing is unfolded in memory.
//
//   rows     output channels of one group        weights repacked to [group][tap][in][out]
//   columns  pixels of all images, end to end    read from X where the tap shifts them, 0 outside
//   k        taps outside, input channels inside, 16 at a time
//
// With the taps outside, whether a pixel lies inside the input is decided once per tap, not once per element: an item
// fetches one column only, four channels of it.
//
// With more than one slice of k, a work-group sums one slice and stores the bare sums to Y[slice]...; join.cl of the
// products does the rest.

#define TILE 64
#define STEP 16
#define PITCH 68

#define FLAG_BIAS 1
#define FLAG_RESIDUAL 2

__kernel __attribute__((reqd_work_group_size(256, 1, 1))) void convolve_implicit(
    __global const float *restrict x, __global const float *restrict weights, __global float *restrict y,
    __global const float *bias, __global const float *residual,
    const int4 channels /* groups, out per group, in per group, flags */, const int4 input /* H, W, -, images */,
    const int4 output /* H, W, pixels, columns */, const int4 window /* height, width, -, taps */,
    const int4 stride /* H, W, dilation H, W */, const int4 before /* H, W, slices, steps per slice */, const float act_p,
    const float act_q) {
    __local float4 tile_a[STEP * PITCH / 4];
    __local float4 tile_b[STEP * PITCH / 4];
    __local float *scalars_b = (__local float *)tile_b;

    const int groups = channels.x, rows = channels.y, depth = channels.z, flags = channels.w;
    const int slices = before.z, item = get_local_id(0);
    // Counted down instead of divided: a quotient would live in vector registers, and with it all that follows from it.
    int group = get_group_id(2), slice = 0;
    for (; group >= groups; group -= groups) {
        slice++;
    }
    const int first_row = get_group_id(1) * TILE, first_column = get_group_id(0) * TILE;
    const int in_plane = input.x * input.y, pixels = output.z;

    // A: channel k of the step, four rows; rows beyond the last repeat it, and what they sum is not stored.
    // B: one column, channels k .. k + 3 of the step.
    const int a_k = item >> 4, rows_padded = (rows + 3) / 4 * 4, depth_padded = (depth + STEP - 1) / STEP * STEP;
    const int a_row = min(first_row + (item & 15) * 4, rows_padded - 4);
    const int b_column = item & 63, b_k = (item >> 6) * 4;
    const int column = min(first_column + b_column, output.w - 1);
    const int image = column / pixels, pixel = column - image * pixels;
    const int out_h = pixel / output.y, out_w = pixel - out_h * output.y;
    const int base_h = out_h * stride.x - before.x, base_w = out_w * stride.y - before.y;

    // This item's places in A and B, and how far 16 channels are. A is walked from end to end, taps and all.
    __global const float *a_line = weights + ((size_t)group * window.w * depth_padded + a_k) * rows_padded + a_row;
    __global const float *b_plane = x + ((size_t)(image * groups + group) * depth + b_k) * in_plane;
    const int a_step = STEP * rows_padded, b_step = STEP * in_plane;

    float4 c0 = (float4)(0.0f), c1 = c0, c2 = c0, c3 = c0;
    const int tx = item & 15, ty = item >> 4;

    // The slice's first step: a tap, and a channel within it.
    const int steps_per_tap = depth_padded / STEP, first_step = slice * before.w;
    const int last_step = min(window.w * steps_per_tap, first_step + before.w);
    const int first_tap = steps_per_tap == 0 ? 0 : first_step / steps_per_tap;
    int c = (first_step - first_tap * steps_per_tap) * STEP;
    int tap_h = first_tap / window.y, tap_w = first_tap - tap_h * window.y;
    a_line += (size_t)first_step * a_step;
    const int first_h = base_h + tap_h * stride.z, first_w = base_w + tap_w * stride.w;
    bool inside = first_h >= 0 && first_h < input.x && first_w >= 0 && first_w < input.y;
    int b_at = first_h * input.y + first_w + c * in_plane;

    float4 a_next, b_next;
#define FETCH()                                                                                              \
    {                                                                                                        \
        a_next = vload4(0, a_line);                                                                          \
        a_line += a_step;                                                                                    \
        b_next = (float4)(0.0f);                                                                             \
        if (inside) {                                                                                        \
            __global const float *p = b_plane + b_at;                                                        \
            if (c + STEP <= depth) {                                                                         \
                b_next = (float4)(p[0], p[in_plane], p[2 * in_plane], p[3 * in_plane]);                      \
            } else {                                                                                         \
                const int left = depth - c - b_k;                                                            \
                b_next.x = left > 0 ? p[0] : 0.0f;                                                           \
                b_next.y = left > 1 ? p[in_plane] : 0.0f;                                                    \
                b_next.z = left > 2 ? p[2 * in_plane] : 0.0f;                                                \
                b_next.w = left > 3 ? p[3 * in_plane] : 0.0f;                                                \
            }                                                                                                \
        }                                                                                                    \
        c += STEP;                                                                                           \
        b_at += b_step;                                                                                      \
        if (c >= depth) {                                                                                    \
            c = 0;                                                                                           \
            if (++tap_w == window.y) {                                                                       \
                tap_w = 0;                                                                                   \
                tap_h++;                                                                                     \
            }                                                                                                \
            const int in_h = base_h + tap_h * stride.z, in_w = base_w + tap_w * stride.w;                    \
            inside = in_h >= 0 && in_h < input.x && in_w >= 0 && in_w < input.y;                             \
            b_at = in_h * input.y + in_w;                                                                    \
        }                                                                                                    \
    }
    if (first_step < last_step) {
        FETCH()
    }
    for (int step = first_step + 1; step <= last_step; step++) {
        tile_a[a_k * (PITCH / 4) + (item & 15)] = a_next;
        scalars_b[b_k * PITCH + b_column] = b_next.x;
        scalars_b[(b_k + 1) * PITCH + b_column] = b_next.y;
        scalars_b[(b_k + 2) * PITCH + b_column] = b_next.z;
        scalars_b[(b_k + 3) * PITCH + b_column] = b_next.w;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (step < last_step) {
            FETCH()
        }
#pragma unroll
        for (int k = 0; k < STEP; k++) {
            const float4 factors = tile_a[k * (PITCH / 4) + ty], columns = tile_b[k * (PITCH / 4) + tx];
            c0 += factors.x * columns;
            c1 += factors.y * columns;
            c2 += factors.z * columns;
            c3 += factors.w * columns;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }

    // Where this item's four columns go within a plane of each image. They lie side by side if an image's pixels are a
    // multiple of four.
    const int row = first_row + 4 * ty, out_column = first_column + 4 * tx, last = output.w - 1;
    if (out_column > last) {
        return;
    }
    const bool together = pixels % 4 == 0;
    const int image_stride = groups * rows * pixels;
    y += (size_t)slice * image_stride * input.w;
#define PLACE(j) ((min(out_column + j, last) / pixels) * image_stride + min(out_column + j, last) % pixels)
    const int4 place = (int4)(PLACE(0), PLACE(1), PLACE(2), PLACE(3));
#define STORE_ROW(i, sum)                                                                                    \
    if (row + i < rows) {                                                                                    \
        const size_t plane = ((size_t)group * rows + row + i) * pixels;                                      \
        float4 v = sum;                                                                                      \
        if (slices == 1) {                                                                                   \
            v += flags & FLAG_BIAS ? bias[group * rows + row + i] : 0.0f;                                    \
            if (flags & FLAG_RESIDUAL) {                                                                     \
                __global const float *r = residual + plane;                                                  \
                v += (float4)(r[place.x], r[place.y], r[place.z], r[place.w]);                               \
            }                                                                                                \
            v = activate(v, act_p, act_q);                                                                   \
        }                                                                                                    \
        if (together) {                                                                                      \
            vstore4(v, 0, y + plane + place.x);                                                              \
        } else {                                                                                             \
            y[plane + place.x] = v.x;                                                                        \
            if (out_column + 1 <= last) y[plane + place.y] = v.y;                                            \
            if (out_column + 2 <= last) y[plane + place.z] = v.z;                                            \
            if (out_column + 3 <= last) y[plane + place.w] = v.w;                                            \
        }                                                                                                    \
    }
    STORE_ROW(0, c0)
    STORE_ROW(1, c1)
    STORE_ROW(2, c2)
    STORE_ROW(3, c3)
}

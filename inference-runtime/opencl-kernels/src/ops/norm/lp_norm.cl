// Divides each column of an axis by its L1 or L2 norm (P = 1, 2); one without length stays zero. A column is `n`
// elements, `stride` apart; one work-item has it.

#ifndef P
#define P 2
#endif

__kernel void lp_norm(__global float *y, __global const float *x, uint columns, int n, int stride) {
    const uint column = (uint)get_global_id(0);
    if (column >= columns) {
        return;
    }
    const uint outer = column / (uint)stride;
    const size_t start = (size_t)outer * n * stride + (column - outer * stride);
    x += start;
    y += start;

    // Blocks, so that a long column's sum does not swallow its small terms.
    float norm = 0.0f;
    for (int block = 0; block < n; block += 64) {
        const int end = block + 64 < n ? block + 64 : n;
        float part = 0.0f;
        for (int i = block; i < end; i++) {
            const float v = x[i * stride];
#if P == 1
            part += fabs(v);
#else
            part += v * v;
#endif
        }
        norm += part;
    }
#if P == 2
    norm = sqrt(norm);
#endif
    for (int i = 0; i < n; i++) {
        y[i * stride] = norm == 0.0f ? 0.0f : x[i * stride] / norm;
    }
}

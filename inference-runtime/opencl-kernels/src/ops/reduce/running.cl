// Running sums along each column of an axis. A column is `n` elements, `stride` apart; one work-item walks it.
//
//   TYPE          element type
//   COMPENSATED   what rounding takes from the sum is carried along (Kahan)

#ifndef TYPE
#define TYPE float
#define COMPENSATED
#endif

__kernel void running_sum(__global TYPE *y, __global const TYPE *x, uint columns, int n, int stride, int exclusive,
                          int reverse) {
    const uint column = (uint)get_global_id(0);
    if (column >= columns) {
        return;
    }
    const uint outer = column / (uint)stride;
    const size_t start = (size_t)outer * n * stride + (column - outer * stride);
    x += start;
    y += start;

    TYPE sum = 0;
#ifdef COMPENSATED
    TYPE lost = 0;
#endif
    for (int i = 0; i < n; i++) {
        const int at = (reverse ? n - 1 - i : i) * stride;
        const TYPE before = sum;
#ifdef COMPENSATED
        const TYPE wanted = x[at] - lost;
        sum = before + wanted;
        lost = (sum - before) - wanted;
        lost = isfinite(sum) ? lost : 0;
#else
        sum = before + x[at];
#endif
        y[at] = exclusive ? before : sum;
    }
}

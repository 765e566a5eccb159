// Where the largest (or smallest) element of each column of an axis is. A column is `n` elements, `stride` apart.
//
//   TYPE       element type
//   SMALLEST   the smallest element is wanted
//   LAST       the last of equals counts, not the first
//
// A NaN is passed over, but for one in the first place, which nothing beats: so ONNX Runtime's CPU kernels have it.

#ifndef TYPE
#define TYPE float
#endif
#ifndef GROUP
#define GROUP 64
#endif

#ifdef SMALLEST
#define BEYOND(a, b) ((a) < (b))
#else
#define BEYOND(a, b) ((a) > (b))
#endif

// BETTER: whether a comes to hold the record after b. PREFERRED: which place counts where two are equal.
#ifdef LAST
#define BETTER(a, b) (BEYOND(a, b) || (a) == (b))
#define PREFERRED(i, j) ((i) > (j))
#else
#define BETTER(a, b) BEYOND(a, b)
#define PREFERRED(i, j) ((i) < (j))
#endif

#define TO_COLUMN(column)                                                                                              \
    const uint outer = (uint)(column) / (uint)stride;                                                                  \
    const size_t start = (size_t)outer * n * stride + ((uint)(column)-outer * stride);                                 \
    x += start;

inline int find(__global const TYPE *x, int n, int stride) {
    int best = 0;
    TYPE record = x[0];
    for (int i = 1; i < n; i++) {
        const TYPE v = x[i * stride];
        if (BETTER(v, record)) {
            best = i;
            record = v;
        }
    }
    return best;
}

// One work-item per column.
__kernel void extreme_serial(__global long *y, __global const TYPE *x, uint columns, int n, int stride) {
    const uint column = (uint)get_global_id(0);
    if (column >= columns) {
        return;
    }
    TO_COLUMN(column)
    y[column] = find(x, n, stride);
}

// One work-group per column.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void extreme_group(__global long *y, __global const TYPE *x,
                                                                               uint columns, int n, int stride) {
    __local TYPE records[GROUP];
    __local int places[GROUP];
    const int lane = (int)get_local_id(0);
    TO_COLUMN(get_group_id(0))

    // Lanes start where they find a number, -1 until then.
    int best = -1;
    TYPE record = 0;
    for (int i = lane; i < n; i += GROUP) {
        const TYPE v = x[i * stride];
        if (v == v && (best < 0 || BETTER(v, record))) {
            best = i;
            record = v;
        }
    }
    places[lane] = best;
    records[lane] = record;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = GROUP / 2; step > 0; step /= 2) {
        if (lane < step) {
            const int other = places[lane + step];
            const TYPE v = records[lane + step];
            const int own = places[lane];
            const TYPE w = records[lane];
            if (other >= 0 && (own < 0 || (v == w ? PREFERRED(other, own) : BEYOND(v, w)))) {
                places[lane] = other;
                records[lane] = v;
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lane == 0) {
        const TYPE first = x[0];
        y[get_group_id(0)] = first == first ? places[0] : 0;
    }
}

// Hardmax: 1 where the extreme is, 0 elsewhere.
__kernel void hardmax(__global TYPE *y, __global const TYPE *x, uint columns, int n, int stride) {
    const uint column = (uint)get_global_id(0);
    if (column >= columns) {
        return;
    }
    TO_COLUMN(column)
    y += start;
    const int best = find(x, n, stride);
    for (int i = 0; i < n; i++) {
        y[i * stride] = i == best ? 1 : 0;
    }
}

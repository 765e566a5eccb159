// Pooling over sliding windows, up to three spatial axes.
//
//   pool_windows  a work-item computes one output: GPUs, and indices everywhere
//   pool_rows     a work-item computes a row of outputs, tap by tap, 16 at a time: CPU runtimes
//
// POOL: 1 the largest element, 2 the mean, 3 the p-norm. With INDICES the largest element's index in the whole input
// goes to a second output. Padding is never read: taps are cut to those inside the input before the loops.

// Taps t with 0 <= start + t * dilation < limit lie in [first_tap, end_tap).
inline int first_tap(int start, int dilation) {
    return start >= 0 ? 0 : (-start + dilation - 1) / dilation;
}
inline int end_tap(int start, int dilation, int limit, int taps) {
    return start >= limit ? 0 : min(taps, (limit - start + dilation - 1) / dilation);
}

// What a window without elements gives, how elements join, and what is joined of each.
#if POOL == 1
#define START (-FLT_MAX)
#define TERM(v) (v)
#else
#define START 0.0f
#if POOL == 2
#define TERM(v) (v)
#else
#define TERM(v) (p == 1.0f ? fabs(v) : p == 2.0f ? (v) * (v) : pow(fabs(v), p))
#endif
#endif

inline float root(float sum, float p) {
    return p == 1.0f ? sum : p == 2.0f ? sqrt(sum) : pow(sum, 1.0f / p);
}

__kernel void pool_windows(__global const float *restrict x, __global float *restrict y,
#ifdef INDICES
                           __global long *restrict indices,
#endif
                           const int4 input /* D, H, W, planes */, const int4 output /* D, H, W, - */,
                           const int4 window /* D, H, W, column-major indices? */, const int4 stride,
                           const int4 dilation, const int4 before, const int4 after /* D, H, W, count padding? */,
                           const float p) {
    const int pixel = get_global_id(0), plane = get_global_id(1);
    if (pixel >= output.x * output.y * output.z) {
        return;
    }
    const int w = pixel % output.z, rest = pixel / output.z;
    const int h = rest % output.y, d = rest / output.y;
    const int start_d = d * stride.x - before.x, start_h = h * stride.y - before.y, start_w = w * stride.z - before.z;
    const int from_d = first_tap(start_d, dilation.x), to_d = end_tap(start_d, dilation.x, input.x, window.x);
    const int from_h = first_tap(start_h, dilation.y), to_h = end_tap(start_h, dilation.y, input.y, window.y);
    const int from_w = first_tap(start_w, dilation.z), to_w = end_tap(start_w, dilation.z, input.z, window.z);
    __global const float *from = x + (size_t)plane * input.x * input.y * input.z;
    const size_t out = (size_t)plane * output.x * output.y * output.z + pixel;

#if POOL == 1
    float best = START;
    int best_d = 0, best_h = 0, best_w = 0;
    bool none = true;
#else
    float sum = START;
#endif
    for (int td = from_d; td < to_d; td++) {
        const int at_d = start_d + td * dilation.x;
        for (int th = from_h; th < to_h; th++) {
            const int at_h = start_h + th * dilation.y;
            __global const float *row = from + ((size_t)at_d * input.y + at_h) * input.z;
            for (int tw = from_w; tw < to_w; tw++) {
                const int at_w = start_w + tw * dilation.z;
                const float v = row[at_w];
#if POOL == 1
                // A NaN wins and stays.
                if (none || v > best || v != v) {
                    best = v;
                    none = false;
#ifdef INDICES
                    best_d = at_d;
                    best_h = at_h;
                    best_w = at_w;
#endif
                    if (v != v) {
                        td = to_d, th = to_h, tw = to_w;
                    }
                }
#else
                sum += TERM(v);
#endif
            }
        }
    }
#if POOL == 1
    y[out] = best;
#ifdef INDICES
    const size_t place = window.w ? ((size_t)best_w * input.y + best_h) * input.x + best_d
                                  : ((size_t)best_d * input.y + best_h) * input.z + best_w;
    indices[out] = none ? -1 : (long)((size_t)plane * input.x * input.y * input.z + place);
#endif
#elif POOL == 2
    int count = max(to_d - from_d, 0) * max(to_h - from_h, 0) * max(to_w - from_w, 0);
    if (after.w) {
        count = end_tap(start_d, dilation.x, input.x + after.x, window.x) *
                end_tap(start_h, dilation.y, input.y + after.y, window.y) *
                end_tap(start_w, dilation.z, input.z + after.z, window.z);
    }
    // A window that holds nothing (its taps step over a short axis) is 0, as ONNX Runtime answers.
    y[out] = count > 0 ? sum / (float)count : 0.0f;
#else
    y[out] = root(sum, p);
#endif
}

#ifndef INDICES
#if POOL == 1
// Below START, so that elements of -infinity join rightly; windows that stay empty are set to START at the end.
#define ROW_START (-INFINITY)
// A NaN wins and stays.
#define JOIN(a, b) ((b) > (a) || (b) != (b) ? (b) : (a))
#define JOIN16(a, b) select(a, b, ((b) > (a)) | ((b) != (b)))
#else
#define ROW_START START
#define JOIN(a, b) ((a) + (b))
#define JOIN16(a, b) ((a) + (b))
#endif

__kernel void pool_rows(__global const float *restrict x, __global float *restrict y,
                        const int4 input /* D, H, W, planes */, const int4 output /* D, H, W, - */,
                        const int4 window, const int4 stride, const int4 dilation, const int4 before,
                        const int4 after /* D, H, W, count padding? */, const float p) {
    const int row = get_global_id(0), plane = get_global_id(1);
    if (row >= output.x * output.y) {
        return;
    }
    const int d = row / output.y, h = row - d * output.y;
    const int start_d = d * stride.x - before.x, start_h = h * stride.y - before.y;
    const int from_d = first_tap(start_d, dilation.x), to_d = end_tap(start_d, dilation.x, input.x, window.x);
    const int from_h = first_tap(start_h, dilation.y), to_h = end_tap(start_h, dilation.y, input.y, window.y);
    __global const float *from = x + (size_t)plane * input.x * input.y * input.z;
    __global float *to = y + ((size_t)plane * output.x * output.y + row) * output.z;
    for (int w = 0; w < output.z; w++) {
        to[w] = ROW_START;
    }
    const int step = stride.z;
    for (int td = from_d; td < to_d; td++) {
        for (int th = from_h; th < to_h; th++) {
            const size_t line =
                ((size_t)(start_d + td * dilation.x) * input.y + start_h + th * dilation.y) * input.z;
            for (int tw = 0; tw < window.z; tw++) {
                // Outputs [begin, end) have this tap inside the row: 0 <= w * step + at < W.
                const int at = tw * dilation.z - before.z;
                const int end = at >= input.z ? 0 : min(output.z, (input.z - at + step - 1) / step);
                int w = at >= 0 ? 0 : (-at + step - 1) / step;
                __global const float *tap = from + line + at;
                if (step == 1) {
                    for (; w + 16 <= end; w += 16) {
                        const float16 v = vload16(0, tap + w);
                        vstore16(JOIN16(vload16(0, to + w), TERM(v)), 0, to + w);
                    }
                } else if (step == 2) {
                    // 32 elements in, every other one used.
                    for (; w + 16 <= end && at + 2 * w + 31 < input.z; w += 16) {
                        const float16 low = vload16(0, tap + 2 * w), high = vload16(1, tap + 2 * w);
                        const float16 v = (float16)(low.even, high.even);
                        vstore16(JOIN16(vload16(0, to + w), TERM(v)), 0, to + w);
                    }
                }
                for (; w < end; w++) {
                    const float v = TERM(tap[w * step]);
                    to[w] = JOIN(to[w], v);
                }
            }
        }
    }
#if POOL == 1
    for (int w = 0; w < output.z; w++) {
        if (to[w] != ROW_START) {
            continue;
        }
        const int start = w * step - before.z;
        const bool empty = to_d <= from_d || to_h <= from_h ||
                           first_tap(start, dilation.z) >= end_tap(start, dilation.z, input.z, window.z);
        to[w] = empty ? START : ROW_START;
    }
#elif POOL == 2
    const int counted = after.w ? end_tap(start_d, dilation.x, input.x + after.x, window.x) *
                                      end_tap(start_h, dilation.y, input.y + after.y, window.y)
                                : max(to_d - from_d, 0) * max(to_h - from_h, 0);
    const int reach = (window.z - 1) * dilation.z;
    for (int w = 0; w < output.z; w++) {
        const int start = w * step - before.z;
        int count = window.z;
        if (start < 0 || start + reach >= input.z) {
            count = after.w ? end_tap(start, dilation.z, input.z + after.z, window.z)
                            : max(end_tap(start, dilation.z, input.z, window.z) - first_tap(start, dilation.z), 0);
        }
        to[w] = counted * count > 0 ? to[w] / (float)(counted * count) : 0.0f;
    }
#else
    for (int w = 0; w < output.z; w++) {
        to[w] = root(to[w], p);
    }
#endif
}
#endif

// Reduces over any axes: output o is the reduction of x[kept(o) + reduced(r)] over r < n. Comes after axes.cl.
//
//   TYPE               element type
//   KIND               SUM, MEAN, PROD, MAX, MIN, L1, L2, SUM_SQUARE, LOG_SUM, LOG_SUM_EXP
//   LOWEST, HIGHEST    the type's limits
//   COMPENSATED        sums of floats: what rounding takes from the total is carried along (Kahan)
//   GROUP              work-items per output in reduce_group

#ifndef TYPE
#define TYPE float
#define KIND SUM
#define LOWEST -INFINITY
#define HIGHEST INFINITY
#define COMPENSATED
#endif
#ifndef GROUP
#define GROUP 64
#endif

#define PASTE(a, b) a##b
#define OF(name, kind) PASTE(name, kind)

#define INITIAL_SUM 0
#define INITIAL_MEAN 0
#define INITIAL_L1 0
#define INITIAL_L2 0
#define INITIAL_SUM_SQUARE 0
#define INITIAL_LOG_SUM 0
#define INITIAL_LOG_SUM_EXP 0
#define INITIAL_PROD 1
#define INITIAL_MAX LOWEST
#define INITIAL_MIN HIGHEST

#define TERM_SUM(v) (v)
#define TERM_MEAN(v) (v)
#define TERM_L1(v) ((v) < 0 ? -(v) : (v))
#define TERM_L2(v) ((v) * (v))
#define TERM_SUM_SQUARE(v) ((v) * (v))
#define TERM_LOG_SUM(v) (v)
#define TERM_LOG_SUM_EXP(v) exp((v)-shift)
#define TERM_PROD(v) (v)
#define TERM_MAX(v) (v)
#define TERM_MIN(v) (v)

#define COMBINE_SUM(a, b) ((a) + (b))
#define COMBINE_MEAN(a, b) ((a) + (b))
#define COMBINE_L1(a, b) ((a) + (b))
#define COMBINE_L2(a, b) ((a) + (b))
#define COMBINE_SUM_SQUARE(a, b) ((a) + (b))
#define COMBINE_LOG_SUM(a, b) ((a) + (b))
#define COMBINE_LOG_SUM_EXP(a, b) ((a) + (b))
#define COMBINE_PROD(a, b) ((a) * (b))
// A NaN on either side wins.
#define COMBINE_MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
#define COMBINE_MIN(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))

#define FINISH_SUM(a) (a)
#define FINISH_MEAN(a) (n == 0 ? 0 : (a) / (TYPE)n)
#define FINISH_L1(a) (a)
#define FINISH_L2(a) sqrt(a)
#define FINISH_SUM_SQUARE(a) (a)
#define FINISH_LOG_SUM(a) log(a)
#define FINISH_LOG_SUM_EXP(a) (shift + log(a))
#define FINISH_PROD(a) (a)
#define FINISH_MAX(a) (a)
#define FINISH_MIN(a) (a)

#define INITIAL ((TYPE)OF(INITIAL_, KIND))
#define COMBINE(a, b) ((TYPE)OF(COMBINE_, KIND)(a, b))

#define AT(r) x[locate((uint)(r), inner, extents, magics, shifts, strides)]

#define ARGUMENTS                                                                                                      \
    __global TYPE *y, __global const TYPE *x, uint outputs, int n, int kept_inner, int8 kept_extents,                  \
        int8 kept_magics, int8 kept_shifts, int8 kept_strides, int inner, int8 extents, int8 magics, int8 shifts,      \
        int8 strides

// Elements summed plainly before compensation: it costs three more operations.
#define BLOCK 32

// The reduction of elements first, first + step, … below n.
inline TYPE reduce_some(__global const TYPE *x, int first, int step, int n, TYPE shift, int inner, int8 extents,
                        int8 magics, int8 shifts, int8 strides) {
#ifdef COMPENSATED
    TYPE total = 0;
    TYPE lost = 0;
    for (int block = first; block < n; block += BLOCK * step) {
        TYPE part = 0;
        const int end = n - block > BLOCK * step ? block + BLOCK * step : n;
        for (int r = block; r < end; r += step) {
            part += OF(TERM_, KIND)(AT(r));
        }
        const TYPE wanted = part - lost;
        const TYPE sum = total + wanted;
        lost = (sum - total) - wanted;
        // After an infinity there is nothing to carry; inf - inf would make it a NaN.
        lost = isfinite(sum) ? lost : 0;
        total = sum;
    }
    return total;
#else
    TYPE result = INITIAL;
    for (int r = first; r < n; r += step) {
        const TYPE v = AT(r);
        const TYPE term = OF(TERM_, KIND)(v);
        result = COMBINE(result, term);
    }
    return result;
#endif
}

#ifdef SHIFTED
inline TYPE largest_of_some(__global const TYPE *x, int first, int step, int n, int inner, int8 extents, int8 magics,
                            int8 shifts, int8 strides) {
    TYPE largest = -INFINITY;
    for (int r = first; r < n; r += step) {
        const TYPE v = AT(r);
        largest = v > largest ? v : largest;
    }
    return largest;
}
#endif

// One work-item per output.
__kernel void reduce_serial(ARGUMENTS) {
    const uint output = (uint)get_global_id(0);
    if (output >= outputs) {
        return;
    }
    x += locate(output, kept_inner, kept_extents, kept_magics, kept_shifts, kept_strides);
    TYPE shift = 0;
#ifdef SHIFTED
    shift = largest_of_some(x, 0, 1, n, inner, extents, magics, shifts, strides);
    shift = isfinite(shift) ? shift : 0;
#endif
    const TYPE result = reduce_some(x, 0, 1, n, shift, inner, extents, magics, shifts, strides);
    y[output] = OF(FINISH_, KIND)(result);
}

// One work-group per output.
__attribute__((reqd_work_group_size(GROUP, 1, 1))) __kernel void reduce_group(ARGUMENTS) {
    __local TYPE partial[GROUP];
    const int lane = (int)get_local_id(0);
    const uint output = (uint)get_group_id(0);
    x += locate(output, kept_inner, kept_extents, kept_magics, kept_shifts, kept_strides);

    TYPE shift = 0;
#ifdef SHIFTED
    partial[lane] = largest_of_some(x, lane, GROUP, n, inner, extents, magics, shifts, strides);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = GROUP / 2; step > 0; step /= 2) {
        if (lane < step) {
            const TYPE other = partial[lane + step];
            partial[lane] = other > partial[lane] ? other : partial[lane];
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    shift = partial[0];
    shift = isfinite(shift) ? shift : 0;
    barrier(CLK_LOCAL_MEM_FENCE);
#endif

    partial[lane] = reduce_some(x, lane, GROUP, n, shift, inner, extents, magics, shifts, strides);
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int step = GROUP / 2; step > 0; step /= 2) {
        if (lane < step) {
            const TYPE other = partial[lane + step];
            partial[lane] = COMBINE(partial[lane], other);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lane == 0) {
        const TYPE result = partial[0];
        y[output] = OF(FINISH_, KIND)(result);
    }
}

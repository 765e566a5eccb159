// Reductions across the lanes of a vector and across one work-group.

inline float sum_of_lanes(float8 v) {
    const float4 a = v.lo + v.hi;
    const float2 b = a.lo + a.hi;
    return b.x + b.y;
}

inline float largest_lane(float8 v) {
    const float4 a = v.lo > v.hi ? v.lo : v.hi;
    const float2 b = a.lo > a.hi ? a.lo : a.hi;
    return b.x > b.y ? b.x : b.y;
}

// Reductions across one work-group of GROUP work-items; every work-item gets the result. `partial` has GROUP elements
// and may be used again at once.

#ifndef GROUP
#define GROUP 64
#endif

#define GROUP_TREE(combine)                                                                                            \
    partial[lane] = value;                                                                                             \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                                      \
    for (int step = GROUP / 2; step > 0; step /= 2) {                                                                  \
        if (lane < step) {                                                                                             \
            const float other = partial[lane + step];                                                                  \
            partial[lane] = combine(partial[lane], other);                                                             \
        }                                                                                                              \
        barrier(CLK_LOCAL_MEM_FENCE);                                                                                  \
    }                                                                                                                  \
    const float result = partial[0];                                                                                   \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                                      \
    return result;

#define TREE_SUM(a, b) ((a) + (b))
#define TREE_MAX(a, b) ((a) > (b) ? (a) : (b))

inline float group_sum(float value, __local float *partial, int lane) {
    GROUP_TREE(TREE_SUM)
}

inline float group_max(float value, __local float *partial, int lane) {
    GROUP_TREE(TREE_MAX)
}

// Pooling of whole planes to one element each. POOL as in windows.cl.
//
//   pool_whole        a work-item takes a plane, 16 elements at a time: CPU runtimes
//   pool_whole_group  a work-group of 64 takes a plane: GPUs

#if POOL == 1
#define START (-FLT_MAX)
// A NaN wins and stays.
#define JOIN(a, b) ((b) > (a) || (b) != (b) ? (b) : (a))
#define TERM(v) (v)
#define JOIN16(a, b) select(a, b, ((b) > (a)) | ((b) != (b)))
#else
#define START 0.0f
#define JOIN(a, b) ((a) + (b))
#define JOIN16(a, b) ((a) + (b))
#if POOL == 2
#define TERM(v) (v)
#else
#define TERM(v) (p == 1.0f ? fabs(v) : p == 2.0f ? (v) * (v) : pow(fabs(v), p))
#endif
#endif

inline float result(float joined, int elements, float p) {
#if POOL == 1
    return joined;
#elif POOL == 2
    return elements > 0 ? joined / (float)elements : 0.0f;
#else
    return p == 1.0f ? joined : p == 2.0f ? sqrt(joined) : pow(joined, 1.0f / p);
#endif
}

__kernel void pool_whole(__global const float *restrict x, __global float *restrict y, const int planes,
                         const int elements, const float p) {
    const int plane = get_global_id(0);
    if (plane >= planes) {
        return;
    }
    __global const float *from = x + (size_t)plane * elements;
    float16 wide = (float16)(START);
    int i = 0;
    for (; i + 16 <= elements; i += 16) {
        const float16 v = vload16(0, from + i);
        wide = JOIN16(wide, TERM(v));
    }
    float lanes[16];
    vstore16(wide, 0, lanes);
    float joined = START;
    for (int j = 0; j < 16; j++) {
        joined = JOIN(joined, lanes[j]);
    }
    for (; i < elements; i++) {
        const float v = TERM(from[i]);
        joined = JOIN(joined, v);
    }
    y[plane] = result(joined, elements, p);
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void pool_whole_group(
    __global const float *restrict x, __global float *restrict y, const int planes, const int elements,
    const float p) {
    __local float partial[64];
    const int plane = get_group_id(0), item = get_local_id(0);
    __global const float *from = x + (size_t)plane * elements;
    float joined = START;
    for (int i = item; i < elements; i += 64) {
        const float v = TERM(from[i]);
        joined = JOIN(joined, v);
    }
    partial[item] = joined;
    for (int half_size = 32; half_size > 0; half_size >>= 1) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (item < half_size) {
            const float other = partial[item + half_size];
            partial[item] = JOIN(partial[item], other);
        }
    }
    if (item == 0) {
        y[plane] = result(partial[0], elements, p);
    }
}

// The inner block of the CPU kernels: 8 rows x 32 columns of sums in registers (two float16 a row), for runtimes
// where local memory is ordinary memory and wide vectors are the parallelism.
//
// Sums are written a * b + c, never mad(): PoCL compiles mad() to a multiplication and an addition, a * b + c to one
// fused instruction, at twice the speed.
//
// A kernel names `row0` .. `row7` (pointers to each row of the left operand), then for every k says
// BLOCK_STEP(at, p): at = offset of k within a row, p = 32 consecutive elements of the right operand.

#define BLOCK_ROWS 8
#define BLOCK_COLUMNS 32

#define EACH_BLOCK_ROW(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)

// Rows beyond the last repeat it; what they sum is not stored.
#define BLOCK_ROW_POINTER(i) __global const float *row##i = left + (size_t)min(row + i, rows - 1) * row_stride;
#define BLOCK_SUMS(i) float16 low##i = (float16)(0.0f), high##i = (float16)(0.0f);

#define BLOCK_ROW_STEP(i)                                                                                    \
    {                                                                                                        \
        const float16 factor = (float16)(row##i[at_k]);                                                      \
        low##i += factor * right_low;                                                                       \
        high##i += factor * right_high;                                                          \
    }
#define BLOCK_STEP(at, p)                                                                                    \
    {                                                                                                        \
        const size_t at_k = (at);                                                                            \
        const float16 right_low = vload16(0, (p)), right_high = vload16(1, (p));                             \
        EACH_BLOCK_ROW(BLOCK_ROW_STEP)                                                                       \
    }

// Lanes from..to-1 of v to p[from]..p[to-1].
inline void store_range(float16 v, __global float *p, int from, int to) {
    if (from <= 0 && to >= 16) {
        vstore16(v, 0, p);
        return;
    }
    float lanes[16];
    vstore16(v, 0, lanes);
    for (int i = max(from, 0); i < min(to, 16); i++) {
        p[i] = lanes[i];
    }
}

// Converts every element: RESULT = CONVERT(READ(FIRST)). Comes before broadcast.cl.
//
//   FIRST, RESULT   types in memory; 16-bit floats are ushort
//   READ            from memory to a number: PLAIN, HALF, BFLOAT
//   CONVERT         from that number to memory

#ifndef FIRST
#define FIRST float
#define RESULT int
#define READ PLAIN
#define CONVERT FLOAT_TO_INT
#endif
#define SECOND FIRST
#define THIRD FIRST
#define FLAT_ONLY

inline float read_half(ushort bits) {
    return vload_half(0, (const half *)&bits);
}

// Which NaN vstore_half_rte writes depends on the driver.
inline ushort write_half(float x) {
    ushort bits;
    vstore_half_rte(x, 0, (half *)&bits);
    return x != x ? (ushort)0x7e00 : bits;
}

inline float read_bfloat(ushort bits) {
    return as_float((uint)bits << 16);
}

// Rounds to nearest, ties to even; a NaN must not round up to infinity.
inline ushort write_bfloat(float x) {
    const uint bits = as_uint(x);
    return x != x ? (ushort)0x7fc0 : (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// A float outside the range, or NaN, becomes the smallest number, as x86 has it; OpenCL C leaves it open.
inline int float_to_int(float x) {
    return x >= -2147483648.0f && x < 2147483648.0f ? (int)x : INT_MIN;
}

inline long float_to_long(float x) {
    return x >= -9223372036854775808.0f && x < 9223372036854775808.0f ? (long)x : LONG_MIN;
}

inline ulong float_to_ulong(float x) {
    return x >= 9223372036854775808.0f && x < 18446744073709551616.0f ? (ulong)x : (ulong)float_to_long(x);
}

#define PLAIN(x) (x)
#define HALF(x) read_half(x)
#define BFLOAT(x) read_bfloat(x)

#define TO_BOOL(x) ((x) != 0)
#define TO_HALF(x) write_half((float)(x))
#define TO_BFLOAT(x) write_bfloat((float)(x))
#define FLOAT_TO_INT(x) float_to_int(x)
#define FLOAT_TO_LONG(x) float_to_long(x)
#define FLOAT_TO_ULONG(x) float_to_ulong(x)

inline RESULT apply(FIRST a, SECOND b, THIRD c, float p, float q) {
    return (RESULT)CONVERT(READ(a));
}

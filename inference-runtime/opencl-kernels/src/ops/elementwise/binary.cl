// Functions of two broadcast operands: y = FUNCTION(a, b). Comes before broadcast.cl.
//
// Integers: arithmetic wraps; a division by zero gives 0, because it would end the process on a CPU device.

#ifndef FUNCTION
#define FUNCTION ADD
#define FIRST float
#define SECOND float
#define RESULT float
#endif
#define THIRD FIRST

#define IS_MINUS_ONE(b) ((FIRST)-1 < (FIRST)0 && (b) == (FIRST)-1)

#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define DIV(a, b) ((a) / (b))
#define DIV_INTEGER(a, b) quotient(a, b)
#define POW(a, b) pow(a, (float)(b))
#define POW_INTEGER(a, b) power(a, b)
#define FMOD(a, b) fmod(a, b)
#define FMOD_INTEGER(a, b) truncated_remainder(a, b)
#define FLOOR_MOD(a, b) floor_mod(a, b)
#define FLOOR_MOD_INTEGER(a, b) floor_mod_integer(a, b)
#define PRELU(a, b) ((a) < 0 ? (a) * (b) : (a))
// A NaN on either side wins.
#define MIN(a, b) ((a) < (b) || (a) != (a) ? (a) : (b))
#define MAX(a, b) ((a) > (b) || (a) != (a) ? (a) : (b))
// The last step of a mean over more operands: p is one over their number.
#define SCALED_SUM(a, b) (((a) + (b)) * p)
#define AND(a, b) ((a) != 0 && (b) != 0)
#define OR(a, b) ((a) != 0 || (b) != 0)
#define XOR(a, b) (((a) != 0) != ((b) != 0))
#define EQUAL(a, b) ((a) == (b))
#define GREATER(a, b) ((a) > (b))
#define GREATER_OR_EQUAL(a, b) ((a) >= (b))
#define LESS(a, b) ((a) < (b))
#define LESS_OR_EQUAL(a, b) ((a) <= (b))
#define BITWISE_AND(a, b) ((a) & (b))
#define BITWISE_OR(a, b) ((a) | (b))
#define BITWISE_XOR(a, b) ((a) ^ (b))
// OpenCL C takes the shift modulo the width; ONNX shifts everything out.
#define SHIFT_LEFT(a, b) ((b) >= 8 * sizeof(FIRST) ? 0 : (a) << (b))
#define SHIFT_RIGHT(a, b) ((b) >= 8 * sizeof(FIRST) ? 0 : (a) >> (b))

#ifdef INTEGERS

// Integers divide by their magnitudes, because an unsigned division by anything but 0 cannot trap: a signed one
// overflows for the smallest integer and -1, and CPU compilers compute the untaken side of a branch around it.
#define BITS_char uint
#define BITS_short uint
#define BITS_int uint
#define BITS_long ulong
#define BITS_uchar uint
#define BITS_ushort uint
#define BITS_uint uint
#define BITS_ulong ulong
#define BITS_OF(type) BITS_##type
#define BITS(type) BITS_OF(type)
#define MAGNITUDE(x) ((x) < 0 ? 0 - (BITS(FIRST))(x) : (BITS(FIRST))(x))
#define DIVISOR(b) ((b) == 0 ? 1 : MAGNITUDE(b))

inline FIRST quotient(FIRST a, SECOND b) {
    const BITS(FIRST) magnitude = MAGNITUDE(a) / DIVISOR(b);
    return b == 0 ? (FIRST)0 : (FIRST)((a < 0) != (b < 0) ? 0 - magnitude : magnitude);
}

// The remainder with the dividend's sign.
inline FIRST truncated_remainder(FIRST a, SECOND b) {
    const BITS(FIRST) magnitude = MAGNITUDE(a) % DIVISOR(b);
    return (FIRST)(a < 0 ? 0 - magnitude : magnitude);
}

// a^b by squaring; a negative power is a fraction, of which truncation leaves something for 1 and -1 only.
inline FIRST power(FIRST a, SECOND b) {
    if (b < 0) {
        return a == 1 ? (FIRST)1 : IS_MINUS_ONE(a) ? ((b & 1) ? a : (FIRST)1) : (FIRST)0;
    }
    FIRST result = 1;
    for (; b > 0; b >>= 1) {
        result = (b & 1) ? result * a : result;
        a *= a;
    }
    return result;
}

// The remainder with the divisor's sign.
inline FIRST floor_mod_integer(FIRST a, SECOND b) {
    const FIRST remainder = FMOD_INTEGER(a, b);
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}

#else

inline float floor_mod(float a, float b) {
    const float remainder = fmod(a, b);
    if (remainder == 0.0f) {
        return copysign(0.0f, b);
    }
    return (remainder < 0.0f) != (b < 0.0f) ? remainder + b : remainder;
}

#endif

inline RESULT apply(FIRST a, SECOND b, THIRD c, float p, float q) {
    return (RESULT)FUNCTION(a, b);
}

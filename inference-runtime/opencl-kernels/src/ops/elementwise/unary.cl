// Functions of one operand, elementwise: y = FUNCTION(x, p, q). Comes after functions.cl and before broadcast.cl.
// A NaN stays one wherever ONNX's formula does not say otherwise, which is why fmin, fmax and sign do not appear.

#ifndef FUNCTION
#define FUNCTION RELU
#define FIRST float
#define RESULT float
#endif
#define SECOND FIRST
#define THIRD FIRST
#define FLAT_ONLY

#define ABS(x, p, q) fabs(x)
#define NEG(x, p, q) (-(x))
#define SQRT(x, p, q) sqrt(x)
#define EXP(x, p, q) exp(x)
#define LOG(x, p, q) log(x)
#define ERF(x, p, q) erf_rational(x)
#define TANH(x, p, q) tanh_rational(x)
#define SIGMOID(x, p, q) sigmoid(x)
#define RELU(x, p, q) ((x) < 0 ? 0 : (x))
#define LEAKY_RELU(x, p, q) ((x) < 0.0f ? (p) * (x) : (x))
#define ELU(x, p, q) ((x) < 0.0f ? (p) * expm1(x) : (x))
#define SELU(x, p, q) ((q) * ((x) > 0.0f ? (x) : (p) * expm1(x)))
#define CELU(x, p, q) ((x) > 0.0f ? (x) : (p) * expm1((x) / (p)))
#define CLAMP_01(x) ((x) < 0.0f ? 0.0f : (x) > 1.0f ? 1.0f : (x))
#define HARD_SIGMOID(x, p, q) CLAMP_01((p) * (x) + (q))
#define HARD_SWISH(x, p, q) ((x) * CLAMP_01((x) * 0.16666667f + 0.5f))
#define SOFTPLUS(x, p, q) softplus(x)
#define SOFTSIGN(x, p, q) ((x) / (1.0f + fabs(x)))
#define THRESHOLDED_RELU(x, p, q) ((x) > (p) ? (x) : 0.0f)
#define SHRINK(x, p, q) ((x) < -(p) ? (x) + (q) : (x) > (p) ? (x) - (q) : 0.0f)
#define MISH(x, p, q) mish(x)
#define GELU(x, p, q) (0.5f * (x) * (1.0f + erf_rational(0.70710678f * (x))))
#define GELU_TANH(x, p, q) (0.5f * (x) * (1.0f + tanh_rational(0.79788456f * ((x) + 0.044715f * (x) * (x) * (x)))))
#define SWISH(x, p, q) ((x) / (1.0f + exp(-(p) * (x))))
#define FLOOR(x, p, q) floor(x)
#define CEIL(x, p, q) ceil(x)
#define ROUND(x, p, q) rint(x)
#define SIGN(x, p, q) ((x) > 0 ? 1 : (x) < 0 ? -1 : (x) == 0 ? 0 : (x))
#define RECIPROCAL(x, p, q) (1.0f / (x))
#define SIN(x, p, q) sin(x)
#define COS(x, p, q) cos(x)
#define TAN(x, p, q) tan(x)
#define ASIN(x, p, q) asin(x)
#define ACOS(x, p, q) acos(x)
#define ATAN(x, p, q) atan(x)
#define SINH(x, p, q) sinh(x)
#define COSH(x, p, q) cosh(x)
#define ASINH(x, p, q) asinh(x)
#define ACOSH(x, p, q) acosh(x)
#define ATANH(x, p, q) atanh(x)
#define SQUARE(x, p, q) ((x) * (x))
#define CUBE(x, p, q) ((x) * (x) * (x))

#define IS_NAN(x, p, q) ((x) != (x))
#define IS_INF(x, p, q) (((p) != 0.0f && (x) == INFINITY) || ((q) != 0.0f && (x) == -INFINITY))
#define NOT(x, p, q) ((x) == 0)
#define BITWISE_NOT(x, p, q) (~(x))
#define ABS_INTEGER(x, p, q) ((x) < 0 ? -(x) : (x))

inline RESULT apply(FIRST a, SECOND b, THIRD c, float p, float q) {
    return (RESULT)FUNCTION(a, p, q);
}

// The end of every product and convolution kernel: scale, bias, residual, activation.
//
//   y = act(alpha * sum + beta * bias + residual)
//
// A kernel file defines, before this text, the vector that one work-item finishes at a time:
//   REAL     float4 | float16     LANES   4 | 16
//   LOAD     vload4 | vload16     STORE   vstore4 | vstore16
// ACT selects the activation (activation.rs); p and q are its parameters. All of them hand a NaN on, which is why
// fmax and clamp (they drop it) do not appear.

#ifndef ACT
#define ACT 0
#endif

// erf(x) = x P(x^2) / Q(x^2) on [-3.92, 3.92] and 1 beyond, relative error 4e-7 in float; own minimax fit. The
// built-in erf is 4 KB of code on GCN.
inline REAL erf_rational(REAL x) {
    REAL u = x * x;
    REAL p = (REAL)(2.050059513e-06f);
    p = p * u + (REAL)(2.848650029e-04f);
    p = p * u + (REAL)(3.765167232e-03f);
    p = p * u + (REAL)(5.274730151e-02f);
    p = p * u + (REAL)(1.903970737e-01f);
    p = p * u + (REAL)(1.128379146e+00f);
    REAL q = (REAL)(3.809050004e-05f);
    q = q * u + (REAL)(1.162412413e-03f);
    q = q * u + (REAL)(1.496831868e-02f);
    q = q * u + (REAL)(1.141050679e-01f);
    q = q * u + (REAL)(5.020677567e-01f);
    q = q * u + (REAL)(1.0f);
    REAL y = x * p / q;
    y = x > 3.92f ? (REAL)(1.0f) : y;
    return x < -3.92f ? (REAL)(-1.0f) : y;
}

inline REAL activate(REAL x, float p, float q) {
#if ACT == 0
    return x;
#elif ACT == 1
    return x < 0.0f ? (REAL)(0.0f) : x;
#elif ACT == 2
    return 0.5f * x * (1.0f + erf_rational(0.70710678f * x));
#elif ACT == 3
    // x/2 (1 + tanh u) = x / (1 + e^(-2u))
    REAL twice = 1.59576912f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exp(-twice));
#elif ACT == 4
    return tanh(x);
#elif ACT == 5
    return 1.0f / (1.0f + exp(-x));
#elif ACT == 6
    return x / (1.0f + exp(-x));
#elif ACT == 7
    REAL gate = x + 3.0f;
    gate = gate < 0.0f ? (REAL)(0.0f) : gate;
    gate = gate > 6.0f ? (REAL)(6.0f) : gate;
    return x * gate * 0.16666667f;
#elif ACT == 8
    REAL above = x < p ? (REAL)(p) : x;
    return above > q ? (REAL)(q) : above;
#elif ACT == 9
    return x < 0.0f ? p * x : x;
#else
#error "ACT is not an activation"
#endif
}

// The first `count` elements at p (all LANES if count is larger); with stride 0 one element for all lanes.
inline REAL load_lanes(__global const float *p, int stride, int count) {
    if (stride == 0) {
        return (REAL)(p[0]);
    }
    if (count >= LANES) {
        return LOAD(0, p);
    }
#if LANES == 4
    // No array: one that is indexed at run time goes to scratch memory on GCN.
    REAL v = (REAL)(0.0f);
    v.x = p[0];
    if (count > 1) v.y = p[1];
    if (count > 2) v.z = p[2];
    return v;
#else
    float lanes[LANES];
    for (int i = 0; i < LANES; i++) {
        lanes[i] = i < count ? p[i] : 0.0f;
    }
    return LOAD(0, lanes);
#endif
}

inline void store_lanes(REAL v, __global float *p, int count) {
    if (count >= LANES) {
        STORE(v, 0, p);
        return;
    }
#if LANES == 4
    p[0] = v.x;
    if (count > 1) p[1] = v.y;
    if (count > 2) p[2] = v.z;
#else
    float lanes[LANES];
    STORE(v, 0, lanes);
    for (int i = 0; i < count; i++) {
        p[i] = lanes[i];
    }
#endif
}

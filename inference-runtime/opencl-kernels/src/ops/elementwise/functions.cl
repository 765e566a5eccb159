// Functions of one float that OpenCL C lacks or that are dear on GCN.

// erf(x) = x P(x^2) / Q(x^2) on [-3.925, 3.925], +-1 beyond; own minimax fit, relative error 3.6e-7 in float. The
// built-in is 4 KB of code on GCN.
inline float erf_rational(float x) {
    const float c = x > 3.925f ? 3.925f : x < -3.925f ? -3.925f : x;
    const float u = c * c;
    float n = 2.046025202e-06f;
    n = n * u + 2.848425647e-04f;
    n = n * u + 3.772528842e-03f;
    n = n * u + 5.276923627e-02f;
    n = n * u + 1.905933321e-01f;
    n = n * u + 1.128379107e+00f;
    float d = 3.804769949e-05f;
    d = d * u + 1.163851586e-03f;
    d = d * u + 1.498315763e-02f;
    d = d * u + 1.141825393e-01f;
    d = d * u + 5.022416711e-01f;
    d = d * u + 1.0f;
    const float y = c * n / d;
    return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
}

// tanh(x) = x P(x^2) / Q(x^2) on [-9.02, 9.02], +-1 beyond; own minimax fit, relative error 3.4e-7 in float.
inline float tanh_rational(float x) {
    const float c = x > 9.02f ? 9.02f : x < -9.02f ? -9.02f : x;
    const float u = c * c;
    float n = 3.674529084e-11f;
    n = n * u + 1.111776484e-07f;
    n = n * u + 4.227402678e-05f;
    n = n * u + 4.425960593e-03f;
    n = n * u + 1.409921795e-01f;
    n = n * u + 1.0f;
    float d = 2.951233258e-09f;
    d = d * u + 2.603880830e-06f;
    d = d * u + 5.008363514e-04f;
    d = d * u + 2.920113318e-02f;
    d = d * u + 4.743255079e-01f;
    d = d * u + 1.0f;
    const float y = c * n / d;
    return y > 1.0f ? 1.0f : y < -1.0f ? -1.0f : y;
}

inline float sigmoid(float x) {
    return 1.0f / (1.0f + exp(-x));
}

// log(1 + e^x) without overflow
inline float softplus(float x) {
    return x > 0.0f ? x + log1p(exp(-x)) : log1p(exp(x));
}

// x tanh(softplus(x)); with e = e^x that is x n / (n + 2), n = e (e + 2)
inline float mish(float x) {
    const float e = exp(x);
    const float n = e * (e + 2.0f);
    return x > 20.0f ? x : x * (n / (n + 2.0f));
}

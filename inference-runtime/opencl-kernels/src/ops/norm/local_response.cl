// Local response normalization across channels, for x of [images, channels, behind]:
//
//   y = x / (bias + factor * sum of x^2 over `before` channels before to `after` channels after) ^ beta

__kernel void local_response(__global float *y, __global const float *x, uint count, int channels, int behind,
                             uint magic, uint shift, int before, int after, float factor, float bias, float beta) {
    const uint i = (uint)get_global_id(0);
    if (i >= count) {
        return;
    }
    const int channel = (int)(divide(i, magic, shift) % (uint)channels);
    const int first = channel > before ? channel - before : 0;
    const int last = channel + after < channels ? channel + after : channels - 1;
    __global const float *at = x + i - (size_t)(channel - first) * behind;
    float sum = 0.0f;
    for (int c = first; c <= last; c++, at += behind) {
        sum += *at * *at;
    }
    y[i] = x[i] / pow(bias + factor * sum, beta);
}

// Convolution for CPU runtimes, first step: zero padding, and one plane per phase of the stride.
//
// A window with stride s reads padded positions s (o + q) + r: tap t has phase r = t d mod s and quotient
// q = t d div s. With each phase in a plane of its own, every tap is a shift: it reads [r][o + q], contiguous in o.
//
//   placed[n * channels][phase][depth][height][width] = X[n * channels][phase + stride * place - before], or 0
//
// One work-item a row.

__kernel void place_phases(__global const float *x, __global float *placed, const int4 input /* D, H, W, planes */,
                           const int4 grid /* depth, height, width, - */,
                           const int4 phases /* along each axis, - */, const int4 stride, const int4 before) {
    const int row = get_global_id(0), phase = get_global_id(1), plane = get_global_id(2);
    if (row >= grid.x * grid.y) {
        return;
    }
    const int depth = row / grid.y, height = row - depth * grid.y;
    const int phase_w = phase % phases.z, rest = phase / phases.z;
    const int phase_h = rest % phases.y, phase_d = rest / phases.y;
    const int in_d = depth * stride.x + phase_d - before.x;
    const int in_h = height * stride.y + phase_h - before.y;
    const int first = phase_w - before.z, step = stride.z;
    const int count = phases.x * phases.y * phases.z;
    __global float *to = placed + (((size_t)plane * count + phase) * grid.x * grid.y + row) * grid.z;
    const bool inside = in_d >= 0 && in_d < input.x && in_h >= 0 && in_h < input.y;
    __global const float *from = x + (((size_t)plane * input.x + (inside ? in_d : 0)) * input.y + (inside ? in_h : 0)) * input.z;
    // Places [begin, end) lie inside the row.
    const int begin = inside ? min(grid.z, first >= 0 ? 0 : (-first + step - 1) / step) : grid.z;
    const int end = inside ? max(begin, min(grid.z, (input.z - first + step - 1) / step)) : grid.z;
    for (int i = 0; i < begin; i++) {
        to[i] = 0.0f;
    }
    if (step == 1) {
        for (int i = begin; i < end; i++) {
            to[i] = from[first + i];
        }
    } else {
        int i = begin;
        if (step == 2) {
            // 32 elements in, every other one out; the last one in is the one before the next one wanted.
            for (; first + 2 * i + 31 < input.z && i + 16 <= end; i += 16) {
                const float16 low = vload16(0, from + first + 2 * i), high = vload16(1, from + first + 2 * i);
                vstore16((float16)(low.even, high.even), 0, to + i);
            }
        }
        for (; i < end; i++) {
            to[i] = from[first + i * step];
        }
    }
    for (int i = end; i < grid.z; i++) {
        to[i] = 0.0f;
    }
}

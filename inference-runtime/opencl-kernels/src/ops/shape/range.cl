// Range: target[i] = start + i * delta
//
//   TYPE  float, int or long

#ifndef TYPE
#define TYPE float
#endif

__kernel void range(__global TYPE *target, uint count, TYPE start, TYPE delta) {
    const uint i = (uint)get_global_id(0);
    if (i < count) {
        target[i] = start + (TYPE)i * delta;
    }
}

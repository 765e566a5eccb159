// Put in front of every program. Vendor differences live here and nowhere else.

// Work-items report an index outside its axis here; the first report wins and fails the run.
// fault[0] is the code (0: none), fault[1] the index.
inline void report_fault(__global long *fault, int code, long index) {
    if (atomic_cmpxchg((volatile __global int *)fault, 0, code) == 0) {
        fault[1] = index;
    }
}

// The position that an index means on an axis of `length` elements, negative ones counting from the back. One that
// is out of range is reported and becomes 0, so that the work-item touches no foreign memory.
inline int checked_index(long index, int length, __global long *fault, int code) {
    const long position = index < 0 ? index + length : index;
    if (position < 0 || position >= length) {
        report_fault(fault, code, index);
        return 0;
    }
    return (int)position;
}

// n / d for n < 2^31 with the magic numbers of d (ops/movement/divisor.rs). An integer division by a run-time value
// costs some forty instructions on a GPU, this three.
inline uint divide(uint n, uint magic, uint shift) {
    return (mul_hi(n, magic) + n) >> shift;
}

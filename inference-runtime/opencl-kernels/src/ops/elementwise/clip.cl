// Clip(x, min, max): the upper bound wins over the lower one, a NaN stays, a bound that is NaN is none. Comes before
// broadcast.cl.

#ifndef FIRST
#define FIRST float
#endif
#define SECOND FIRST
#define THIRD FIRST
#define RESULT FIRST

inline RESULT apply(FIRST a, SECOND b, THIRD c, float p, float q) {
    const FIRST raised = a < b ? b : a;
    return raised > c ? c : raised;
}

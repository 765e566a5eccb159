// Where(condition, x, y). Comes before broadcast.cl. Elements are only moved, so types are unsigned integers of their
// size.

#ifndef SECOND
#define SECOND uint
#endif
#define FIRST uchar
#define THIRD SECOND
#define RESULT SECOND

inline RESULT apply(FIRST a, SECOND b, THIRD c, float p, float q) {
    return a ? b : c;
}

// Where element number `rest` of an index space lies in an operand. Lane 0 is the innermost of the `inner` axes that
// have another one outside; the outermost axis' stride is in lane 7, and it needs no division.
inline int locate(uint rest, int inner, int8 extents, int8 magics, int8 shifts, int8 strides) {
    int at = 0;
#define PEEL_ONE(n)                                                                                                    \
    if (n < inner) {                                                                                                   \
        const uint outer = divide(rest, (uint)magics.s##n, (uint)shifts.s##n);                                         \
        at += ((int)rest - (int)outer * extents.s##n) * strides.s##n;                                                  \
        rest = outer;                                                                                                  \
    }
    PEEL_ONE(0)
    PEEL_ONE(1)
    PEEL_ONE(2)
    PEEL_ONE(3)
    PEEL_ONE(4)
    PEEL_ONE(5)
    PEEL_ONE(6)
    return at + (int)rest * strides.s7;
}

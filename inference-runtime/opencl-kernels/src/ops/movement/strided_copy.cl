// Moves elements between two strided layouts of the same index space:
//
//     target[to + sum(i[a] * to_strides[a])] = source[from + sum(i[a] * from_strides[a])]
//
// Transpose, Slice, Expand, Concat, ... are all this, with other strides. Lane 0 of the axis arguments is the
// innermost of the `inner` axes that have another one outside; the outermost axis' strides are in lane 7, and it
// needs no division.
//
//   ELEMENT  what one work-item moves: uchar, ushort, uint, ulong, or uint4 for contiguous runs of 16 bytes.

#ifndef ELEMENT
#define ELEMENT uint
#endif

#define PEEL(n)                                                                                                        \
    if (n < inner) {                                                                                                   \
        const uint outer = divide(rest, (uint)magics.s##n, (uint)shifts.s##n);                                         \
        const int i = (int)rest - (int)outer * extents.s##n;                                                           \
        from += i * from_strides.s##n;                                                                                 \
        to += i * to_strides.s##n;                                                                                     \
        rest = outer;                                                                                                  \
    }

#define PEEL_ALL                                                                                                       \
    PEEL(0)                                                                                                            \
    PEEL(1)                                                                                                            \
    PEEL(2)                                                                                                            \
    PEEL(3)                                                                                                            \
    PEEL(4)                                                                                                            \
    PEEL(5)                                                                                                            \
    PEEL(6)                                                                                                            \
    from += (int)rest * from_strides.s7;                                                                               \
    to += (int)rest * to_strides.s7;

__kernel void strided_copy(__global const ELEMENT *source, __global ELEMENT *target, uint count, int inner,
                           int8 extents, int8 magics, int8 shifts, int8 from_strides, int8 to_strides, int from,
                           int to) {
    uint rest = (uint)get_global_id(0);
    if (rest >= count) {
        return;
    }
    PEEL_ALL
    target[to] = source[from];
}

// The same where the axis that is contiguous in the source (`columns`) is not the one that is contiguous in the
// target (`rows`): a tile goes through local memory, so that both sides are accessed in runs. The remaining axes
// are the batch, in dimension 2.

#define TILE 16

__kernel void transpose_tiles(__global const ELEMENT *source, __global ELEMENT *target, int inner, int8 extents,
                              int8 magics, int8 shifts, int8 from_strides, int8 to_strides, int from, int to,
                              int rows, int columns, int row_stride, int column_stride) {
    // One column more than needed: the transposed reads then fall into different banks.
    __local ELEMENT tile[TILE][TILE + 1];
    uint rest = (uint)get_global_id(2);
    PEEL_ALL

    const int x = (int)get_local_id(0);
    const int y = (int)get_local_id(1);
    const int first_column = (int)get_group_id(0) * TILE;
    const int first_row = (int)get_group_id(1) * TILE;

    if (first_row + y < rows && first_column + x < columns) {
        tile[y][x] = source[from + (first_row + y) * row_stride + first_column + x];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (first_column + y < columns && first_row + x < rows) {
        target[to + (first_column + y) * column_stride + first_row + x] = tile[x][y];
    }
}

// Trilu: keeps the elements of each matrix on one side of a diagonal, the others become zero.
//
//   ELEMENT  unsigned type of the element's size; zero is all bits zero in every type

#ifndef ELEMENT
#define ELEMENT uint
#endif

__kernel void trilu(__global const ELEMENT *source, __global ELEMENT *target, uint count, int columns,
                    uint columns_magic, uint columns_shift, int rows, uint rows_magic, uint rows_shift, int diagonal,
                    int upper) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint line = divide(id, columns_magic, columns_shift);
    const int column = (int)id - (int)line * columns;
    const int row = (int)line - (int)divide(line, rows_magic, rows_shift) * rows;
    const int above = column - row;
    target[id] = (upper ? above >= diagonal : above <= diagonal) ? source[id] : (ELEMENT)0;
}

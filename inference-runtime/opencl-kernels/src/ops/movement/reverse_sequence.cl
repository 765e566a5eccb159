// ReverseSequence: per batch entry, the first `length` time steps backwards, the others as they are.
//
// Tensors are seen as [outer, middle, inner], where one of the first two is time and the other the batch.
//
//   ELEMENT  what one work-item moves; runs of the inner extent are moved in wide elements

#ifndef ELEMENT
#define ELEMENT uint
#endif

__kernel void reverse_sequence(__global const ELEMENT *source, __global ELEMENT *target,
                               __global const long *sequence_lengths, __global long *fault, int code, uint count,
                               int inner, uint inner_magic, uint inner_shift, int middle, uint middle_magic,
                               uint middle_shift, int time, int time_is_outer) {
    const uint id = (uint)get_global_id(0);
    if (id >= count) {
        return;
    }
    const uint line = divide(id, inner_magic, inner_shift);
    const int at_inner = (int)id - (int)line * inner;
    int at_outer = (int)divide(line, middle_magic, middle_shift);
    int at_middle = (int)line - at_outer * middle;

    const long length = sequence_lengths[time_is_outer ? at_middle : at_outer];
    if (length < 0 || length > time) {
        report_fault(fault, code, length);
    }
    const int reversed = (int)clamp(length, (long)0, (long)time);
    int *at_time = time_is_outer ? &at_outer : &at_middle;
    if (*at_time < reversed) {
        *at_time = reversed - 1 - *at_time;
    }
    target[id] = source[(at_outer * middle + at_middle) * inner + at_inner];
}

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
    const int at_outer = (int)divide(line, middle_magic, middle_shift);
    const int at_middle = (int)line - at_outer * middle;

    const long length = sequence_lengths[time_is_outer ? at_middle : at_outer];
    if (length < 0 || length > time) {
        report_fault(fault, code, length);
    }
    const int reversed = (int)clamp(length, (long)0, (long)time);
    // Not through a pointer to either of them: that would put both into memory.
    const int at_time = time_is_outer ? at_outer : at_middle;
    const int from = at_time < reversed ? reversed - 1 - at_time : at_time;
    const int from_outer = time_is_outer ? from : at_outer;
    const int from_middle = time_is_outer ? at_middle : from;
    target[id] = source[(from_outer * middle + from_middle) * inner + at_inner];
}

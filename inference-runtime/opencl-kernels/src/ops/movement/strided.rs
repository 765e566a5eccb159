//! Copying between strided layouts: what most of moving data comes down to.
//!
//! An operator describes *which* element goes where ([`StridedCopy`]); this file decides how: as a plain copy of
//! bytes, in wide elements, through tiles or element by element.

use crate::ops::Reason;
use crate::ops::movement::divisor::Divisor;
use crate::plan::{Arg, Emitter, Launch, Source};
use crate::runtime::DeviceKind;
use crate::tensor::MAX_RANK;

const SOURCE: Source = Source {
    name: "strided_copy.cl",
    text: include_str!("strided_copy.cl"),
};

/// Bytes of the widest element that one work-item moves.
const WIDEST: usize = 16;

/// Side of a tile of `transpose_tiles`.
const TILE: usize = 16;

/// Work-group size of all one-dimensional kernels of these families.
pub(in crate::ops) const GROUP: [usize; 3] = [64, 1, 1];

/// One axis of the index space of a copy. Strides are in elements and may be 0 or negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Axis {
    /// How many indices.
    pub(in crate::ops) extent: usize,
    /// Distance between neighbours in the source.
    pub(in crate::ops) from: isize,
    /// Distance between neighbours in the target.
    pub(in crate::ops) to: isize,
}

/// For every index `i`: `target[to + Σ i[a]·axes[a].to] = source[from + Σ i[a]·axes[a].from]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct StridedCopy {
    /// The index space, outermost first.
    pub(in crate::ops) axes: Vec<Axis>,
    /// Position of index 0 in the source.
    pub(in crate::ops) from: isize,
    /// Position of index 0 in the target.
    pub(in crate::ops) to: isize,
}

impl StridedCopy {
    /// A copy that fills a dense target of these extents from a source with these strides.
    pub(in crate::ops) fn to_dense(extents: &[usize], from_strides: &[isize], from: isize) -> Self {
        let mut axes = Vec::with_capacity(extents.len());
        let mut to = 1;
        for (&extent, &from) in extents.iter().zip(from_strides).rev() {
            axes.push(Axis { extent, from, to });
            to *= extent as isize;
        }
        axes.reverse();
        Self { axes, from, to: 0 }
    }

    /// A copy of one element to `count` places of the target, `step` apart.
    pub(in crate::ops) fn spread(count: usize, step: usize, to: usize) -> Self {
        let axis = Axis {
            extent: count,
            from: 0,
            to: step as isize,
        };
        Self {
            axes: vec![axis],
            from: 0,
            to: to as isize,
        }
    }

    /// Records the copy of `input` to `output`, whose elements have `size` bytes.
    pub(in crate::ops) fn emit(
        self,
        emitter: &mut Emitter<'_>,
        input: usize,
        output: usize,
        size: usize,
    ) -> Result<(), Reason> {
        let copy = self.merged();
        if copy.count() == 0 {
            return Ok(());
        }
        if let Some(elements) = copy.contiguous() {
            let (from, to) = (copy.from as usize * size, copy.to as usize * size);
            emitter.copy((input, from), (output, to), elements * size);
            return Ok(());
        }
        let buffers = (emitter.read(input), emitter.write(output));
        copy.launch(emitter, buffers, size)
    }

    /// Records the copy between two buffers that need not be inputs or outputs.
    pub(in crate::ops) fn emit_between(
        self,
        emitter: &mut Emitter<'_>,
        buffers: (Arg, Arg),
        size: usize,
    ) -> Result<(), Reason> {
        let copy = self.merged();
        if copy.count() == 0 {
            return Ok(());
        }
        copy.launch(emitter, buffers, size)
    }

    fn launch(
        self,
        emitter: &mut Emitter<'_>,
        (source, target): (Arg, Arg),
        size: usize,
    ) -> Result<(), Reason> {
        self.check_reach()?;
        let launch = match self.tiles() {
            Some(tiles) if emitter.device().kind == DeviceKind::Gpu => tiles.launch(source, target, size)?,
            _ => {
                let (copy, width) = self.widened(size);
                copy.launch_plain(source, target, width)?
            }
        };
        emitter.launch(launch);
        Ok(())
    }

    /// Kernels calculate positions with 32 bits.
    fn check_reach(&self) -> Result<(), Reason> {
        let reach = |at: isize, stride: fn(&Axis) -> isize| {
            let furthest = |axis: &Axis| (axis.extent - 1) * stride(axis).unsigned_abs();
            index(at.unsigned_abs() + self.axes.iter().map(furthest).sum::<usize>())
        };
        index(self.count())?;
        reach(self.from, |axis| axis.from)?;
        reach(self.to, |axis| axis.to)?;
        Ok(())
    }

    fn count(&self) -> usize {
        self.axes.iter().map(|axis| axis.extent).product()
    }

    /// The length of the run, if source and target are one contiguous run each. Expects a merged copy.
    fn contiguous(&self) -> Option<usize> {
        match self.axes.as_slice() {
            [] => Some(1),
            [axis] if axis.from == 1 && axis.to == 1 => Some(axis.extent),
            _ => None,
        }
    }

    /// The same copy with as few axes as possible: axes of extent 1 go, neighbours that are dense within each other
    /// on both sides become one.
    pub(in crate::ops) fn merged(mut self) -> Self {
        let mut merged: Vec<Axis> = Vec::with_capacity(self.axes.len());
        for axis in self.axes.drain(..).filter(|axis| axis.extent != 1) {
            let inner = axis.extent as isize;
            match merged.last_mut() {
                Some(outer) if outer.from == axis.from * inner && outer.to == axis.to * inner => {
                    *outer = Axis {
                        extent: outer.extent * axis.extent,
                        ..axis
                    };
                }
                _ => merged.push(axis),
            }
        }
        self.axes = merged;
        self
    }

    /// The same copy in the widest elements that runs, strides and offsets allow, and their size in bytes.
    fn widened(mut self, size: usize) -> (Self, usize) {
        let Some((run, outer)) = self.axes.split_last_mut() else {
            return (self, size);
        };
        if run.from != 1 || run.to != 1 {
            return (self, size);
        }
        let distances = outer.iter().flat_map(|axis| [axis.from, axis.to]);
        let distances = distances.chain([self.from, self.to]).map(isize::unsigned_abs);
        let factor = widening(distances.chain([run.extent]), size);
        let divisor = factor as isize;
        run.extent /= factor;
        for axis in outer {
            axis.from /= divisor;
            axis.to /= divisor;
        }
        self.from /= divisor;
        self.to /= divisor;
        (self.merged(), size * factor)
    }

    /// The copy as tiles, if that pays.
    fn tiles(&self) -> Option<Tiles> {
        let (row, outer) = self.axes.split_last()?;
        // Narrower than this, a tile is mostly padding.
        let wide = |axis: &Axis| axis.extent >= TILE / 2;
        let at = outer.iter().position(|axis| axis.from == 1)?;
        let column = outer[at];
        if row.to != 1 || row.from <= 1 || !wide(row) || !wide(&column) {
            return None;
        }
        let mut batch = self.clone();
        batch.axes.pop();
        batch.axes.remove(at);
        Some(Tiles {
            batch,
            row: *row,
            column,
        })
    }

    fn launch_plain(&self, source: Arg, target: Arg, width: usize) -> Result<Launch, Reason> {
        let count = self.count();
        let mut args = vec![source, target, Arg::U32(count as u32)];
        args.extend(self.axis_args()?.moving());
        args.extend([Arg::I32(self.from as i32), Arg::I32(self.to as i32)]);
        Ok(Launch {
            source: SOURCE,
            kernel: "strided_copy",
            options: vec![element_option(width)],
            args,
            global: [count, 1, 1],
            local: GROUP,
        })
    }

    /// The axes as kernel arguments. Expects a copy of at most [`MAX_RANK`] axes.
    pub(in crate::ops) fn axis_args(&self) -> Result<AxisArgs, Reason> {
        if self.axes.len() > MAX_RANK {
            return Err(format!("a copy over {} axes", self.axes.len()));
        }
        let mut args = AxisArgs {
            inner: self.axes.len().saturating_sub(1) as i32,
            ..AxisArgs::default()
        };
        let Some((outermost, inner)) = self.axes.split_first() else {
            return Ok(args);
        };
        for (lane, axis) in inner.iter().rev().enumerate() {
            args.set(lane, axis);
        }
        args.set(MAX_RANK - 1, outermost);
        Ok(args)
    }
}

/// A copy as transposed tiles, batch by batch.
struct Tiles {
    batch: StridedCopy,
    /// Contiguous in the target.
    row: Axis,
    /// Contiguous in the source.
    column: Axis,
}

impl Tiles {
    fn launch(&self, source: Arg, target: Arg, size: usize) -> Result<Launch, Reason> {
        let (rows, columns) = (self.row.extent, self.column.extent);
        let mut args = vec![source, target];
        args.extend(self.batch.axis_args()?.moving());
        args.extend([
            Arg::I32(self.batch.from as i32),
            Arg::I32(self.batch.to as i32),
            Arg::I32(rows as i32),
            Arg::I32(columns as i32),
            Arg::I32(self.row.from as i32),
            Arg::I32(self.column.to as i32),
        ]);
        Ok(Launch {
            source: SOURCE,
            kernel: "transpose_tiles",
            options: vec![element_option(size)],
            args,
            global: [
                columns.next_multiple_of(TILE),
                rows.next_multiple_of(TILE),
                self.batch.count(),
            ],
            local: [TILE, TILE, 1],
        })
    }
}

/// An index space as kernels take it apart: lane 0 is the innermost of the `inner` axes that have another one
/// outside, lane 7 the outermost. Lanes without an axis hold zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::ops) struct AxisArgs {
    inner: i32,
    extents: [i32; MAX_RANK],
    magics: [i32; MAX_RANK],
    shifts: [i32; MAX_RANK],
    from: [i32; MAX_RANK],
    to: [i32; MAX_RANK],
}

impl AxisArgs {
    fn set(&mut self, lane: usize, axis: &Axis) {
        let divisor = Divisor::new(axis.extent);
        self.extents[lane] = axis.extent as i32;
        self.magics[lane] = divisor.magic as i32;
        self.shifts[lane] = divisor.shift as i32;
        self.from[lane] = axis.from as i32;
        self.to[lane] = axis.to as i32;
    }

    /// `int inner, int8 extents, int8 magics, int8 shifts, int8 from_strides`
    pub(in crate::ops) fn reading(self) -> [Arg; 5] {
        [
            Arg::I32(self.inner),
            Arg::Int8(self.extents),
            Arg::Int8(self.magics),
            Arg::Int8(self.shifts),
            Arg::Int8(self.from),
        ]
    }

    /// The same, and `int8 to_strides`
    pub(in crate::ops) fn moving(self) -> [Arg; 6] {
        let [inner, extents, magics, shifts, from] = self.reading();
        [inner, extents, magics, shifts, from, Arg::Int8(self.to)]
    }
}

/// How many neighbouring elements of `size` bytes can be moved as one, if runs and distances have these lengths.
pub(in crate::ops) fn widening(lengths: impl IntoIterator<Item = usize>, size: usize) -> usize {
    // The largest power of two that divides them all is the lowest bit set in any of them.
    let bits = lengths
        .into_iter()
        .fold(WIDEST / size, |bits, length| bits | length);
    1 << bits.trailing_zeros()
}

/// The build option that sets what one work-item moves, from its size in bytes.
pub(in crate::ops) fn element_option(size: usize) -> String {
    let name = match size {
        1 => "uchar",
        2 => "ushort",
        4 => "uint",
        8 => "ulong",
        _ => "uint4",
    };
    format!("-DELEMENT={name}")
}

/// A count or position as kernels know it: they calculate with 32 bits.
pub(in crate::ops) fn index(value: usize) -> Result<i32, Reason> {
    i32::try_from(value).map_err(|_| format!("{value} elements in one tensor, more than 2^31 - 1"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a copy means, without any cleverness.
    fn run(copy: &StridedCopy, source: &[u8], target: &mut [u8], size: usize) {
        fn go(axes: &[Axis], from: isize, to: isize, visit: &mut impl FnMut(usize, usize)) {
            match axes.split_first() {
                None => visit(from as usize, to as usize),
                Some((axis, inner)) => (0..axis.extent as isize)
                    .for_each(|i| go(inner, from + i * axis.from, to + i * axis.to, visit)),
            }
        }
        go(&copy.axes, copy.from, copy.to, &mut |from, to| {
            target[to * size..][..size].copy_from_slice(&source[from * size..][..size]);
        });
    }

    fn axes(axes: &[(usize, isize, isize)]) -> Vec<Axis> {
        axes.iter()
            .map(|&(extent, from, to)| Axis { extent, from, to })
            .collect()
    }

    #[test]
    fn dense_neighbours_become_one_axis() {
        let copy = StridedCopy::to_dense(&[2, 3, 1, 4], &[12, 4, 99, 1], 0).merged();
        assert_eq!(copy.axes, axes(&[(24, 1, 1)]));
        assert_eq!(copy.contiguous(), Some(24));
    }

    #[test]
    fn a_transposed_pair_stays_two_axes() {
        // [2, 3, 4, 5] -> [2, 3, 5, 4]
        let copy = StridedCopy::to_dense(&[2, 3, 5, 4], &[60, 20, 1, 5], 0).merged();
        assert_eq!(copy.axes, axes(&[(6, 20, 20), (5, 1, 4), (4, 5, 1)]));
        assert_eq!(copy.contiguous(), None);
    }

    #[test]
    fn repeated_and_reversed_axes_merge_with_their_like_only() {
        let repeated = StridedCopy::to_dense(&[2, 3, 4], &[0, 0, 1], 0).merged();
        assert_eq!(repeated.axes, axes(&[(6, 0, 4), (4, 1, 1)]));
        let reversed = StridedCopy::to_dense(&[2, 3], &[-3, -1], 5).merged();
        assert_eq!(reversed.axes, axes(&[(6, -1, 1)]));
        assert_eq!(reversed.contiguous(), None, "a reversed run is not a plain copy");
    }

    #[test]
    fn runs_are_moved_in_the_widest_elements_that_fit() {
        let rows = |inner: usize, gap: isize| {
            StridedCopy::to_dense(&[3, inner], &[gap, 1], 0)
                .merged()
                .widened(4)
        };
        assert_eq!(rows(8, 16).1, 16);
        assert_eq!(rows(8, 18).1, 8, "the gap is no multiple of 16 bytes");
        assert_eq!(rows(6, 16).1, 8, "the run is no multiple of 16 bytes");
        assert_eq!(rows(7, 16).1, 4);
        let (copy, width) = rows(4, 8);
        assert_eq!(
            (copy.axes, width),
            (axes(&[(3, 2, 1)]), 16),
            "one wide element a row"
        );
    }

    #[test]
    fn only_axes_that_swap_contiguity_are_tiled() {
        let transposed = |rows: usize, columns: usize| {
            StridedCopy::to_dense(
                &[2, columns, rows],
                &[(rows * columns) as isize, 1, columns as isize],
                0,
            )
            .merged()
        };
        let tiles = transposed(64, 32).tiles().expect("a plain transposition");
        assert_eq!((tiles.row.extent, tiles.column.extent), (64, 32));
        assert_eq!(tiles.batch.axes, axes(&[(2, 2048, 2048)]));
        assert!(transposed(64, 3).tiles().is_none(), "too narrow");
        assert!(
            StridedCopy::to_dense(&[32, 32, 64], &[64, 2048, 1], 0)
                .tiles()
                .is_none(),
            "the runs stay contiguous"
        );
    }

    #[test]
    fn positions_beyond_31_bits_are_refused() {
        let copy = StridedCopy::to_dense(&[1 << 16, 1 << 16], &[1, 1 << 16], 0).merged();
        let error = copy.check_reach().expect_err("4 Gi elements");
        assert!(error.contains("more than 2^31 - 1"), "{error}");
    }

    fn copies() -> impl Strategy<Value = (StridedCopy, usize, usize)> {
        // A dense target filled from any permutation of a dense source, with some axes repeated or reversed.
        let extents = prop::collection::vec(1..5_usize, 0..6);
        let shuffled = extents.prop_flat_map(|extents| {
            let order = Just((0..extents.len()).collect::<Vec<_>>()).prop_shuffle();
            let kinds = prop::collection::vec(0..3_u8, extents.len());
            (Just(extents), order, kinds)
        });
        (shuffled, 0..4_usize, prop::sample::select(vec![1, 2, 4, 8])).prop_map(
            |((extents, order, kinds), lead, size)| {
                let mut strides = vec![0; extents.len()];
                let mut step = 1;
                for &axis in &order {
                    strides[axis] = step;
                    step *= extents[axis] as isize;
                }
                let mut from = lead as isize;
                for (axis, kind) in kinds.iter().enumerate() {
                    match kind {
                        0 => {}
                        1 => strides[axis] = 0,
                        _ => {
                            from += strides[axis] * (extents[axis] as isize - 1);
                            strides[axis] = -strides[axis];
                        }
                    }
                }
                let copy = StridedCopy::to_dense(&extents, &strides, from);
                (copy, lead + step as usize, size)
            },
        )
    }

    proptest! {
        #[test]
        fn merging_and_widening_change_nothing((copy, source_elements, size) in copies()) {
            let source: Vec<u8> = (0..source_elements * size).map(|i| (i * 7 + i / 251) as u8).collect();
            let mut expected = vec![0; copy.count() * size];
            run(&copy, &source, &mut expected, size);

            let merged = copy.clone().merged();
            let mut target = vec![0; expected.len()];
            run(&merged, &source, &mut target, size);
            prop_assert_eq!(&target, &expected);
            prop_assert!(merged.axes.iter().all(|axis| axis.extent > 1));

            let (wide, width) = merged.widened(size);
            let mut target = vec![0; expected.len()];
            run(&wide, &source, &mut target, width);
            prop_assert_eq!(&target, &expected);
        }
    }
}

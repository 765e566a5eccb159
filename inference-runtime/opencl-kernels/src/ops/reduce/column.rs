//! One axis of a dense tensor: its columns, each so many elements so far apart.

/// The columns along one axis, or along several that are taken as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops) struct Columns {
    /// How many columns.
    pub(in crate::ops) count: usize,
    /// Elements of a column.
    pub(in crate::ops) length: usize,
    /// Distance of neighbours in a column.
    pub(in crate::ops) stride: usize,
}

impl Columns {
    /// The columns along `axis`.
    pub(in crate::ops) fn along(shape: &[usize], axis: usize) -> Self {
        let stride: usize = shape[axis + 1..].iter().product();
        Self {
            count: shape[..axis].iter().product::<usize>() * stride,
            length: shape[axis],
            stride,
        }
    }

    /// All axes from `axis` on as one.
    pub(in crate::ops) fn flattened(shape: &[usize], axis: usize) -> Self {
        Self {
            count: shape[..axis].iter().product(),
            length: shape[axis..].iter().product(),
            stride: 1,
        }
    }

    /// Position of a column's first element.
    pub(in crate::ops) fn start(&self, column: usize) -> usize {
        column / self.stride * self.length * self.stride + column % self.stride
    }

    /// Positions of a column's elements.
    pub(in crate::ops) fn positions(&self, column: usize) -> impl DoubleEndedIterator<Item = usize> {
        let (start, stride) = (self.start(column), self.stride);
        (0..self.length).map(move |i| start + i * stride)
    }
}

#[cfg(test)]
mod tests {
    use super::Columns;

    #[test]
    fn columns_walk_their_axis() {
        let columns = Columns::along(&[2, 3, 4], 1);
        assert_eq!((columns.count, columns.length, columns.stride), (8, 3, 4));
        assert_eq!(columns.positions(5).collect::<Vec<_>>(), [13, 17, 21]);
        let rows = Columns::flattened(&[2, 3, 4], 1);
        assert_eq!(
            rows.positions(1).collect::<Vec<_>>(),
            (12..24).collect::<Vec<_>>()
        );
    }
}

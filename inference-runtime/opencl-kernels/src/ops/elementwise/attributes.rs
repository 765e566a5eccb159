//! Checks on a node's attributes that several operators share.

use crate::ops::NodeView;

/// Refuses a node with attributes beyond these: one that is not known might change the meaning.
pub(in crate::ops) fn only(node: &NodeView<'_>, known: &[&str]) -> Result<(), String> {
    match node.attributes().names().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("attribute '{name}' is not known")),
        None => Ok(()),
    }
}

/// A 0-or-1 attribute.
pub(in crate::ops) fn flag(node: &NodeView<'_>, name: &str, default: bool) -> Result<bool, String> {
    match node.int(name, i64::from(default)) {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(format!("attribute '{name}' is {other}, neither 0 nor 1")),
    }
}

/// An axis attribute or input counted from the front.
pub(in crate::ops) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(counted)
        .ok()
        .filter(|&counted| counted < rank)
        .ok_or_else(|| format!("axis {axis} is out of range for {rank} axes"))
}

#[cfg(test)]
mod tests {
    use super::axis;

    #[test]
    fn axes_count_from_either_end() {
        assert_eq!(axis(-1, 3), Ok(2));
        assert_eq!(axis(0, 3), Ok(0));
        assert!(axis(3, 3).is_err());
        assert!(axis(-4, 3).is_err());
        assert!(axis(0, 0).is_err());
        assert!(axis(i64::MIN, 2).is_err());
    }
}

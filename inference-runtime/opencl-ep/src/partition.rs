//! Which supported nodes may become one: groups that no path leaves and enters again.
//!
//! Each node gets a level: it grows by one wherever a path crosses between supported and unsupported nodes. Supported
//! nodes of one level form a group. A path that left a group through an unsupported node would have climbed two
//! levels before it could come back, so every group is convex, and there are no more groups than the longest
//! alternation in the graph makes necessary: a model without unsupported nodes is one group.

/// Groups of supported nodes, each in the given order; `producers[i]` are the nodes whose results node `i` reads.
///
/// Nodes are in topological order: producers come before their readers.
pub(crate) fn groups(producers: &[Vec<usize>], supported: &[bool]) -> Vec<Vec<usize>> {
    let levels = postpone(producers, supported, earliest(producers, supported));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for node in (0..supported.len()).filter(|&n| supported[n]) {
        let group = levels[node] / 2;
        if groups.len() <= group {
            groups.resize_with(group + 1, Vec::new);
        }
        groups[group].push(node);
    }
    groups.retain(|g| !g.is_empty());
    groups
}

/// The lowest levels: even for supported nodes, odd for the others.
fn earliest(producers: &[Vec<usize>], supported: &[bool]) -> Vec<usize> {
    let mut levels = Vec::with_capacity(supported.len());
    for (node, reads) in producers.iter().enumerate() {
        let parity = usize::from(!supported[node]);
        let level = reads
            .iter()
            .map(|&p| levels[p] + usize::from(supported[p] != supported[node]))
            .max()
            .unwrap_or(parity);
        levels.push(level);
    }
    levels
}

/// Moves each supported node to the group of its readers where nothing forces it to be earlier: arithmetic on shapes
/// then lies beside the node that needs the shape, which must know it when a plan is made.
fn postpone(producers: &[Vec<usize>], supported: &[bool], mut levels: Vec<usize>) -> Vec<usize> {
    let mut latest: Vec<Option<usize>> = vec![None; supported.len()];
    for node in (0..supported.len()).rev() {
        if supported[node]
            && let Some(level) = latest[node]
        {
            levels[node] = level;
        }
        for &producer in &producers[node] {
            let bound = levels[node] - usize::from(supported[producer] != supported[node]);
            latest[producer] = Some(latest[producer].map_or(bound, |l| l.min(bound)));
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph as text: one node per entry, its support and whom it reads.
    fn grouped(nodes: &[(bool, &[usize])]) -> Vec<Vec<usize>> {
        let producers: Vec<_> = nodes.iter().map(|(_, reads)| reads.to_vec()).collect();
        let supported: Vec<_> = nodes.iter().map(|(s, _)| *s).collect();
        let groups = groups(&producers, &supported);
        assert_convex(&producers, &supported, &groups);
        groups
    }

    /// No path from a group to itself through a node outside.
    fn assert_convex(producers: &[Vec<usize>], supported: &[bool], groups: &[Vec<usize>]) {
        let placed: usize = groups.iter().map(Vec::len).sum();
        assert_eq!(
            placed,
            supported.iter().filter(|&&s| s).count(),
            "every supported node once"
        );
        for group in groups {
            let inside = |n: usize| group.contains(&n);
            // tainted: reachable from the group through at least one node outside it
            let mut tainted = vec![false; supported.len()];
            let mut reached = vec![false; supported.len()];
            for n in 0..supported.len() {
                let reads = &producers[n];
                tainted[n] = reads.iter().any(|&p| tainted[p] || (reached[p] && !inside(p)));
                reached[n] = inside(n) || reads.iter().any(|&p| reached[p]);
                assert!(!(inside(n) && tainted[n]), "node {n} is read around {group:?}");
            }
        }
    }

    #[test]
    fn a_graph_of_supported_nodes_is_one_group() {
        assert_eq!(
            grouped(&[(true, &[]), (true, &[0]), (true, &[]), (true, &[1, 2])]),
            [[0, 1, 2, 3]]
        );
    }

    #[test]
    fn an_unsupported_node_in_a_chain_splits_it() {
        assert_eq!(grouped(&[(true, &[]), (false, &[0]), (true, &[1])]), [[0], [2]]);
    }

    #[test]
    fn an_unsupported_node_beside_the_chain_does_not_split_it() {
        assert_eq!(
            grouped(&[(true, &[]), (false, &[0]), (true, &[0]), (true, &[2])]),
            [[0, 2, 3]]
        );
    }

    #[test]
    fn unsupported_nodes_at_the_front_do_not_split_their_readers() {
        assert_eq!(grouped(&[(false, &[]), (true, &[]), (true, &[0, 1])]), [[1, 2]]);
    }

    #[test]
    fn a_bypass_of_an_unsupported_node_is_not_closed() {
        // 0 → 1(unsupported) → 2 and 0 → 2
        assert_eq!(
            grouped(&[(true, &[]), (false, &[0]), (true, &[0, 1])]),
            [[0], [2]]
        );
    }

    #[test]
    fn shape_arithmetic_lies_with_its_reader() {
        // 0 → 1(unsupported) → 3, and 2 is read by 3 only
        assert_eq!(
            grouped(&[(true, &[]), (false, &[0]), (true, &[]), (true, &[1, 2])]),
            [vec![0], vec![2, 3]]
        );
    }

    #[test]
    fn any_graph_gives_convex_groups() {
        let mut state = 1_u64;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..2000 {
            let count = 1 + random(14);
            let mut producers: Vec<Vec<usize>> = Vec::new();
            let mut supported = Vec::new();
            for n in 0..count {
                let reads = if n == 0 { 0 } else { random(3) };
                producers.push((0..reads).map(|_| random(n)).collect());
                supported.push(random(3) > 0);
            }
            let groups = groups(&producers, &supported);
            assert_convex(&producers, &supported, &groups);
        }
    }
}

//! Steps as tables: a letter a replica.

use super::{Replica, Step, Wanted, step};

/// `r`eady, `l`oading, `f`ailed, `x` lost, `d` being deleted; a number before it is the revision (default 2).
fn replicas(text: &str) -> Vec<Replica> {
    text.split_whitespace()
        .enumerate()
        .map(|(index, word)| {
            let (revision, state) = word.split_at(word.len() - 1);
            Replica {
                name: format!("{index}"),
                revision: revision.parse().unwrap_or(2),
                ready: matches!(state, "r" | "x" | "d"),
                failed: state == "f",
                lost: state == "x",
                leaving: state == "d",
            }
        })
        .collect()
}

fn of(text: &str, target: u32, surge: u32, unavailable: u32) -> Step {
    step(
        &replicas(text),
        Wanted {
            revision: 2,
            replicas: target,
            max_surge: surge,
            max_unavailable: unavailable,
        },
    )
}

fn expect(text: &str, limits: (u32, u32, u32), create: u32, delete: &[&str]) {
    let now = of(text, limits.0, limits.1, limits.2);
    assert_eq!(
        (
            now.create,
            now.delete.iter().map(String::as_str).collect::<Vec<_>>()
        ),
        (create, delete.to_vec()),
        "{text} towards {limits:?}"
    );
}

#[test]
fn an_empty_deployment_gets_all_replicas_at_once() {
    expect("", (3, 1, 0), 3, &[]);
}

#[test]
fn a_complete_deployment_is_left_alone() {
    expect("r r r", (3, 1, 0), 0, &[]);
    assert!(of("r r r", 3, 1, 0).is_empty());
}

#[test]
fn a_new_revision_comes_up_before_an_old_one_goes() {
    expect("1r 1r 1r", (3, 1, 0), 1, &[]);
    expect("1r 1r 1r l", (3, 1, 0), 0, &[]);
    expect("1r 1r 1r r", (3, 1, 0), 0, &["0"]);
    expect("1d 1r 1r r", (3, 1, 0), 1, &[]);
}

#[test]
fn without_surge_an_old_one_goes_first() {
    expect("1r 1r", (2, 0, 1), 0, &["0"]);
    expect("1d 1r", (2, 0, 1), 1, &[]);
    expect("1r l", (2, 0, 1), 0, &[]);
}

#[test]
fn neither_surge_nor_missing_replicas_still_moves() {
    expect("1r", (1, 0, 0), 1, &[]);
}

#[test]
fn an_old_one_that_failed_goes_at_once() {
    expect("1f 1r", (2, 1, 0), 2, &["0"]);
}

#[test]
fn an_old_one_that_does_not_serve_goes_when_it_is_one_more_than_needed() {
    expect("1l 1r", (2, 1, 0), 1, &[]);
    expect("1l 1r", (2, 1, 1), 1, &["0"]);
    expect("1l 1r r", (2, 1, 0), 0, &["0"]);
    expect("1l 1l 1l", (3, 0, 1), 0, &["0"]);
}

#[test]
fn an_old_one_that_starts_anew_while_the_newest_does_not_get_ready_is_waited_for() {
    expect("1l l", (1, 1, 0), 0, &[]);
    expect("1l f", (1, 1, 0), 1, &[]);
    expect("1l f f", (1, 1, 0), 0, &[]);
    expect("1l 1l 1l l", (3, 1, 0), 0, &[]);
}

#[test]
fn scaling_down_lets_go_of_what_does_not_serve_first() {
    expect("r l r l", (2, 1, 0), 0, &["1", "3"]);
    expect("r r r", (1, 1, 0), 0, &["0", "1"]);
    expect("r x r", (1, 1, 0), 0, &["1", "0"]);
}

#[test]
fn scaling_to_none_lets_everything_go() {
    expect(
        "r l f x 1r 1l 1f 1x d",
        (0, 1, 0),
        0,
        &["5", "6", "1", "2", "7", "3", "4", "0"],
    );
}

#[test]
fn a_lost_replica_is_replaced_at_once_and_goes_when_that_serves() {
    expect("r x", (2, 1, 0), 1, &[]);
    expect("r x l", (2, 1, 0), 0, &[]);
    expect("r x r", (2, 1, 0), 0, &["1"]);
}

#[test]
fn a_node_that_comes_back_makes_the_replacement_superfluous() {
    expect("r r l", (2, 1, 0), 0, &["2"]);
}

#[test]
fn a_failed_replica_is_tried_elsewhere_a_bounded_number_of_times() {
    expect("r f", (2, 1, 0), 1, &[]);
    expect("r f f", (2, 1, 0), 0, &[]);
    expect("r f f", (2, 2, 0), 1, &[]);
    expect("f", (1, 0, 1), 1, &[]);
    expect("f f", (1, 0, 1), 0, &[]);
}

#[test]
fn a_failed_replica_goes_when_its_replacement_serves() {
    expect("r f r", (2, 1, 0), 0, &["1"]);
}

#[test]
fn a_revision_that_fails_leaves_the_old_one_serving() {
    expect("1r 1r f", (2, 1, 0), 1, &[]);
    expect("1r 1r f f f", (2, 1, 0), 0, &[]);
}

#[test]
fn more_than_allowed_does_not_grow() {
    expect("1r 1r 1r 1r", (2, 1, 0), 0, &["0", "1"]);
}

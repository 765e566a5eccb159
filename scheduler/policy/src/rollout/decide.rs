//! `(replicas, wanted) → step`.

use super::{Replica, Step, Wanted};

/// What to make and what to let go now.
///
/// With neither surge nor missing replicas allowed nothing could ever be replaced: then one extra is used.
///
/// ```
/// use afterglow_policy::rollout::{Replica, Wanted, step};
///
/// let replica = |name: &str, revision, ready| Replica {
///     name: name.to_owned(),
///     revision,
///     ready,
///     failed: false,
///     lost: false,
///     leaving: false,
/// };
/// let wanted = Wanted { revision: 2, replicas: 2, max_surge: 1, max_unavailable: 0 };
///
/// // Revision 2 appears: one more than wanted is made, nothing is let go yet.
/// let now = step(&[replica("a", 1, true), replica("b", 1, true)], wanted);
/// assert_eq!((now.create, now.delete.len()), (1, 0));
///
/// // It serves: an old one goes.
/// let now = step(&[replica("a", 1, true), replica("b", 1, true), replica("c", 2, true)], wanted);
/// assert_eq!((now.create, now.delete), (0, vec!["a".to_owned()]));
/// ```
pub fn step(replicas: &[Replica], wanted: Wanted) -> Step {
    let target = wanted.replicas as usize;
    let surge = if wanted.max_surge == 0 && wanted.max_unavailable == 0 {
        1
    } else {
        wanted.max_surge as usize
    };
    let count = |which: &dyn Fn(&Replica) -> bool| replicas.iter().filter(|replica| which(replica)).count();
    let newest = |replica: &Replica| replica.revision == wanted.revision;

    let active = count(&is_active);
    let newest_active = count(&|replica| newest(replica) && is_active(replica));
    let newest_failed = count(&|replica| newest(replica) && has_failed(replica));
    let serving = count(&serves);
    let newest_serving = count(&|replica| newest(replica) && serves(replica));
    let complete = newest_serving >= target;
    let least = target.saturating_sub(wanted.max_unavailable as usize);

    // Room is what is left before anything is deleted: a deletion that does not get through must not cost the limit.
    let room = (target + surge).saturating_sub(active);
    let tries = (target + surge.max(1)).saturating_sub(newest_active + newest_failed);
    let create = target.saturating_sub(newest_active).min(room).min(tries);

    let mut spare_newest = newest_active.saturating_sub(target);
    let mut spare_serving = serving.saturating_sub(least);
    // An old one that does not serve right now may do so again in a moment, and nobody makes another of its revision. So what
    // of the newest has yet to serve does not count against it.
    let mut spare_old = (active - newest_active + newest_serving).saturating_sub(least);

    let mut candidates: Vec<&Replica> = replicas.iter().filter(|replica| !replica.leaving).collect();
    candidates.sort_by_key(|replica| (serves(replica), replica.lost, newest(replica), &replica.name));
    let mut delete = Vec::new();
    for replica in candidates {
        let goes = if replica.lost {
            complete
        } else if replica.failed {
            complete || !newest(replica)
        } else if newest(replica) {
            // Those that serve come last, so what remains of the newest then serves, and is `target` many.
            take(&mut spare_newest)
        } else {
            // Those that do not serve come first, so this one is the last that `spare_old` can mean.
            take(if replica.ready {
                &mut spare_serving
            } else {
                &mut spare_old
            })
        };
        if goes {
            delete.push(replica.name.clone());
        }
    }
    Step {
        create: u32::try_from(create).unwrap_or(u32::MAX),
        delete,
    }
}

/// Whether it serves or may come to.
pub(super) fn is_active(replica: &Replica) -> bool {
    !replica.failed && !replica.lost && !replica.leaving
}

/// Whether it is a record of a failure.
fn has_failed(replica: &Replica) -> bool {
    replica.failed && !replica.lost && !replica.leaving
}

/// Whether it answers requests, as far as is known.
pub(super) fn serves(replica: &Replica) -> bool {
    replica.ready && is_active(replica)
}

/// Takes one off a budget, if there is one.
fn take(budget: &mut usize) -> bool {
    let some = *budget > 0;
    *budget = budget.saturating_sub(1);
    some
}

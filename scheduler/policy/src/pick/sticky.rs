//! Sessions: the same key goes to the same replica, without anybody remembering anything.
//!
//! Rendezvous hashing: each replica gets a number from the key and its own name, the highest wins. When a replica goes, only
//! its keys move. Schedulers agree without talking. When one comes it wins some keys; who remembers where a session was
//! (`home`) leaves it there, so that a session moves only when its replica is gone or has too much to do.
//!
//! A bound keeps one loud session, or an unlucky spread, from drowning a replica: one that has more than 1.25 times the mean
//! load, plus one request, is passed over, and the next in the key's own order answers.

use super::{Because, Candidate, Pick};

/// The replica of a session, or the next in the session's order that is within the bound.
pub(super) fn pick(candidates: &[(usize, &Candidate)], session: &str, home: Option<&str>) -> Option<Pick> {
    let mut order: Vec<((bool, u64), usize, &Candidate)> = candidates
        .iter()
        .map(|(index, candidate)| {
            let at_home = home == Some(candidate.id.as_str());
            ((at_home, weight(session, &candidate.id)), *index, *candidate)
        })
        .collect();
    // Equal weights are next to impossible; the name decides, so that the order of the list does not.
    order.sort_by(|left, right| right.0.cmp(&left.0).then_with(|| left.2.id.cmp(&right.2.id)));

    let total: u64 = order
        .iter()
        .map(|(_, _, candidate)| u64::from(candidate.load()))
        .sum();
    let count = order.len() as u64;
    let within = |candidate: &Candidate| 4 * u64::from(candidate.load()) * count <= 5 * total + 4 * count;
    // The least loaded has at most the mean, so one is always within.
    let (rank, (_, index, _)) = order
        .iter()
        .enumerate()
        .find(|(_, (_, _, candidate))| within(candidate))?;
    let because = if rank == 0 {
        Because::Session
    } else {
        Because::SessionOverflow
    };
    Some(Pick {
        index: *index,
        because,
    })
}

/// FNV-1a over `key`, a byte that no UTF-8 text holds, and `id`; then the last steps of `SplitMix64`, because FNV alone leaves
/// names that differ in their last letter close together. It must stay as it is: two versions of the scheduler that run
/// side by side have to agree.
fn weight(key: &str, id: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in key.bytes().chain([0xff]).chain(id.bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_never_changes_between_versions() {
        assert_eq!(weight("", ""), 0x4f2d_b50f_1240_40cd);
        assert_eq!(weight("alice", "default/bert-1-abcde"), 0x0518_9789_2ae0_f8a2);
    }

    #[test]
    fn sessions_spread_evenly_over_names_that_differ_in_one_letter() {
        let ids = ["m-1-aaaaa", "m-1-aaaab", "m-1-aaaac", "m-1-aaaad"];
        let mut won = [0_u32; 4];
        for session in 0..4000 {
            let key = format!("session-{session}");
            let best = (0..4).max_by_key(|place| weight(&key, ids[*place])).unwrap();
            won[best] += 1;
        }
        assert!(won.iter().all(|count| (900..1100).contains(count)), "{won:?}");
    }
}

//! `(candidates, request, strategy, random) → pick`.

use super::{Because, Candidate, Pick, Request, Strategy, score, sticky};

/// The replica that should answer `request`, or `None` if every candidate has refused it (or there is none).
///
/// Only those of the lowest tier that has any left come into question, for sessions and for the only replica of a revision too:
/// a replica in doubt is asked when those that are not have refused.
///
/// Candidates that are equally good, within what can be known, are drawn from by `random`: schedulers that decide at the
/// same moment from the same reports must not all pick the same replica. Any number will do, the same number gives the
/// same answer.
///
/// ```
/// use afterglow_policy::pick::{Candidate, Request, Strategy, pick};
///
/// let replica = |id: &str, waiting, run_microseconds| Candidate {
///     id: id.to_owned(),
///     waiting,
///     running: 1,
///     max_batch_size: 1,
///     run_microseconds,
///     gflops: 0,
///     on_cpu: false,
///     upload_bytes_per_second: 0,
///     report_age_microseconds: 0,
///     tier: 0,
/// };
/// let replicas = [replica("default/slow", 0, 30_000), replica("default/fast", 2, 1_000)];
///
/// // Two wait at the fast one, and it still answers first.
/// let answer = pick(&replicas, &Request::default(), Strategy::Adaptive, 7).unwrap();
/// assert_eq!(answer.index, 1);
/// let answer = pick(&replicas, &Request::default(), Strategy::LeastLoaded, 7).unwrap();
/// assert_eq!(answer.index, 0);
/// ```
pub fn pick(candidates: &[Candidate], request: &Request, strategy: Strategy, random: u64) -> Option<Pick> {
    let mut able: Vec<(usize, &Candidate)> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| !request.excluded.contains(&candidate.id))
        .collect();
    let best = able.iter().map(|(_, candidate)| candidate.tier).min()?;
    able.retain(|(_, candidate)| candidate.tier == best);
    if let [(index, _)] = able[..] {
        let because = Because::Only;
        return Some(Pick { index, because });
    }
    if let Some(session) = &request.session {
        return sticky::pick(&able, session, request.home.as_deref());
    }
    let those: Vec<&Candidate> = able.iter().map(|(_, candidate)| *candidate).collect();
    let best = match strategy {
        Strategy::LeastLoaded => score::least_loaded(&those),
        Strategy::GpuMatch => score::gpu_match(&those),
        Strategy::Adaptive => score::adaptive(&those, request.bytes),
    };
    let (place, because) = draw(best, &those, random)?;
    let index = able[place].0;
    Some(Pick { index, because })
}

/// One of those that are equally good. In the order of their names, so that the order of the list does not matter.
fn draw(mut best: Vec<(usize, Because)>, those: &[&Candidate], random: u64) -> Option<(usize, Because)> {
    best.sort_by(|(left, _), (right, _)| those[*left].id.cmp(&those[*right].id));
    let count = u64::try_from(best.len()).ok().filter(|count| *count > 0)?;
    best.into_iter().nth((random % count) as usize)
}

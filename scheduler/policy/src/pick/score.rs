//! The strategies: each gives the candidates that are best by it, as equals.

use super::{Because, Candidate};

/// A replica reports at least once a second; what is silent for longer may be gone.
const REPORT_MICROSECONDS: u64 = 1_000_000;
/// Expected where nothing at all is known of anybody's runs. Any number would do: it is the same for all.
const UNKNOWN_RUN_MICROSECONDS: u64 = 10_000;
/// So many times faster than the others' runs and its own GFLOP/s suggest, and no more, a replica is believed to be. What is
/// faster still usually fails fast.
const BELIEVED: u64 = 8;

/// The fewest requests. Who reports comes before who is silent.
pub(super) fn least_loaded(candidates: &[&Candidate]) -> Vec<(usize, Because)> {
    let loads: Vec<u64> = candidates
        .iter()
        .map(|candidate| u64::from(candidate.load()) + (u64::from(silence(candidate) > 0) << u32::BITS))
        .collect();
    let Some(least) = loads.iter().min() else {
        return Vec::new();
    };
    equals(&loads, *least, |place| Because::LeastLoaded {
        load: candidates[place].load(),
    })
}

/// The shortest run; runs that differ by less than a quarter are equals, and the least loaded of those is picked. Cards before
/// processors, those that report before those that are silent.
pub(super) fn gpu_match(candidates: &[&Candidate]) -> Vec<(usize, Because)> {
    let runs = runs(candidates);
    let class = |place: usize| (silence(candidates[place]) > 0, candidates[place].on_cpu);
    let Some(first) = (0..candidates.len()).map(class).min() else {
        return Vec::new();
    };
    let shortest = (0..candidates.len())
        .filter(|place| class(*place) == first)
        .map(|place| runs[place])
        .min()
        .unwrap_or(0);
    let loads: Vec<u64> = (0..candidates.len())
        .map(|place| {
            if class(place) == first && runs[place] <= shortest.saturating_add(shortest / 4) {
                u64::from(candidates[place].load())
            } else {
                u64::MAX
            }
        })
        .collect();
    let least = loads.iter().copied().min().unwrap_or(0);
    equals(&loads, least, |place| Because::GpuMatch {
        run_microseconds: runs[place],
    })
}

/// The earliest expected answer; answers that differ by less than a sixteenth are equals, and the least loaded is picked.
pub(super) fn adaptive(candidates: &[&Candidate], bytes: u64) -> Vec<(usize, Because)> {
    let runs = runs(candidates);
    let uploads = uploads(candidates, bytes);
    let answers: Vec<u64> = candidates
        .iter()
        .enumerate()
        .map(|(place, candidate)| {
            half_runs(candidate)
                .saturating_mul(runs[place])
                .div_ceil(2)
                .saturating_add(uploads[place])
                .saturating_add(silence(candidate))
        })
        .collect();
    let Some(earliest) = answers.iter().copied().min() else {
        return Vec::new();
    };
    let loads: Vec<u64> = candidates
        .iter()
        .enumerate()
        .map(|(place, candidate)| {
            if answers[place] <= earliest.saturating_add(earliest / 16) {
                u64::from(candidate.load())
            } else {
                u64::MAX
            }
        })
        .collect();
    let least = loads.iter().copied().min().unwrap_or(0);
    equals(&loads, least, |place| Because::Adaptive {
        answer_microseconds: answers[place],
    })
}

fn equals(values: &[u64], best: u64, because: impl Fn(usize) -> Because) -> Vec<(usize, Because)> {
    values
        .iter()
        .enumerate()
        .filter(|(_, value)| **value == best)
        .map(|(place, _)| (place, because(place)))
        .collect()
}

/// How long a candidate is overdue with its report: that long, at least, it is expected to need more. So a replica that died
/// attracts nothing while the connection to it is not yet known to be dead.
fn silence(candidate: &Candidate) -> u64 {
    candidate
        .report_age_microseconds
        .saturating_sub(REPORT_MICROSECONDS)
}

/// Halves of runs until a new request is done: what runs now is half through on average, what waits fills runs of its own,
/// and the new request shares the run of those that are left over.
pub(super) fn half_runs(candidate: &Candidate) -> u64 {
    let batch = u64::from(candidate.max_batch_size.max(1));
    let running = u64::from(candidate.running).div_ceil(batch);
    let under_way = (2 * running).saturating_sub(u64::from(running > 0));
    under_way + 2 * (u64::from(candidate.waiting) / batch) + 2
}

/// Microseconds of a run of each candidate. What is not known is guessed from the others, in proportion to GFLOP/s where
/// both are known: a replica that has not run yet is neither a magnet nor shunned.
fn runs(candidates: &[&Candidate]) -> Vec<u64> {
    let known: Vec<&&Candidate> = candidates
        .iter()
        .filter(|candidate| candidate.run_microseconds > 0)
        .collect();
    let work = median(
        known
            .iter()
            .filter(|candidate| candidate.gflops > 0)
            .map(|candidate| candidate.run_microseconds.saturating_mul(candidate.gflops))
            .collect(),
    );
    let run = median(known.iter().map(|candidate| candidate.run_microseconds).collect());
    let gflops = median(
        candidates
            .iter()
            .map(|candidate| candidate.gflops)
            .filter(|gflops| *gflops > 0)
            .collect(),
    );
    candidates
        .iter()
        .map(|candidate| {
            let guess = match (work, run, gflops) {
                (Some(work), ..) if candidate.gflops > 0 => work / candidate.gflops,
                (_, Some(run), _) => run,
                (_, None, Some(gflops)) if candidate.gflops > 0 => {
                    UNKNOWN_RUN_MICROSECONDS.saturating_mul(gflops) / candidate.gflops
                }
                _ => UNKNOWN_RUN_MICROSECONDS,
            };
            match candidate.run_microseconds {
                0 => guess.max(1),
                measured => measured.max(guess / BELIEVED),
            }
        })
        .collect()
}

/// Microseconds for `bytes` to each candidate's device; the median of the others where it is not known.
fn uploads(candidates: &[&Candidate], bytes: u64) -> Vec<u64> {
    let time =
        |speed: u64| (u128::from(bytes) * 1_000_000 / u128::from(speed)).min(u128::from(u64::MAX)) as u64;
    let known = candidates
        .iter()
        .map(|candidate| candidate.upload_bytes_per_second)
        .filter(|speed| *speed > 0)
        .collect();
    let neutral = median(known);
    candidates
        .iter()
        .map(|candidate| match candidate.upload_bytes_per_second {
            0 => neutral.map_or(0, time),
            speed => time(speed),
        })
        .collect()
}

/// The middle one, the upper of two.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

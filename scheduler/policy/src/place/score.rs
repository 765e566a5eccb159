//! The best of the devices that will do.

use std::cmp::Reverse;

use super::filter::Fit;
use super::{Kind, Placement, Wish};

/// What a device is judged by, most important first; the smallest is the best. The last two are names, so that no two
/// devices are equal and the same question has the same answer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank<'a> {
    /// Cards before processors.
    kind: Kind,
    /// Replicas of the same deployment on the node: the loss of a node should cost one of them.
    on_node: usize,
    /// Replicas of the same deployment on the device: two on one share what one would have had.
    on_device: usize,
    /// Memory that stays free, in quarters of the device: room for others, but no hair-splitting.
    free_quarters: Reverse<u64>,
    /// Whether the node has no replica of the same file: one that has, has it in its cache.
    fetch: bool,
    /// Microseconds of a row, measured or guessed.
    speed: u64,
    /// Memory that stays free, exactly.
    free: Reverse<u64>,
    node: &'a str,
    device: &'a str,
}

pub(super) fn best(fits: &[Fit<'_>], wish: &Wish) -> Option<Placement> {
    let speeds = speeds(fits, wish);
    let rank = fits
        .iter()
        .zip(speeds)
        .map(|(fit, speed)| rank(fit, wish, speed))
        .min()?;
    Some(Placement {
        node: rank.node.to_owned(),
        device: rank.device.to_owned(),
        because: because(&rank, fits.len()),
    })
}

fn rank<'a>(fit: &Fit<'a>, wish: &Wish, speed: u64) -> Rank<'a> {
    let ours = |device: &super::Device| {
        device
            .residents
            .iter()
            .filter(|resident| resident.deployment == wish.deployment)
            .count()
    };
    let free = fit.device.free().saturating_sub(wish.memory);
    let quarters = u128::from(free) * 4 / u128::from(fit.device.memory.max(1));
    let cached = fit
        .node
        .devices
        .values()
        .flat_map(|device| &device.residents)
        .any(|resident| resident.digest == wish.digest);
    Rank {
        kind: fit.device.kind,
        on_node: fit.node.devices.values().map(ours).sum(),
        on_device: ours(fit.device),
        free_quarters: Reverse(quarters as u64),
        fetch: !cached,
        speed,
        free: Reverse(free),
        node: fit.node_name,
        device: fit.device_name,
    }
}

/// Microseconds of a row on each device: measured there, else guessed from where it was measured and what both devices can
/// do, else from that alone. A device of which nothing is known counts as an average one.
fn speeds(fits: &[Fit<'_>], wish: &Wish) -> Vec<u64> {
    // Arbitrary: only the proportion counts where nothing was measured.
    const WORK: u64 = 1_000_000_000;
    let measured = |fit: &Fit<'_>| {
        let place = (fit.node_name.to_owned(), fit.device_name.to_owned());
        wish.measured
            .get(&place)
            .copied()
            .filter(|microseconds| *microseconds > 0)
    };
    let known = fits
        .iter()
        .filter_map(|fit| Some((measured(fit)?, fit.device.gflops)));
    let work = median(
        known
            .clone()
            .filter(|(_, gflops)| *gflops > 0)
            .map(|(microseconds, gflops)| microseconds.saturating_mul(gflops))
            .collect(),
    );
    let row = median(known.map(|(microseconds, _)| microseconds).collect());
    let guesses: Vec<Option<u64>> = fits
        .iter()
        .map(|fit| {
            measured(fit).or_else(|| match (work, row, fit.device.gflops) {
                (_, _, 0) => row,
                (Some(work), _, gflops) => Some(work / gflops),
                (None, Some(row), _) => Some(row),
                (None, None, gflops) => Some(WORK / gflops),
            })
        })
        .collect();
    let average = median(guesses.iter().flatten().copied().collect()).unwrap_or(0);
    guesses
        .into_iter()
        .map(|guess| guess.unwrap_or(average))
        .collect()
}

/// The middle one, the upper of two.
fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

fn because(rank: &Rank<'_>, fits: usize) -> String {
    if fits == 1 {
        return "the only device that fits".to_owned();
    }
    let kind = match rank.kind {
        Kind::Gpu => "a card",
        Kind::Cpu => "a CPU, since no card fits",
    };
    let spread = match (rank.on_node, rank.on_device) {
        (0, _) => "on a node without a replica of this deployment",
        (_, 0) => "on a device without a replica of this deployment",
        _ => "though it has a replica of this deployment: every device that fits has",
    };
    let cache = if rank.fetch {
        ""
    } else {
        ", and the node has the file"
    };
    format!("best of {fits} devices that fit: {kind} {spread}{cache}")
}

//! Everything that can go wrong, at random, for a long time, while clients go on asking. What they see is the table of
//! `docs/benchmarks/reliability.md`.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use afterglow_crds::condition::{READY, is_true};
use anyhow::{Context, Result, bail};

use super::steady::{self, NAME, NODES};
use crate::faults::{Fault, Field, Program, REST, Strike, Struck, plan};
use crate::load::judge::{self, Share};
use crate::load::{DEADLINE, Load, Seen, full_capacity};
use crate::world::{SOON, World};

/// Clients come in over the first node and the schedulers live on it and the fourth: these two are struck.
const STRUCK: [&str; 2] = ["node2", "node3"];
/// One less than there are nodes: there is a place to go to when one is lost.
const REPLICAS: usize = 2;
/// Requests a second. Two cores serve the model, three nodes and the control plane: this is a third of what they answer.
const RATE: u32 = 20;
const REQUESTS: usize = 20_000;
const STRIKES: usize = 18;
const LEAST_STRIKES: usize = 15;
const MEGABYTES: u32 = 192;

const GOOD: f64 = 0.998;
const ATTEMPTS: f64 = 1.2;
const SUCCESS_WITHIN: Duration = Duration::from_secs(10);
const FULL_WITHIN: Duration = Duration::from_secs(45);

/// A fault that struck.
struct Hit {
    /// As it is typed.
    words: String,
    strike: Duration,
    lasted: Duration,
}

/// What clients saw of it.
struct Row {
    words: String,
    at: Duration,
    lasted: Duration,
    share: Share,
    success: Option<Duration>,
    full: Option<Duration>,
}

pub(super) async fn nearly_every_request_is_answered_whatever_goes_wrong(world: &mut World) -> Result<()> {
    let seed = world.seed;
    anstream::println!("    seed {seed}: `afterglow-e2e run --set soak --seed {seed}` plans the same again");
    // Everywhere once: a first start on a node, or on an empty disk, is not what is measured.
    steady::serve(world, NODES.len() as i32).await?;
    steady::shelter(world, &STRUCK)?;
    disks(world, Some(MEGABYTES)).await?;
    steady::answering(world, NODES.len()).await?;
    steady::serve(world, REPLICAS as i32).await?;
    let hits = storm(world, seed).await;
    let returned = disks(world, None).await;
    let (seen, hits) = hits?;
    returned?;

    let rows = rows(&seen, &hits);
    let share = judge::share(&seen.entries);
    let report = report(seed, &rows, &seen);
    let file = world.logs().join("reliability.md");
    fs::write(&file, &report).with_context(|| format!("write {}", file.display()))?;
    anstream::println!("{report}\n    {} and {}", file.display(), seen.file.display());
    let violated = violated(&rows, share, seen.attempts.ratio());
    if !violated.is_empty() {
        bail!(
            "seed {seed}: {}; the worst:{}",
            violated.join("; "),
            judge::shown(&seen.entries, 15)
        );
    }
    Ok(())
}

/// Gives the nodes that are struck small disks, or their own again, and waits for their agents.
async fn disks(world: &mut World, megabytes: Option<u32>) -> Result<()> {
    for node in STRUCK {
        world.provider.small_disk(node, megabytes)?;
        steady::booted(world, node).await?;
    }
    Ok(())
}

/// Plans the faults and carries them out under load.
async fn storm(world: &mut World, seed: u64) -> Result<(Seen, Vec<Hit>)> {
    let load = steady::load(world, "soak", RATE, REPLICAS).await?;
    let nodes: Vec<String> = NODES.iter().map(ToString::to_string).collect();
    let everywhere = [nodes, vec!["node4".to_owned()]].concat();
    let processes: Vec<(Program, String)> = Program::ALL
        .iter()
        .flat_map(|program| program.whereabouts(world.provider.as_ref(), &everywhere))
        .collect();
    let struck = STRUCK.map(str::to_owned);
    let field = Field {
        nodes: &struck,
        small_disks: &struck,
        processes: &processes,
    };
    let plan = plan(seed, &field, STRIKES);
    let places: Vec<String> = processes
        .iter()
        .map(|(program, node)| format!("{program} {node}"))
        .collect();
    anstream::println!("    on {}:", places.join(", "));
    for strike in &plan {
        anstream::println!("    {strike}");
    }
    let began = load.clock();
    let mut hits = Vec::new();
    for strike in &plan {
        reach(&load, began + strike.at).await;
        let mut struck = match hit(world, strike, &everywhere).await {
            Ok(struck) => struck,
            // Among many one may find nothing to strike; enough must be left.
            Err(error) => {
                anstream::println!("    missed: {error:#}");
                continue;
            }
        };
        let at = load.at(struck.at);
        let words = struck.fault.to_string();
        let over = struck
            .over()
            .await
            .with_context(|| format!("after {words} of seed {seed}{}", world.picture()))?;
        let lasted = load.at(over).saturating_sub(at);
        anstream::println!(
            "    {:4.0} s  {words}: {} of {REPLICAS} replicas answer, {} requests so far",
            at.as_secs_f64(),
            load.looked().map_or(0, |looked| looked.answering),
            load.ledger().len()
        );
        hits.push(Hit {
            words,
            strike: at,
            lasted,
        });
    }
    reach(&load, load.clock() + REST).await;
    let rest = Duration::from_secs(REQUESTS as u64 / u64::from(RATE)) + 2 * DEADLINE;
    reach(&load, rest).await;
    steady::calm(world, &load, REPLICAS, SOON).await?;
    Ok((load.end().await?, hits))
}

/// Waits for a moment of the load's clock.
async fn reach(load: &Load, moment: Duration) {
    tokio::time::sleep(moment.saturating_sub(load.clock())).await;
}

/// Strikes as planned; a process that has moved since is struck where it is, and of nodes and engines those that serve: what
/// hits nobody shows nothing.
async fn hit(world: &mut World, strike: &Strike, nodes: &[String]) -> Result<Struck> {
    let serving = serving(world).await?;
    let here: Vec<String> = STRUCK
        .map(str::to_owned)
        .into_iter()
        .filter(|node| serving.contains(node))
        .collect();
    let fault = match strike.fault.clone() {
        Fault::PowerCut { node } => Fault::PowerCut {
            node: one_of(&here, node),
        },
        Fault::Partition { node } => Fault::Partition {
            node: one_of(&here, node),
        },
        Fault::Reboot { node } => Fault::Reboot {
            node: one_of(&here, node),
        },
        Fault::FillDisk { node } => Fault::FillDisk {
            node: one_of(&here, node),
        },
        Fault::LockDisk { node } => Fault::LockDisk {
            node: one_of(&here, node),
        },
        Fault::Kill { program, node } => Fault::Kill {
            program,
            node: one_of(&places(world, program, nodes, &serving), node),
        },
        Fault::Freeze { program, node } => Fault::Freeze {
            program,
            node: one_of(&places(world, program, nodes, &serving), node),
        },
        whole => whole,
    };
    Struck::strike(fault, world.provider.as_mut(), strike.lasts)
}

/// The nodes whose replicas are Ready.
async fn serving(world: &World) -> Result<Vec<String>> {
    let replicas = world.replicas("default", NAME).await?;
    Ok(replicas
        .into_iter()
        .filter(|replica| replica.metadata.deletion_timestamp.is_none())
        .filter(|replica| {
            let status = replica.status.as_ref();
            status.is_some_and(|status| is_true(&status.conditions, READY))
        })
        .map(|replica| replica.spec.node_name)
        .collect())
}

/// Where a program runs, and matters: the engine of a node that serves nothing waits for its end.
fn places(world: &World, program: Program, nodes: &[String], serving: &[String]) -> Vec<String> {
    let mut places: Vec<String> = program
        .whereabouts(world.provider.as_ref(), nodes)
        .into_iter()
        .map(|(_, node)| node)
        .collect();
    if program == Program::Engine {
        places.retain(|node| serving.contains(node));
    }
    places
}

/// The planned one, if it is among them.
fn one_of(places: &[String], planned: String) -> String {
    if places.contains(&planned) {
        return planned;
    }
    places.first().cloned().unwrap_or(planned)
}

fn rows(seen: &Seen, hits: &[Hit]) -> Vec<Row> {
    let ends = hits.iter().skip(1).map(|hit| hit.strike).chain([Duration::MAX]);
    hits.iter()
        .zip(ends)
        .map(|(hit, end)| Row {
            words: hit.words.clone(),
            at: hit.strike,
            lasted: hit.lasted,
            share: judge::share(&judge::during(&seen.entries, hit.strike, end)),
            success: judge::first_success(&seen.entries, hit.strike),
            full: full_capacity(&seen.samples, REPLICAS, hit.strike, end),
        })
        .collect()
}

/// What is below the bars, in words.
fn violated(rows: &[Row], share: Share, attempts: f64) -> Vec<String> {
    let mut violated = Vec::new();
    let mut check = |kept: bool, words: String| {
        if !kept {
            violated.push(words);
        }
    };
    check(
        share.all >= REQUESTS,
        format!("{} requests, not {REQUESTS}", share.all),
    );
    check(
        rows.len() >= LEAST_STRIKES,
        format!("{} faults struck, not {LEAST_STRIKES}", rows.len()),
    );
    check(
        share.good() >= GOOD,
        format!(
            "{:.3} % of {} requests were good, not {:.1} %",
            share.good() * 100.0,
            share.all,
            GOOD * 100.0
        ),
    );
    check(share.wrong == 0, format!("{} answers were wrong", share.wrong));
    check(
        attempts > 0.0 && attempts <= ATTEMPTS,
        format!("attempts/requests is {attempts:.3}, not above 0 and at most {ATTEMPTS}"),
    );
    for row in rows {
        check(
            row.success.is_some_and(|time| time <= SUCCESS_WITHIN),
            format!(
                "{}: first success after {}, not {} s",
                row.words,
                seconds(row.success),
                SUCCESS_WITHIN.as_secs()
            ),
        );
        check(
            row.full.is_some_and(|time| time < FULL_WITHIN),
            format!(
                "{}: full capacity after {}, not below {} s",
                row.words,
                seconds(row.full),
                FULL_WITHIN.as_secs()
            ),
        );
    }
    violated
}

/// The table, as Markdown.
fn report(seed: u64, rows: &[Row], seen: &Seen) -> String {
    let share = judge::share(&seen.entries);
    let mut text = format!(
        "Seed {seed}: {} requests at {RATE} a second, {} bad ({:.3} % good), {} wrong; attempts/requests {:.3}; longest time \
         without an answer {:.1} s; slowest right answer {:.1} s.\n\n\
         | at | fault | lasted | bad requests | first success | full capacity |\n|---:|---|---:|---:|---:|---:|\n",
        share.all,
        share.bad,
        share.good() * 100.0,
        share.wrong,
        seen.attempts.ratio(),
        judge::longest_gap(&seen.entries).as_secs_f64(),
        judge::slowest(&seen.entries).as_secs_f64(),
    );
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {:.0} s | `{}` | {:.1} s | {} of {} | {} | {} |",
            row.at.as_secs_f64(),
            row.words,
            row.lasted.as_secs_f64(),
            row.share.bad,
            row.share.all,
            seconds(row.success),
            seconds(row.full)
        );
    }
    text
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(
        || "never".to_owned(),
        |time| format!("{:.1} s", time.as_secs_f64()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(words: &str, success: Option<u64>, full: Option<u64>) -> Row {
        Row {
            words: words.to_owned(),
            at: Duration::from_secs(10),
            lasted: Duration::ZERO,
            share: Share {
                all: 100,
                bad: 1,
                wrong: 0,
            },
            success: success.map(Duration::from_secs),
            full: full.map(Duration::from_secs),
        }
    }

    fn rows(count: usize) -> Vec<Row> {
        (0..count)
            .map(|_| row("kill agent node2", Some(10), Some(44)))
            .collect()
    }

    fn share(all: usize, bad: usize, wrong: usize) -> Share {
        Share { all, bad, wrong }
    }

    #[test]
    fn the_bars_are_those_of_the_promise_and_the_last_request_within_counts() {
        assert!(violated(&rows(15), share(20_000, 40, 0), 1.2).is_empty());
        for (rows, share, attempts, word) in [
            (rows(14), share(20_000, 40, 0), 1.2, "14 faults"),
            (rows(15), share(19_999, 0, 0), 1.0, "19999 requests"),
            (rows(15), share(20_000, 41, 0), 1.0, "good"),
            (rows(15), share(20_000, 1, 1), 1.0, "wrong"),
            (rows(15), share(20_000, 0, 0), 1.21, "1.210"),
            (rows(15), share(20_000, 0, 0), 0.0, "attempts"),
        ] {
            let violated = violated(&rows, share, attempts);
            assert_eq!(violated.len(), 1, "{violated:?}");
            assert!(violated[0].contains(word), "{violated:?}");
        }
    }

    #[test]
    fn what_has_moved_is_struck_where_it_is() {
        let places = |nodes: &[&str]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        let planned = || "node2".to_owned();
        assert_eq!(one_of(&places(&["node1", "node2"]), planned()), "node2");
        assert_eq!(one_of(&places(&["node3", "node1"]), planned()), "node3");
        assert_eq!(
            one_of(&[], planned()),
            "node2",
            "then the strike says what is not there"
        );
    }

    #[test]
    fn a_fault_from_which_nothing_recovers_is_named() {
        let mut rows = rows(15);
        rows[3] = row("partition node3", Some(11), None);
        let violated = violated(&rows, share(20_000, 0, 0), 1.0);
        assert_eq!(
            violated,
            [
                "partition node3: first success after 11.0 s, not 10 s",
                "partition node3: full capacity after never, not below 45 s",
            ]
        );
    }
}

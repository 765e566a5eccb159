//! Which nodes' agents are alive.
//!
//! Measured by this process' own clock, from when it last *saw* a lease renewed: an old machine's clock may be years off.
//! So after a start of the operator a dead agent is noticed 30 s later, never earlier.
//!
//! The watch alone is no witness: a connection that died silently shows nothing, and neither does an API server that does not
//! answer, to which the agents cannot talk either. So a node that falls silent is asked for directly before it is judged.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::labels;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::call::{self, call};
use crate::metrics::Metrics;
use crate::watch::{Queues, World};

/// After how long without a renewal an agent is dead.
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// After how long without a renewal the API server is asked directly. An agent renews every 10 s, so by then two renewals are
/// missing, and an outage that is long enough to keep agents from renewing is noticed as one.
const DOUBT_AFTER: Duration = Duration::from_secs(20);
/// What remains of an agent's silence when the API server answers again: up to death it has 15 s to renew, and it tries every
/// 3 s.
const EXCUSED: Duration = Duration::from_secs(15);
/// How often leases are looked at.
const TICK: Duration = Duration::from_secs(1);

/// When each node's lease was renewed, as the node's clock says.
type Renewals = HashMap<String, Option<MicroTime>>;

/// A handle on what is known; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Liveness(watch::Receiver<Arc<Judgement>>);

/// Who is alive, as of the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Nodes whose agent renews its lease.
    pub alive: BTreeSet<String>,
    /// Nodes whose agent did not for 30 s, or that have had no lease for as long.
    pub dead: BTreeSet<String>,
}

impl Liveness {
    /// The last judgement.
    pub(crate) fn now(&self) -> Arc<Judgement> {
        self.0.borrow().clone()
    }

    /// Starts looking; `world` must be ready. Changes make everybody look again.
    pub(crate) fn start(
        world: World,
        queues: Queues,
        leases: Api<Lease>,
        metrics: Metrics,
        tasks: &mut tokio::task::JoinSet<()>,
    ) -> Self {
        let mut observer = Observer::default();
        observer.see(&shown(&world), &meant(&world), Instant::now());
        let (sender, receiver) = watch::channel(Arc::new(observer.judge(&BTreeSet::new(), Instant::now())));
        tasks.spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                tick.tick().await;
                let before = sender.borrow().clone();
                observer.see(&shown(&world), &meant(&world), Instant::now());
                if observer.doubts(&before.dead, Instant::now()) {
                    let answer = ask(&leases, &metrics).await;
                    if let Err(error) = &answer {
                        tracing::warn!(%error, "agents are silent, but so is the API server: none is judged");
                    }
                    observer.hear(answer.ok().as_ref(), &before.dead, Instant::now());
                }
                let judgement = observer.judge(&before.dead, Instant::now());
                if *before != judgement {
                    for node in judgement.dead.difference(&before.dead) {
                        tracing::warn!(
                            node,
                            "the node's agent has not renewed its lease for 30 s: it counts as dead"
                        );
                    }
                    sender.send_replace(Arc::new(judgement));
                    world.ask_all(&queues);
                    queues.sweep.notify_one();
                }
            }
        });
        Self(receiver)
    }

    /// Nobody looks: for tests.
    #[cfg(test)]
    pub(crate) fn fixed(judgement: Judgement) -> Self {
        Self(watch::channel(Arc::new(judgement)).1)
    }
}

/// The leases as the watch has shown them.
fn shown(world: &World) -> Renewals {
    let leases = world.leases.state();
    renewals(leases.iter().filter_map(|lease| lease.0.as_ref().ok()))
}

/// The leases as the API server has them now.
async fn ask(leases: &Api<Lease>, metrics: &Metrics) -> Result<Renewals, call::Error> {
    let params = ListParams::default();
    let list = call(metrics, "list", "Lease", leases.list(&params)).await?;
    Ok(renewals(list.items.iter()))
}

fn renewals<'a>(leases: impl Iterator<Item = &'a Lease>) -> Renewals {
    leases
        .filter_map(|lease| {
            let node = lease.name_any().strip_prefix(&labels::lease(""))?.to_owned();
            let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
            Some((node, renewed))
        })
        .collect()
}

/// The nodes that should have an agent of this operator's.
fn meant(world: &World) -> BTreeSet<String> {
    let mut nodes: BTreeSet<String> = world
        .gpu_nodes
        .state()
        .iter()
        .filter(|node| match &node.0 {
            Ok(node) => world.works_for(&node.spec.cluster),
            Err(_) => true,
        })
        .map(|node| node.name_any())
        .collect();
    nodes.extend(world.replicas.state().iter().filter_map(|replica| {
        let replica = replica.0.as_ref().ok()?;
        world
            .works_for(&replica.spec.cluster)
            .then(|| replica.spec.node_name.clone())
    }));
    nodes
}

/// Remembers when it saw which renewal.
#[derive(Debug, Default)]
pub struct Observer {
    nodes: HashMap<String, Sight>,
    /// The API server did not answer when it was asked: nobody can be judged.
    is_blind: bool,
}

/// What was seen of a node's agent.
#[derive(Debug)]
struct Sight {
    /// The renewal that the watch showed last.
    shown: Option<MicroTime>,
    /// A later one that the API server told when it was asked, until the watch shows something new.
    told: Option<MicroTime>,
    /// When the last of them was news.
    since: Instant,
}

impl Sight {
    fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

impl Observer {
    /// Takes in what the watch shows: every node that has a lease or is among `nodes`.
    pub fn see(&mut self, leases: &Renewals, nodes: &BTreeSet<String>, now: Instant) {
        let known: BTreeSet<&String> = leases.keys().chain(nodes).collect();
        self.nodes.retain(|node, _| known.contains(node));
        for node in known {
            let shown = leases.get(node).cloned().flatten();
            let sight = self.nodes.entry(node.clone()).or_insert_with(|| Sight {
                shown: shown.clone(),
                told: None,
                since: now,
            });
            if sight.shown != shown {
                // What the API server told already is no news when the watch shows it too.
                if sight.told.is_none() || sight.told != shown {
                    sight.since = now;
                }
                sight.told = None;
                sight.shown = shown;
            }
        }
    }

    /// Whether somebody whom the last judgement did not call dead has become silent.
    pub fn doubts(&self, dead: &BTreeSet<String>, now: Instant) -> bool {
        self.is_blind
            || self
                .nodes
                .iter()
                .any(|(node, sight)| !dead.contains(node) && sight.silence(now) >= DOUBT_AFTER)
    }

    /// Takes in what the API server told; `None`: it did not answer.
    pub fn hear(&mut self, answer: Option<&Renewals>, dead: &BTreeSet<String>, now: Instant) {
        let Some(leases) = answer else {
            self.is_blind = true;
            return;
        };
        let was_blind = std::mem::take(&mut self.is_blind);
        for (node, sight) in &mut self.nodes {
            let told = leases.get(node).cloned().flatten();
            if told.is_some() && told != sight.shown && told != sight.told {
                sight.told = told;
                sight.since = now;
            }
            // While it did not answer, no agent could renew.
            if was_blind && !dead.contains(node) && sight.silence(now) > EXCUSED {
                sight.since = now.checked_sub(EXCUSED).unwrap_or(now);
            }
        }
    }

    /// Who is alive; `dead` is whom the last judgement called dead.
    pub fn judge(&self, dead: &BTreeSet<String>, now: Instant) -> Judgement {
        let mut judgement = Judgement::default();
        for (node, sight) in &self.nodes {
            let may_be_dead = !self.is_blind || dead.contains(node);
            if may_be_dead && sight.silence(now) >= DEAD_AFTER {
                judgement.dead.insert(node.clone());
            } else if sight.shown.is_some() || sight.told.is_some() {
                judgement.alive.insert(node.clone());
            }
        }
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(node: &str, second: i64) -> Renewals {
        let time = k8s_openapi::jiff::Timestamp::from_second(second).expect("in range");
        HashMap::from([(node.to_owned(), Some(MicroTime(time)))])
    }

    fn nodes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// An operator that looks at node `a` every second, as [`Liveness::start`] does.
    struct Clock {
        observer: Observer,
        start: Instant,
        judgement: Judgement,
    }

    impl Clock {
        fn new() -> Self {
            Self {
                observer: Observer::default(),
                start: Instant::now(),
                judgement: Judgement::default(),
            }
        }

        /// A second's look: what the watch shows, and what the API server would tell, were it asked.
        fn look(&mut self, second: u64, shown: &Renewals, told: Option<&Renewals>) -> &Judgement {
            let now = self.start + Duration::from_secs(second);
            self.observer.see(shown, &nodes(&["a"]), now);
            if self.observer.doubts(&self.judgement.dead, now) {
                self.observer.hear(told, &self.judgement.dead, now);
            }
            self.judgement = self.observer.judge(&self.judgement.dead, now);
            &self.judgement
        }

        /// The same for many seconds; the second in which the node was called dead.
        fn dies(
            &mut self,
            mut seconds: std::ops::Range<u64>,
            shown: &Renewals,
            told: Option<&Renewals>,
        ) -> Option<u64> {
            seconds.find(|&second| self.look(second, shown, told).dead.contains("a"))
        }
    }

    #[test]
    fn an_agent_dies_thirty_seconds_after_its_last_seen_renewal_whatever_its_clock_says() {
        let mut clock = Clock::new();
        // The node believes it is 1970.
        clock.look(0, &lease("a", 10), Some(&lease("a", 10)));
        assert_eq!(clock.judgement.alive, nodes(&["a"]));
        let last = lease("a", 20);
        assert_eq!(clock.dies(10..60, &last, Some(&last)), Some(40));
        assert_eq!(clock.judgement.alive, nodes(&[]));
        clock.look(41, &lease("a", 30), None);
        assert_eq!(clock.judgement.alive, nodes(&["a"]), "it is back");
    }

    #[test]
    fn a_node_without_a_lease_is_not_alive_and_in_the_end_dead() {
        let mut clock = Clock::new();
        let none = HashMap::new();
        clock.look(0, &none, Some(&none));
        assert_eq!(clock.judgement, Judgement::default(), "its agent may be starting");
        assert_eq!(clock.dies(1..60, &none, Some(&none)), Some(30));
    }

    #[test]
    fn a_watch_that_shows_nothing_kills_nobody_whose_lease_is_renewed() {
        let mut clock = Clock::new();
        let stale = lease("a", 1);
        for second in 0..200 {
            let told = lease("a", i64::try_from(second / 10).expect("a small number"));
            clock.look(second, &stale, Some(&told));
            assert_eq!(clock.judgement.alive, nodes(&["a"]), "after {second} s");
        }
        // It dies, and the watch still shows nothing: one renewal is believed once.
        let last = lease("a", 20);
        let died = clock.dies(200..300, &stale, Some(&last));
        assert!(died.is_some_and(|second| second <= 230), "{died:?}");
    }

    #[test]
    fn what_the_api_server_told_is_no_news_when_the_watch_shows_it_later() {
        let mut clock = Clock::new();
        clock.dies(0..25, &lease("a", 1), Some(&lease("a", 2)));
        let last = lease("a", 2);
        assert_eq!(
            clock.dies(25..100, &last, Some(&last)),
            Some(50),
            "told after 20 s"
        );
    }

    #[test]
    fn while_the_api_server_does_not_answer_nobody_is_judged_and_then_agents_have_time_to_renew() {
        let mut clock = Clock::new();
        let last = lease("a", 1);
        assert_eq!(clock.dies(0..300, &last, None), None);
        assert_eq!(clock.judgement.alive, nodes(&["a"]));
        assert_eq!(
            clock.dies(300..400, &last, Some(&last)),
            Some(315),
            "it could have renewed by then"
        );
        assert_eq!(
            clock.dies(400..401, &last, None),
            Some(400),
            "who is dead stays dead"
        );
    }

    #[test]
    fn an_outage_that_ends_before_thirty_seconds_of_silence_kills_nobody_either() {
        let mut clock = Clock::new();
        let last = lease("a", 1);
        assert_eq!(clock.dies(0..29, &last, None), None);
        assert_eq!(clock.dies(29..40, &last, Some(&last)), None);
        let again = lease("a", 2);
        assert_eq!(clock.dies(40..60, &again, Some(&again)), None);
    }
}

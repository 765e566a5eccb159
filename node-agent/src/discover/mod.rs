//! Which devices this node has, whether they compute right, and whether they are well.
//!
//! Looking is cheap and happens every few seconds: `/sys` says which cards are there and how hot they are. Testing is not: it
//! happens at the start, when the cards or what may be done with them have changed, when somebody asks, and again after a
//! test that crashed. A test that came out wrong is not repeated until it helps: a card that computed wrong once will again.
//! And who passed is not tested again because of another: a test beside whoever uses a device slows both, and can fail for want
//! of memory. What a pod of somebody else's holds is not ours to test at all: an agent that starts beside one leaves its device
//! untested until the pod has given it back.

mod heat;
mod merge;
mod opencl;
mod pci;
mod read;
mod sysfs;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::gpu_node::Device;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::args::Search;
use crate::metrics::Metrics;
use crate::occupants::Occupants;
use heat::Heat;
use merge::Found;
pub use merge::{FORBIDDEN, UNTESTED};
use opencl::{Examination, Seen, Verdict};
use read::Reader;
use sysfs::Card;
pub use sysfs::Readings;
pub use table::table;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(10);
/// A file in `/sys` of a card that hangs can block its reader for ever.
const READ: Duration = Duration::from_secs(5);
/// Between a test that crashed and the next try, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(30));

/// What this node has, as of the last look.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inventory {
    /// Every device, offered or not.
    pub devices: Vec<Device>,
    /// `card0` and so on, by device name, where the kernel numbers it.
    pub card_indices: BTreeMap<String, u32>,
    /// What is wrong without keeping a device from serving.
    pub warnings: Vec<String>,
}

/// Whether somebody is on a device, by its name.
pub type Busy = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// Names of the devices that pods of others hold; `None`: not known yet.
pub type Held = watch::Receiver<Option<BTreeSet<String>>>;

/// When tests are due beside those that discovery makes by itself, and where they would disturb.
pub struct Tests {
    /// Asks for a new test of every device that nobody is on.
    pub again: Arc<Notify>,
    /// Who is on a device that passed its test is left alone.
    pub busy: Busy,
    /// What is in here is not tested, and nothing is before it is known.
    pub held: Held,
    /// A test is on its device like any process of ours.
    pub occupants: Occupants,
}

impl Tests {
    /// Where nobody but us uses devices.
    pub fn undisturbed() -> Self {
        Self {
            again: Arc::default(),
            busy: Arc::new(|_| false),
            held: watch::channel(Some(BTreeSet::new())).1,
            occupants: Occupants::default(),
        }
    }
}

/// Looks every few seconds until it is told to stop, and publishes what has changed.
pub async fn run(
    search: Search,
    inventory: watch::Sender<Option<Arc<Inventory>>>,
    tests: Tests,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let (again, mut held) = (Arc::clone(&tests.again), tests.held.clone());
    let mut discovery = Discovery {
        tests,
        ..Discovery::new(search)
    };
    let known = shutdown.run_until_cancelled(held.wait_for(Option::is_some)).await;
    if known.is_none_or(|known| known.is_err()) {
        return;
    }
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = false;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = again.notified() => asked = true,
            Ok(()) = held.changed() => {}
            _ = tick.tick() => {}
        }
        let found = tokio::select! {
            () = shutdown.cancelled() => return,
            found = discovery.look(std::mem::take(&mut asked)) => found,
        };
        metrics.devices(&found, &discovery.readings);
        inventory.send_if_modified(|last| {
            let changed = last.as_deref() != Some(&found);
            if changed {
                *last = Some(Arc::new(found));
            }
            changed
        });
    }
}

/// The looks so far.
pub struct Discovery {
    search: Search,
    tests: Tests,
    cards: Option<Vec<Card>>,
    /// What OpenCL showed in the last test.
    seen: Vec<Seen>,
    found: Vec<Found>,
    /// Why OpenCL could not be asked, if so.
    broken: Option<String>,
    gone: BTreeMap<String, Device>,
    heat: BTreeMap<String, Heat>,
    readings: BTreeMap<String, Readings>,
    retry: Option<(Instant, Duration)>,
    kernel: Reader<Vec<Card>>,
    sensors: BTreeMap<String, Reader<Readings>>,
}

impl Discovery {
    /// Before the first look.
    pub fn new(search: Search) -> Self {
        Self {
            search,
            tests: Tests::undisturbed(),
            cards: None,
            seen: Vec::new(),
            found: Vec::new(),
            broken: None,
            gone: BTreeMap::new(),
            heat: BTreeMap::new(),
            readings: BTreeMap::new(),
            retry: None,
            kernel: Reader::new(READ),
            sensors: BTreeMap::new(),
        }
    }

    /// One look; it tests where that is due, or `asked` for.
    pub async fn look(&mut self, asked: bool) -> Inventory {
        let (sysfs, dev) = (self.search.sysfs.clone(), self.search.dev.clone());
        match self.kernel.read(move || sysfs::cards(&sysfs, &dev)).await {
            None => tracing::warn!(
                "the kernel does not answer for the cards in /sys; nothing is known of their health"
            ),
            Some(cards) => {
                let fixed: Vec<Card> = cards.iter().map(without_what_changes_by_itself).collect();
                let due = self.retry.is_some_and(|(at, _)| Instant::now() >= at);
                if asked || due || self.is_one_free_to_test() || self.cards.as_ref() != Some(&fixed) {
                    self.test(&cards, asked).await;
                    self.cards = Some(fixed);
                }
            }
        }
        self.feel().await;
        self.inventory()
    }

    async fn test(&mut self, cards: &[Card], asked: bool) {
        let engine = self.search.engine();
        tracing::info!(engine = %engine.display(), cards = cards.len(), "testing the devices");
        let mut examination = opencl::list(&engine).await;
        if examination.broken.is_some() {
            // One card that hangs can keep all from being listed; the others are as they were.
            examination.devices = self.still_here(cards);
        } else {
            let listed = merge::merge(cards, &examination, self.search.cpu_fallback);
            for seen in &mut examination.devices {
                let name = found_of(&listed, seen).map_or("", |found| found.device.name.as_str());
                let before = self.seen.iter().find(|before| before.is(seen));
                if self.stands(name, before, asked) {
                    seen.self_test = before.and_then(|before| before.self_test.clone());
                    seen.measured = before.and_then(|before| before.measured);
                } else {
                    let occupant = self.tests.occupants.enter(name);
                    examination.crashed |= !opencl::test(&engine, seen, occupant).await;
                }
            }
        }
        self.retry = next_try(&examination, self.retry);
        self.broken.clone_from(&examination.broken);
        self.seen.clone_from(&examination.devices);
        let found = merge::merge(cards, &examination, self.search.cpu_fallback);
        for Found { device, .. } in &found {
            tracing::info!(
                device = %device.name, product = %device.product_name, driver = %device.driver,
                self_test = ?device.self_test.result, reason = %device.not_offered_because, "found"
            );
        }
        let before = std::mem::replace(&mut self.found, found);
        for Found { device, .. } in before {
            self.gone.insert(device.name.clone(), device);
        }
        for Found { device, .. } in &self.found {
            self.gone.remove(&device.name);
        }
    }

    /// Whether what was found out `before` stands: it passed, and nobody asks, or somebody is on it. And where it is not ours to
    /// test.
    fn stands(&self, name: &str, before: Option<&Seen>, asked: bool) -> bool {
        let passed = before.is_some_and(|before| before.self_test == Some(Verdict::Pass));
        self.is_held(name) || (passed && (!asked || (self.tests.busy)(name)))
    }

    fn is_held(&self, name: &str) -> bool {
        let held = self.tests.held.borrow();
        held.as_ref().is_none_or(|held| held.contains(name))
    }

    /// Whether a device has not been tested because a pod held it, and may be now.
    fn is_one_free_to_test(&self) -> bool {
        let untested = self.seen.iter().filter(|seen| seen.self_test.is_none());
        let mut found = untested.filter_map(|seen| found_of(&self.found, seen));
        self.broken.is_none() && found.any(|found| !self.is_held(&found.device.name))
    }

    /// What OpenCL showed the last time, without cards that the kernel has lost since.
    fn still_here(&self, cards: &[Card]) -> Vec<Seen> {
        let here = |seen: &&Seen| {
            let card = found_of(&self.found, seen).and_then(|found| found.card.as_ref());
            card.is_none_or(|card| cards.iter().any(|now| now.address == card.address))
        };
        self.seen.iter().filter(here).cloned().collect()
    }

    /// How the cards are.
    async fn feel(&mut self) {
        let mut readings = BTreeMap::new();
        for Found { device, card } in &self.found {
            let Some(card) = card else { continue };
            let folder = card.folder.clone();
            let sensors = self.sensors.entry(device.name.clone());
            let sensors = sensors.or_insert_with(|| Reader::new(READ));
            let Some(read) = sensors.read(move || sysfs::readings(&folder)).await else {
                continue;
            };
            let heat = self.heat.entry(device.name.clone()).or_default();
            *heat = heat.next(read.temperature);
            readings.insert(device.name.clone(), read);
        }
        self.readings = readings;
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        for Found { device, card } in &self.found {
            let mut device = device.clone();
            match self.heat.get(&device.name) {
                Some(Heat::Stop) => withdraw(
                    &mut device,
                    "it is too hot (95 °C or more): check its fans and the air around it; it serves again below 85 °C",
                ),
                Some(Heat::Hot) => inventory.warnings.push(format!(
                    "{} is hot (85 °C or more) and will be taken out of service at 95 °C: check its fans",
                    device.name
                )),
                _ => {}
            }
            if card.is_some() && !self.readings.contains_key(&device.name) {
                withdraw(
                    &mut device,
                    "its sensors do not answer: the card or its driver hangs; look into the node's kernel log, and restart it",
                );
            }
            if let Some(card) = card {
                inventory.card_indices.insert(device.name.clone(), card.index);
            }
            inventory.devices.push(device);
        }
        if let Some(broken) = &self.broken {
            inventory
                .warnings
                .push(format!("OpenCL could not be asked for devices: {broken}"));
        }
        for device in self.gone.values() {
            let mut device = device.clone();
            device.selector = None;
            device.offered = false;
            "it has vanished since this agent started: check its riser, its power and the node's kernel log"
                .clone_into(&mut device.not_offered_because);
            inventory.devices.push(device);
        }
        inventory.devices.sort_by(|a, b| a.name.cmp(&b.name));
        inventory
    }
}

fn found_of<'a>(all: &'a [Found], seen: &Seen) -> Option<&'a Found> {
    let selector = Some(seen.device.as_str());
    all.iter()
        .find(|found| found.device.selector.as_deref() == selector)
}

fn withdraw(device: &mut Device, because: &str) {
    if device.offered {
        device.offered = false;
        because.clone_into(&mut device.not_offered_because);
    }
}

/// Link speed follows the load, so a change of it is no change of the inventory.
fn without_what_changes_by_itself(card: &Card) -> Card {
    Card {
        link: None,
        ..card.clone()
    }
}

fn next_try(examination: &Examination, last: Option<(Instant, Duration)>) -> Option<(Instant, Duration)> {
    if !examination.crashed {
        return None;
    }
    let wait = last.map_or(RETRY.0, |(_, wait)| (wait * 2).min(RETRY.1));
    tracing::warn!(
        seconds = wait.as_secs(),
        "a test crashed or hung; trying again later"
    );
    Some((Instant::now() + wait, wait))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::sysfs::fake;
    use super::*;
    use crate::args::CpuFallback;

    /// An engine that sees the cards at these addresses' buses, passes their test, and counts how often it was asked to list.
    fn engine(root: &Path, buses: &[u32]) {
        let card = |index: usize, bus: &u32, test: &str| {
            format!(
                r#"{{"device":"opencl:{index}","kind":"gpu","name":"AMD Radeon RX 580 Series (radeonsi, polaris10)","platform":"rusticl","driver_version":"25.0.7","opencl_version":"OpenCL 3.0","compute_units":36,"global_memory":8589934592,"pci":{{"domain":0,"bus":{bus},"device":0,"function":0}},"selfTest":{test},"measured":null}}"#
            )
        };
        let all: Vec<String> = buses
            .iter()
            .enumerate()
            .map(|(i, bus)| card(i, bus, "null"))
            .collect();
        let mut script = format!(
            "#!/bin/sh\ncase \"$*\" in\n*--quick*) echo x >> {}/asked; echo '[{}]';;\n",
            root.display(),
            all.join(",")
        );
        for (index, bus) in buses.iter().enumerate() {
            let _ = writeln!(
                script,
                "*opencl:{index}*) echo {bus} >> {}/tested; echo '[{}]';;",
                root.display(),
                card(index, bus, r#"{"verdict":"pass"}"#)
            );
        }
        let path = root.join("engine");
        fs::write(&path, script + "esac\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The buses of the cards that were tested, in order.
    fn tested(root: &Path) -> Vec<String> {
        let tested = fs::read_to_string(root.join("tested")).unwrap_or_default();
        tested.lines().map(str::to_owned).collect()
    }

    fn asked(root: &Path) -> usize {
        fs::read_to_string(root.join("asked"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    fn discovery(root: &Path) -> Discovery {
        Discovery::new(Search {
            cpu_fallback: CpuFallback::Forbidden,
            engine: Some(root.join("engine")),
            sysfs: root.join("sys"),
            dev: root.join("dev"),
        })
    }

    /// Two cards that have been looked at.
    async fn two_cards(root: &Path) -> Discovery {
        fake::rx_580(root, 0, "0000:01:00.0");
        fake::rx_580(root, 1, "0000:03:00.0");
        engine(root, &[1, 3]);
        let mut discovery = discovery(root);
        discovery.look(false).await;
        discovery
    }

    #[tokio::test]
    async fn a_look_tests_only_when_something_has_changed_or_somebody_asks() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        engine(root.path(), &[1]);
        let mut discovery = discovery(root.path());
        let first = discovery.look(false).await;
        assert!(first.devices[0].offered, "{first:?}");
        let device = root.path().join("sys/class/drm/card0/device");
        fs::write(device.join("current_link_speed"), "2.5 GT/s PCIe\n").unwrap();
        assert_eq!(discovery.look(false).await, first, "a link that idles is no news");
        assert_eq!(asked(root.path()), 1);
        discovery.look(true).await;
        assert_eq!(asked(root.path()), 2);
        fake::rx_580(root.path(), 1, "0000:03:00.0");
        engine(root.path(), &[1, 3]);
        assert_eq!(discovery.look(false).await.devices.len(), 2);
        assert_eq!(asked(root.path()), 3);
    }

    #[tokio::test]
    async fn a_hot_card_is_withdrawn_and_comes_back_when_it_has_cooled() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        engine(root.path(), &[1]);
        let mut discovery = discovery(root.path());
        for (degrees, offered, warnings) in [
            (51, true, 0),
            (88, true, 1),
            (96, false, 0),
            (90, false, 0),
            (80, true, 1),
        ] {
            fake::heat(root.path(), 0, degrees);
            let inventory = discovery.look(false).await;
            assert_eq!(
                (inventory.devices[0].offered, inventory.warnings.len()),
                (offered, warnings),
                "at {degrees}: {inventory:?}"
            );
        }
        assert_eq!(asked(root.path()), 1, "heat is no reason to test again");
    }

    #[tokio::test]
    async fn a_card_that_vanishes_is_still_shown_and_said_to_be_gone() {
        let root = tempfile::tempdir().unwrap();
        let mut discovery = two_cards(root.path()).await;
        fs::remove_dir_all(root.path().join("sys/class/drm/card1")).unwrap();
        engine(root.path(), &[1]);
        let after = discovery.look(false).await;
        assert_eq!(after.devices.len(), 2);
        let gone = &after.devices[1];
        assert_eq!((gone.name.as_str(), gone.offered), ("gpu-0000-03-00-0", false));
        assert!(
            gone.not_offered_because.contains("vanished"),
            "{}",
            gone.not_offered_because
        );
        fake::rx_580(root.path(), 1, "0000:03:00.0");
        engine(root.path(), &[1, 3]);
        assert!(discovery.look(false).await.devices[1].offered, "back again");
    }

    #[tokio::test]
    async fn who_passed_is_not_tested_again_because_of_another_nor_while_somebody_is_on_it() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        engine(root.path(), &[1]);
        let mut discovery = discovery(root.path());
        discovery.tests.busy = Arc::new(|device| device == "gpu-0000-01-00-0");
        discovery.look(false).await;
        assert_eq!(tested(root.path()), ["1"]);
        fake::rx_580(root.path(), 1, "0000:03:00.0");
        // OpenCL lists the new one first: the old one has another number and is still the same.
        engine(root.path(), &[3, 1]);
        let both = discovery.look(false).await;
        assert_eq!(tested(root.path()), ["1", "3"]);
        assert!(both.devices.iter().all(|device| device.offered), "{both:?}");
        assert_eq!(both.devices[0].selector.as_deref(), Some("opencl:1"));
        discovery.look(true).await;
        assert_eq!(tested(root.path()), ["1", "3", "3"], "asked for, but one serves");
        discovery.tests.busy = Arc::new(|_| false);
        discovery.look(true).await;
        assert_eq!(tested(root.path()), ["1", "3", "3", "3", "1"]);
    }

    #[tokio::test]
    async fn what_a_pod_holds_is_tested_only_when_the_pod_has_given_it_back() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        fake::rx_580(root.path(), 1, "0000:03:00.0");
        engine(root.path(), &[1, 3]);
        let held = watch::Sender::new(Some(BTreeSet::from(["gpu-0000-01-00-0".to_owned()])));
        let mut discovery = discovery(root.path());
        discovery.tests.held = held.subscribe();
        let first = discovery.look(false).await;
        assert_eq!(tested(root.path()), ["3"]);
        assert_eq!(first.devices[0].not_offered_because, UNTESTED);
        assert!(first.devices[1].offered, "{first:?}");
        discovery.look(true).await;
        assert_eq!(tested(root.path()), ["3", "3"], "not even if somebody asks");
        held.send_replace(Some(BTreeSet::new()));
        let after = discovery.look(false).await;
        assert_eq!(tested(root.path()), ["3", "3", "1"]);
        assert!(after.devices[0].offered, "{after:?}");
        // What it was found to be stands while the next pod has it.
        held.send_replace(Some(BTreeSet::from(["gpu-0000-01-00-0".to_owned()])));
        assert_eq!(discovery.look(true).await, after);
    }

    #[tokio::test]
    async fn a_device_is_occupied_while_it_is_tested() {
        let root = tempfile::tempdir().unwrap();
        fake::rx_580(root.path(), 0, "0000:01:00.0");
        engine(root.path(), &[1]);
        let script = fs::read_to_string(root.path().join("engine")).unwrap();
        let waits = format!(
            "until [ -e {}/go ]; do sleep 0.01; done; echo 1 >>",
            root.path().display()
        );
        fs::write(root.path().join("engine"), script.replace("echo 1 >>", &waits)).unwrap();
        let mut discovery = discovery(root.path());
        let occupants = discovery.tests.occupants.clone();
        let looking = tokio::spawn(async move { discovery.look(false).await });
        while !occupants.on("gpu-0000-01-00-0") {
            assert!(!looking.is_finished(), "it was tested and nobody was on it");
            tokio::task::yield_now().await;
        }
        fs::write(root.path().join("go"), "").unwrap();
        assert!(looking.await.unwrap().devices[0].offered);
        assert!(!occupants.on("gpu-0000-01-00-0"));
    }

    #[tokio::test]
    async fn a_card_whose_loss_breaks_the_listing_takes_no_other_with_it() {
        let root = tempfile::tempdir().unwrap();
        let mut discovery = two_cards(root.path()).await;
        fs::remove_dir_all(root.path().join("sys/class/drm/card1")).unwrap();
        fs::write(root.path().join("engine"), "#!/bin/sh\nkill -SEGV $$\n").unwrap();
        let after = discovery.look(false).await;
        let offered: Vec<bool> = after.devices.iter().map(|device| device.offered).collect();
        assert_eq!(offered, [true, false], "{after:?}");
        assert!(after.warnings[0].contains("signal: 11"), "{after:?}");
    }

    #[tokio::test]
    async fn a_machine_without_anything_has_no_devices_and_tries_again_only_after_a_crash() {
        let root = tempfile::tempdir().unwrap();
        engine(root.path(), &[]);
        let mut empty = discovery(root.path());
        assert_eq!(empty.look(false).await, Inventory::default());
        assert!(empty.retry.is_none());
        fs::remove_file(root.path().join("engine")).unwrap();
        let mut broken = discovery(root.path());
        let inventory = broken.look(false).await;
        assert!(
            inventory.warnings[0].contains("AFTERGLOW_ENGINE"),
            "{inventory:?}"
        );
        let (_, first) = broken.retry.unwrap();
        broken.look(true).await;
        assert_eq!((first, broken.retry.unwrap().1), (RETRY.0, RETRY.0 * 2));
    }
}

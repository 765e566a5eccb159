//! What Prometheus reads from an agent, and through it from the node's engines. Families with no sample yet are absent, not
//! zero: a card without a power sensor does not draw 0 W.

mod engines;
mod sample;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use afterglow_crds::condition::{READY, is_true};
use afterglow_crds::gpu_node::{Device, DeviceType, TestResult};
use afterglow_crds::model_replica::ModelReplica;
use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use tokio::sync::watch;

use engines::Engines;
pub use engines::Owner;

use crate::discover::{FORBIDDEN, Inventory, Readings, UNTESTED};
use crate::fetch::Fetcher;
use crate::host::{self, Statuses, Vitals};

/// Labels of everything that concerns one device.
const BY_DEVICE: [&str; 1] = ["device"];

/// The agent's metrics.
pub struct Metrics {
    owner: Owner,
    registry: Registry,
    states: IntGaugeVec,
    info: IntGaugeVec,
    healthy: IntGaugeVec,
    passed: IntGaugeVec,
    temperature: GaugeVec,
    power: GaugeVec,
    memory_used: GaugeVec,
    hosted: OnceLock<(Hosted, Engines)>,
}

/// What the host does, looked at when somebody asks.
pub struct Hosted {
    /// The engines.
    pub engines: watch::Receiver<Vitals>,
    /// What is so of each replica.
    pub statuses: watch::Receiver<Statuses>,
    /// What is wanted.
    pub desired: watch::Receiver<Vec<ModelReplica>>,
    /// The model cache.
    pub fetcher: Fetcher,
}

impl Metrics {
    /// All of them, registered.
    pub fn new(owner: Owner) -> prometheus::Result<Arc<Self>> {
        let registry = registry(&owner)?;
        let states = Opts::new(
            "afterglow_devices",
            "Devices of this node, by whether models may be placed on them",
        );
        let info = Opts::new("afterglow_device_info", "What the device is; the value is 1");
        let flag =
            |name: &str, help: &str| add(&registry, IntGaugeVec::new(Opts::new(name, help), &BY_DEVICE)?);
        let reading =
            |name: &str, help: &str| add(&registry, GaugeVec::new(Opts::new(name, help), &BY_DEVICE)?);
        Ok(Arc::new(Self {
            states: add(&registry, IntGaugeVec::new(states, &["state"])?)?,
            info: add(
                &registry,
                IntGaugeVec::new(info, &["device", "type", "family", "product", "driver"])?,
            )?,
            healthy: flag(
                "afterglow_device_healthy",
                "1 while nothing is wrong with the device, 0 while a fault keeps models off it",
            )?,
            passed: flag(
                "afterglow_device_self_test_passed",
                "1 if the device computed right in its last self-test, 0 if wrong or not at all",
            )?,
            temperature: reading("afterglow_device_temperature_celsius", "Temperature of the card")?,
            power: reading("afterglow_device_power_watts", "Power that the card draws")?,
            memory_used: reading(
                "afterglow_device_memory_used_bytes",
                "Memory of the card in use, by whomever",
            )?,
            hosted: OnceLock::new(),
            owner,
            registry,
        }))
    }

    /// What the last look at the devices showed.
    pub fn devices(&self, inventory: &Inventory, readings: &BTreeMap<String, Readings>) {
        let offered = inventory.devices.iter().filter(|device| device.offered).count();
        let set = |state, count: usize| self.states.with_label_values(&[state]).set(count as i64);
        set("offered", offered);
        set("withheld", inventory.devices.len() - offered);
        self.info.reset();
        for gauges in [&self.healthy, &self.passed] {
            gauges.reset();
        }
        for device in &inventory.devices {
            self.device(device);
        }
        for gauges in [&self.temperature, &self.power, &self.memory_used] {
            gauges.reset();
        }
        for (device, readings) in readings {
            for (gauges, value) in [
                (&self.temperature, readings.temperature),
                (&self.power, readings.power),
                (&self.memory_used, readings.memory_used),
            ] {
                if let Some(value) = value {
                    gauges.with_label_values(&[device.as_str()]).set(value);
                }
            }
        }
    }

    fn device(&self, device: &Device) {
        let type_ = match device.type_ {
            DeviceType::Gpu => "GPU",
            DeviceType::Cpu => "CPU",
        };
        let family = format!("{:?}", device.family);
        let name = device.name.as_str();
        let labels = [name, type_, &family, &device.product_name, &device.driver];
        self.info.with_label_values(&labels).set(1);
        // A processor that may not stand in for a card is as it should be, and so is what a pod has had since before we came.
        let healthy = device.offered || [FORBIDDEN, UNTESTED].contains(&device.not_offered_because.as_str());
        self.healthy.with_label_values(&[name]).set(i64::from(healthy));
        let passed = match device.self_test.result {
            TestResult::Passed => 1,
            TestResult::Failed => 0,
            TestResult::NotRun => return,
        };
        self.passed.with_label_values(&[name]).set(passed);
    }

    /// Says where the host's side is to be looked at; once.
    pub fn hosts(&self, hosted: Hosted) {
        let (engines, desired) = (hosted.engines.clone(), hosted.desired.clone());
        let engines = Engines::new(self.owner.clone(), engines, desired);
        // A second host of one agent would be a bug; the first one's figures stay true.
        let _ = self.hosted.set((hosted, engines));
    }

    /// In Prometheus' text format: the agent's own, then what its engines say.
    pub async fn page(&self) -> prometheus::Result<String> {
        let mut text = self.own()?;
        if let Some((_, engines)) = self.hosted.get() {
            text.push_str(&engines.page().await);
        }
        Ok(text)
    }

    fn own(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        if let Some((hosted, _)) = self.hosted.get() {
            let now = registry(&self.owner)?;
            hosted.gather_into(&now)?;
            families.extend(now.gather());
        }
        TextEncoder::new().encode_to_string(&families)
    }
}

impl Hosted {
    fn gather_into(&self, now: &Registry) -> prometheus::Result<()> {
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            add(now, IntGaugeVec::new(Opts::new(name, help), labels)?)
        };
        let up = gauge(
            "afterglow_engine_up",
            "1 while the device's engine answers",
            &BY_DEVICE,
        )?;
        let restarts = Opts::new(
            "afterglow_engine_restarts_total",
            "Engines started again after they had ended by themselves",
        );
        let restarts = add(now, IntCounterVec::new(restarts, &BY_DEVICE)?)?;
        for (device, vital) in &*self.engines.borrow() {
            up.with_label_values(&[device])
                .set(i64::from(vital.metrics.is_some()));
            restarts.with_label_values(&[device]).inc_by(vital.restarts);
        }
        let ready = gauge(
            "afterglow_replica_ready",
            "1 while the replica answers, 0 while it does not",
            &["model_namespace", "model", "version", "replica", "device"],
        )?;
        let statuses = self.statuses.borrow();
        for replica in &*self.desired.borrow() {
            let key = host::key(replica);
            let is_ready = statuses
                .get(&key)
                .is_some_and(|reported| is_true(&reported.status.conditions, READY));
            let spec = &replica.spec;
            let version = spec.revision.to_string();
            let model = spec.model.name.as_deref().unwrap_or(&key.1);
            ready
                .with_label_values(&[key.0.as_str(), model, &version, &key.1, &spec.device])
                .set(i64::from(is_ready));
        }
        self.cache_into(now)
    }

    fn cache_into(&self, now: &Registry) -> prometheus::Result<()> {
        let usage = self.fetcher.usage();
        let bytes = Opts::new(
            "afterglow_cache_bytes",
            "Bytes in the model cache, by whether a replica needs them",
        );
        let bytes = add(now, IntGaugeVec::new(bytes, &["state"])?)?;
        bytes.with_label_values(&["in_use"]).set(whole(usage.in_use));
        bytes
            .with_label_values(&["evictable"])
            .set(whole(usage.evictable));
        let total = |name: &str, help: &str, value: u64| -> prometheus::Result<()> {
            add(now, IntGauge::new(name, help)?)?.set(whole(value));
            Ok(())
        };
        total(
            "afterglow_cache_limit_bytes",
            "Bytes that the model cache may hold",
            usage.limit,
        )?;
        let Some(disk) = usage.disk else { return Ok(()) };
        total(
            "afterglow_cache_disk_free_bytes",
            "Bytes free on the file system that the model cache lies on",
            disk.free,
        )?;
        total(
            "afterglow_cache_disk_size_bytes",
            "Bytes of the file system that the model cache lies on",
            disk.size,
        )
    }
}

fn registry(owner: &Owner) -> prometheus::Result<Registry> {
    let labels = [("node", &owner.node), ("inference_cluster", &owner.cluster)];
    let labels: HashMap<String, String> = labels
        .into_iter()
        .map(|(label, value)| (label.to_owned(), value.clone()))
        .collect();
    Registry::new_custom(None, Some(labels))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> prometheus::Result<C> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

fn whole(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use afterglow_crds::gpu_node::SelfTest;

    fn metrics() -> Arc<Metrics> {
        let owner = Owner {
            node: "rig-1".into(),
            cluster: "lab".into(),
        };
        Metrics::new(owner).unwrap()
    }

    fn device(name: &str, because: &str, result: TestResult) -> Device {
        Device {
            name: name.into(),
            offered: because.is_empty(),
            not_offered_because: because.into(),
            self_test: SelfTest {
                result,
                ..SelfTest::default()
            },
            ..Device::default()
        }
    }

    fn all_readings() -> BTreeMap<String, Readings> {
        let readings = Readings {
            temperature: Some(81.0),
            power: Some(95.0),
            memory_used: Some(5.0),
        };
        BTreeMap::from([("gpu-0".to_owned(), readings)])
    }

    /// A sample's value, by the start of its line.
    fn value(text: &str, start: &str) -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(start))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn a_card_that_is_gone_leaves_no_reading_behind() {
        let metrics = metrics();
        let mut hot = all_readings();
        for readings in hot.values_mut() {
            readings.power = None;
        }
        metrics.devices(&Inventory::default(), &hot);
        let text = metrics.own().unwrap();
        assert_eq!(
            value(&text, r#"afterglow_device_temperature_celsius{device="gpu-0""#),
            Some(81.0),
            "{text}"
        );
        assert!(
            !text.contains("afterglow_device_power_watts{"),
            "no sensor, no value: {text}"
        );
        metrics.devices(&Inventory::default(), &BTreeMap::new());
        assert!(!metrics.own().unwrap().contains("gpu-0"));
    }

    #[test]
    fn a_fault_is_told_from_a_choice() {
        let metrics = metrics();
        let inventory = Inventory {
            devices: vec![
                device("good", "", TestResult::Passed),
                device("forbidden", FORBIDDEN, TestResult::Passed),
                device("wrong", "it failed its self-test", TestResult::Failed),
                device("unseen", "OpenCL does not see it", TestResult::NotRun),
                device("lent", UNTESTED, TestResult::NotRun),
            ],
            ..Inventory::default()
        };
        metrics.devices(&inventory, &BTreeMap::new());
        let text = metrics.own().unwrap();
        let of =
            |name: &str, device: &str| value(&text, &format!("afterglow_device_{name}{{device=\"{device}\""));
        for (name, healthy, passed) in [
            ("good", 1.0, Some(1.0)),
            ("forbidden", 1.0, Some(1.0)),
            ("wrong", 0.0, Some(0.0)),
            ("unseen", 0.0, None),
            ("lent", 1.0, None),
        ] {
            assert_eq!(of("healthy", name), Some(healthy), "{name}");
            assert_eq!(of("self_test_passed", name), passed, "{name}");
        }
    }

    #[tokio::test]
    async fn the_guides_table_lists_what_an_agent_shows_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let fetcher = Fetcher::open(crate::fetch::Options::new(root.path().to_owned(), 1 << 20)).unwrap();
        let replica: ModelReplica = serde_json::from_value(serde_json::json!({
            "apiVersion": "afterglow.dev/v1alpha1", "kind": "ModelReplica",
            "metadata": {"name": "m-2-x", "namespace": "team"},
            "spec": {
                "cluster": "lab", "nodeName": "rig-1", "device": "gpu-0", "revision": 2, "memory": "1Gi",
                "model": {"name": "m", "source": {"uri": "https://h/m.onnx", "digest": "sha256:0"}}
            }
        }))
        .unwrap();
        let vital = host::Vital {
            metrics: None,
            restarts: 3,
        };
        let metrics = metrics();
        let inventory = Inventory {
            devices: vec![device("gpu-0", "", TestResult::Passed)],
            ..Inventory::default()
        };
        metrics.devices(&inventory, &all_readings());
        metrics.hosts(Hosted {
            engines: watch::channel(Vitals::from([("gpu-0".to_owned(), vital)])).1,
            statuses: watch::channel(Statuses::new()).1,
            desired: watch::channel(vec![replica]).1,
            fetcher,
        });
        let page = metrics.page().await.unwrap();
        crate::metrics_table::agrees("agent", &page, &["node", "inference_cluster"]);
        let ready =
            "afterglow_replica_ready{device=\"gpu-0\",model=\"m\",model_namespace=\"team\",replica=\"m-2-x\"";
        assert_eq!(value(&page, ready), Some(0.0), "{page}");
        assert_eq!(
            value(&page, "afterglow_engine_restarts_total{device=\"gpu-0\""),
            Some(3.0)
        );
        assert_eq!(value(&page, "afterglow_cache_limit_bytes{"), Some(1_048_576.0));
    }
}

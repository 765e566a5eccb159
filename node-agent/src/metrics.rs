//! What Prometheus reads from an agent. Families with no sample yet are absent, not zero: a card without a power sensor
//! does not draw 0 W.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::{GaugeVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::discover::{Inventory, Readings};

/// The agent's metrics.
pub struct Metrics {
    /// Where other parts of the agent register theirs.
    pub registry: Registry,
    states: IntGaugeVec,
    temperature: GaugeVec,
    power: GaugeVec,
    memory_used: GaugeVec,
}

impl Metrics {
    /// All of them, registered.
    pub fn new() -> prometheus::Result<Arc<Self>> {
        let registry = Registry::new();
        let by_device = |name: &str, help: &str| -> prometheus::Result<GaugeVec> {
            let gauges = GaugeVec::new(Opts::new(name, help), &["device"])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let temperature = by_device("afterglow_device_temperature_celsius", "Temperature of the card")?;
        let power = by_device("afterglow_device_power_watts", "Power that the card draws")?;
        let memory_used = by_device(
            "afterglow_device_memory_used_bytes",
            "Memory of the card in use, by whomever",
        )?;
        let states = IntGaugeVec::new(
            Opts::new(
                "afterglow_devices",
                "Devices of this node, by whether models may be placed on them",
            ),
            &["state"],
        )?;
        registry.register(Box::new(states.clone()))?;
        Ok(Arc::new(Self {
            registry,
            states,
            temperature,
            power,
            memory_used,
        }))
    }

    /// What the last look at the devices showed.
    pub fn devices(&self, inventory: &Inventory, readings: &BTreeMap<String, Readings>) {
        let offered = inventory.devices.iter().filter(|device| device.offered).count();
        let set = |state, count: usize| self.states.with_label_values(&[state]).set(count as i64);
        set("offered", offered);
        set("withheld", inventory.devices.len() - offered);
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

    /// In Prometheus' text format.
    pub fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_gone_leaves_no_reading_behind() {
        let metrics = Metrics::new().unwrap();
        let hot = Readings {
            temperature: Some(81.0),
            power: None,
            memory_used: Some(5.0),
        };
        metrics.devices(
            &Inventory::default(),
            &BTreeMap::from([("gpu-0".to_owned(), hot)]),
        );
        let text = metrics.text().unwrap();
        assert!(
            text.contains(r#"afterglow_device_temperature_celsius{device="gpu-0"} 81"#),
            "{text}"
        );
        assert!(
            !text.contains("afterglow_device_power_watts{"),
            "no sensor, no value: {text}"
        );
        metrics.devices(&Inventory::default(), &BTreeMap::new());
        assert!(!metrics.text().unwrap().contains("gpu-0"));
    }
}

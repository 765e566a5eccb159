//! How busy the engines of this node are, as schedulers are told: what the engines report, less what the agent knows better.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use afterglow_proto::load::{Model, Report};
use tokio::sync::watch;

/// How busy the models of each device are.
pub(super) type Loads = BTreeMap<String, Vec<Model>>;

/// What is told.
#[derive(Debug, Default)]
pub(super) struct Published {
    loads: watch::Sender<Loads>,
    /// Models that their engines still have and nobody should send anything new to.
    withdrawn: Mutex<BTreeSet<String>>,
}

impl Published {
    pub(super) fn subscribe(&self) -> watch::Receiver<Loads> {
        self.loads.subscribe()
    }

    /// An engine's report.
    pub(super) fn report(&self, device: &str, report: Report) {
        let withdrawn = self.withdrawn();
        let draining = report.draining;
        let models: Vec<Model> = report
            .models
            .into_iter()
            .map(|model| Model {
                device: device.to_owned(),
                ready: model.ready && !draining && !withdrawn.contains(&model.name),
                ..model
            })
            .collect();
        self.loads.send_if_modified(|loads| {
            let news = loads.get(device) != Some(&models);
            if news {
                loads.insert(device.to_owned(), models);
            }
            news
        });
    }

    /// The engine is silent or on its way out: what it said last is not news, and nothing new should go there.
    pub(super) fn doubt(&self, device: &str) {
        self.refuse(|of, _| of == device);
    }

    /// Nothing new should go to the model from now on, whatever its engine says.
    pub(super) fn withdraw(&self, model: &str) {
        self.withdrawn().insert(model.to_owned());
        self.refuse(|_, name| name == model);
    }

    /// The model is gone, or comes anew: its engine is believed again.
    pub(super) fn admit(&self, model: &str) {
        self.withdrawn().remove(model);
    }

    /// The engine is gone.
    pub(super) fn remove(&self, device: &str) {
        self.loads
            .send_if_modified(|loads| loads.remove(device).is_some());
    }

    fn refuse(&self, which: impl Fn(&str, &str) -> bool) {
        self.loads.send_if_modified(|loads| {
            let mut news = false;
            for (device, models) in loads.iter_mut() {
                for model in models.iter_mut().filter(|model| which(device, &model.name)) {
                    news |= std::mem::take(&mut model.ready);
                }
            }
            news
        });
    }

    fn withdrawn(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(names: &[&str]) -> Report {
        let model = |name: &&str| Model {
            name: (*name).into(),
            ready: true,
            ..Model::default()
        };
        Report {
            models: names.iter().map(model).collect(),
            ..Report::default()
        }
    }

    fn ready(published: &Published) -> Vec<(String, bool)> {
        let loads = published.subscribe();
        let loads = loads.borrow();
        let models = loads.values().flatten();
        models.map(|model| (model.name.clone(), model.ready)).collect()
    }

    fn told(lines: &[(&str, bool)]) -> Vec<(String, bool)> {
        lines
            .iter()
            .map(|(name, ready)| ((*name).to_owned(), *ready))
            .collect()
    }

    #[test]
    fn a_model_that_is_withdrawn_takes_nothing_new_until_it_comes_anew() {
        let published = Published::default();
        published.report("gpu-0", report(&["a", "b"]));
        published.withdraw("a");
        assert_eq!(ready(&published), told(&[("a", false), ("b", true)]), "at once");
        published.report("gpu-0", report(&["a", "b"]));
        assert_eq!(
            ready(&published),
            told(&[("a", false), ("b", true)]),
            "whatever its engine says"
        );
        published.admit("a");
        published.report("gpu-0", report(&["a"]));
        assert_eq!(ready(&published), told(&[("a", true)]));
    }

    #[test]
    fn an_engine_in_doubt_takes_nothing_new_until_it_reports_again() {
        let published = Published::default();
        published.report("gpu-0", report(&["a"]));
        published.report("gpu-1", report(&["b"]));
        published.doubt("gpu-0");
        assert_eq!(ready(&published), told(&[("a", false), ("b", true)]));
        published.report("gpu-0", report(&["a"]));
        assert_eq!(ready(&published), told(&[("a", true), ("b", true)]));
        let leaving = Report {
            draining: true,
            ..report(&["b"])
        };
        published.report("gpu-1", leaving);
        assert_eq!(ready(&published), told(&[("a", true), ("b", false)]));
        published.remove("gpu-1");
        assert_eq!(ready(&published), told(&[("a", true)]));
    }

    #[test]
    fn what_is_no_news_wakes_nobody() {
        let published = Published::default();
        published.report("gpu-0", report(&["a"]));
        let loads = published.subscribe();
        published.report("gpu-0", report(&["a"]));
        published.remove("gpu-1");
        assert!(!loads.has_changed().unwrap());
    }
}

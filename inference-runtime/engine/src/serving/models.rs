//! The table of models: who is ready, who is not and why.
//!
//! One control operation a model at a time; requests never wait for one. A model that is loaded anew goes on answering
//! from its old session until the new one is ready, and for good if the new one fails.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use super::Served;
use super::load::{Loader, Wanted, blocking};
use crate::api::{Error, IndexEntry, ModelLoad, ModelState, Result};
use crate::repository::{self, Folder, ModelFolder};

/// The table of models of one engine.
pub(crate) struct Models {
    folder: Folder,
    loader: Loader,
    table: RwLock<BTreeMap<String, Entry>>,
    /// One operation a model at a time.
    control: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

#[derive(Default)]
struct Entry {
    versions: BTreeMap<u64, Slot>,
    /// What is wrong with the model as a whole.
    trouble: Option<String>,
}

struct Slot {
    state: ModelState,
    reason: String,
    served: Option<Arc<Served>>,
}

impl Models {
    pub(crate) fn new(folder: Folder, loader: Loader) -> Self {
        Self {
            folder,
            loader,
            table: RwLock::default(),
            control: Mutex::default(),
        }
    }

    /// Where the repository is.
    pub(crate) fn root(&self) -> &Path {
        self.folder.root()
    }

    /// What models are loaded with.
    pub(crate) fn loader(&self) -> &Loader {
        &self.loader
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Entry>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<String, Entry>> {
        let table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        // Before the change is made, but with the lock held: who hears of it waits to read.
        self.loader.activity.stir();
        table
    }

    /// Loads everything that lies in the repository, one after the other; answers what failed.
    pub(crate) async fn load_all(&self) -> std::io::Result<Vec<(String, Error)>> {
        let found = self.folder.scan()?;
        // Listed from the start, so that who asks early sees a model on its way and not an unknown name.
        for model in &found {
            self.write().entry(model.name.clone()).or_default().trouble =
                Some("waiting to be loaded".to_owned());
        }
        let mut failed = Vec::new();
        for model in found {
            let name = model.name.clone();
            if let Err(error) = self.load_folder(model, None).await {
                tracing::error!(model = name, "{error}");
                failed.push((name, error));
            }
        }
        Ok(failed)
    }

    /// Loads a model as it lies in the repository now, with `config` on top of its settings.
    pub(crate) async fn load(&self, name: &str, config: Option<&Value>) -> Result<()> {
        if let Some(fault) = repository::name_fault(name) {
            return Err(Error::not_found(fault));
        }
        let model = self.folder.model(name).ok_or_else(|| unknown(name, None))?;
        self.forget_gone();
        self.load_folder(model, config).await
    }

    /// Drops models that nobody serves and whose folder is gone: an engine that lives for months must not remember each.
    fn forget_gone(&self) {
        let gone: Vec<String> = {
            let table = self.read();
            let idle = table.iter().filter(|(_, entry)| entry.idle());
            idle.map(|(name, _)| name.clone())
                .filter(|name| self.folder.model(name).is_none())
                .collect()
        };
        if gone.is_empty() {
            return;
        }
        let mut table = self.write();
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        for name in gone {
            // Somebody may be at work on it since.
            if control.get(&name).is_none_or(|lock| Arc::strong_count(lock) == 1)
                && table.get(&name).is_some_and(Entry::idle)
            {
                table.remove(&name);
                control.remove(&name);
            }
        }
    }

    async fn load_folder(&self, model: ModelFolder, config: Option<&Value>) -> Result<()> {
        let name = model.name.clone();
        let _one_at_a_time = self.lock(&name).await;
        let wanted = match wanted(&model, config) {
            Ok(wanted) => wanted,
            Err(error) => {
                self.write().entry(name).or_default().trouble = Some(error.message.clone());
                return Err(error);
            }
        };
        self.write().entry(name.clone()).or_default().trouble = None;
        let numbers: Vec<u64> = wanted.iter().map(|wanted| wanted.version).collect();
        let mut failures = Vec::new();
        for wanted in wanted {
            let version = wanted.version;
            if let Err(error) = self.load_version(wanted).await {
                failures.push(format!("version {version}: {}", error.message));
            }
        }
        for version in self
            .versions(&name)
            .into_iter()
            .filter(|version| !numbers.contains(version))
        {
            self.unload_version(&name, version).await;
            if let Some(entry) = self.write().get_mut(&name) {
                entry.versions.remove(&version);
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Error::unavailable(format!(
                "model `{name}` cannot be served: {}",
                failures.join("; ")
            )))
        }
    }

    fn versions(&self, name: &str) -> Vec<u64> {
        self.read()
            .get(name)
            .map(|entry| entry.versions.keys().copied().collect())
            .unwrap_or_default()
    }

    async fn load_version(&self, wanted: Wanted) -> Result<()> {
        let (name, version) = (wanted.name.clone(), wanted.version);
        let old = self.announce(&name, version);
        let loaded = async {
            let digest = self.loader.digest(&wanted).await?;
            match &old {
                Some(old) if old.digest == digest && old.shown_as == wanted.shown_as() => Ok(None),
                _ => self.loader.load(wanted).await.map(Some),
            }
        };
        match loaded.await {
            Ok(None) => Ok(()),
            Ok(Some(served)) => {
                if let Some(replaced) = self.install(Arc::new(served)) {
                    free(replaced).await;
                }
                Ok(())
            }
            Err(error) => {
                let mut table = self.write();
                let slot = table
                    .get_mut(&name)
                    .and_then(|entry| entry.versions.get_mut(&version));
                if let Some(slot) = slot.filter(|slot| slot.served.is_none()) {
                    slot.state = ModelState::Unavailable;
                    slot.reason.clone_from(&error.message);
                }
                Err(error)
            }
        }
    }

    /// Shows that a version is on its way; answers what serves until it is there.
    fn announce(&self, name: &str, version: u64) -> Option<Arc<Served>> {
        let mut table = self.write();
        let slot = table
            .entry(name.to_owned())
            .or_default()
            .versions
            .entry(version)
            .or_insert_with(|| Slot {
                state: ModelState::Loading,
                reason: String::new(),
                served: None,
            });
        if slot.served.is_none() {
            slot.state = ModelState::Loading;
            slot.reason.clear();
        }
        slot.served.clone()
    }

    /// Puts a loaded version in its place; answers what it replaces.
    fn install(&self, served: Arc<Served>) -> Option<Arc<Served>> {
        tracing::info!(
            model = served.name,
            version = served.version,
            device = served.placement.device,
            device_nodes = served.placement.device_nodes,
            cpu_nodes = served.placement.cpu_nodes,
            max_batch = served.signature.max_batch,
            "ready"
        );
        let mut table = self.write();
        let slot = table
            .entry(served.name.clone())
            .or_default()
            .versions
            .entry(served.version);
        let slot = slot.or_insert_with(|| Slot {
            state: ModelState::Ready,
            reason: String::new(),
            served: None,
        });
        slot.state = ModelState::Ready;
        slot.reason.clear();
        slot.served.replace(served)
    }

    /// Lets a model finish what it has and frees it.
    pub(crate) async fn unload(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.lock(name).await;
        if !self.read().contains_key(name) {
            return Err(unknown(name, None));
        }
        for version in self.versions(name) {
            self.unload_version(name, version).await;
        }
        if let Some(entry) = self.write().get_mut(name) {
            entry.trouble = Some("unloaded".to_owned());
        }
        Ok(())
    }

    async fn unload_version(&self, name: &str, version: u64) {
        if let Some(served) = self.change(name, version, ModelState::Unloading, "being unloaded") {
            free(served).await;
        }
        self.change(name, version, ModelState::Unavailable, "unloaded");
        tracing::info!(model = name, version, "unloaded");
    }

    /// Takes a version out of service; answers what served until now.
    fn change(&self, name: &str, version: u64, state: ModelState, reason: &str) -> Option<Arc<Served>> {
        let mut table = self.write();
        let slot = table.get_mut(name)?.versions.get_mut(&version)?;
        slot.state = state;
        reason.clone_into(&mut slot.reason);
        slot.served.take()
    }

    /// Everything that answers is finished and freed; for the end of the process.
    pub(crate) async fn finish(&self) {
        let slots = |table: &mut BTreeMap<String, Entry>| -> Vec<Arc<Served>> {
            let slots = table.values_mut().flat_map(|entry| entry.versions.values_mut());
            slots.filter_map(|slot| slot.served.take()).collect()
        };
        let all = slots(&mut self.write());
        for served in all {
            free(served).await;
        }
    }

    async fn lock(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(control.entry(name.to_owned()).or_default())
        };
        lock.lock_owned().await
    }

    /// The version that answers: the one named, or the highest that is ready.
    pub(crate) fn resolve(&self, name: &str, version: Option<&str>) -> Result<Arc<Served>> {
        let table = self.read();
        let entry = table.get(name).ok_or_else(|| unknown(name, None))?;
        let not_ready = |reason: &str| Error::unavailable(format!("model `{name}` is not ready: {reason}"));
        if let Some(text) = version {
            let number = repository::version(text);
            let slot = number
                .and_then(|number| entry.versions.get(&number))
                .ok_or_else(|| unknown(name, version))?;
            return slot.served.clone().ok_or_else(|| not_ready(&slot.why()));
        }
        if let Some(served) = entry.versions.values().rev().find_map(|slot| slot.served.clone()) {
            return Ok(served);
        }
        let why = entry
            .trouble
            .clone()
            .or_else(|| entry.versions.values().next_back().map(Slot::why));
        Err(not_ready(&why.unwrap_or_else(|| "it has no version".to_owned())))
    }

    /// The versions of a model that are ready, ascending.
    pub(crate) fn ready_versions(&self, name: &str) -> Vec<String> {
        let table = self.read();
        let versions = table.get(name).into_iter().flat_map(|entry| &entry.versions);
        versions
            .filter(|(_, slot)| slot.served.is_some())
            .map(|(version, _)| version.to_string())
            .collect()
    }

    /// All versions of a model (of all models) that answer.
    pub(crate) fn served(&self, name: Option<&str>) -> Vec<Arc<Served>> {
        let table = self.read();
        let entries = table
            .iter()
            .filter(|(key, _)| name.is_none_or(|name| name == *key));
        entries
            .flat_map(|(_, entry)| entry.versions.values())
            .filter_map(|slot| slot.served.clone())
            .collect()
    }

    /// How busy every model of the table is: its highest version that answers.
    pub(crate) fn load_report(&self) -> Vec<ModelLoad> {
        let table = self.read();
        let models = table.iter().map(|(name, entry)| {
            let mut answering = entry
                .versions
                .values()
                .rev()
                .filter_map(|slot| slot.served.as_ref());
            answering.next().map_or_else(
                || ModelLoad {
                    name: name.clone(),
                    ..ModelLoad::default()
                },
                |served| served.load(),
            )
        });
        models.collect()
    }

    /// What the table holds and what lies in the repository besides.
    pub(crate) fn index(&self, ready_only: bool) -> Vec<IndexEntry> {
        let on_disk = self.folder.scan().unwrap_or_default();
        let table = self.read();
        let mut index = Vec::new();
        let mut line = |name: &str, version: String, state: ModelState, reason: &str| {
            index.push(IndexEntry {
                name: name.to_owned(),
                version,
                state,
                reason: reason.to_owned(),
            });
        };
        let there = |name: &str| on_disk.iter().any(|model| model.name == name);
        for (name, entry) in table.iter() {
            if entry.idle() && !there(name) {
                continue;
            }
            for (version, slot) in &entry.versions {
                line(name, version.to_string(), slot.state, &slot.reason);
            }
            if let (Some(trouble), true) = (&entry.trouble, entry.versions.is_empty()) {
                line(name, String::new(), ModelState::Unavailable, trouble);
            }
        }
        for model in on_disk.iter().filter(|model| !table.contains_key(&model.name)) {
            let reason = model.settings.as_ref().err().map_or("not loaded", String::as_str);
            line(&model.name, String::new(), ModelState::Unavailable, reason);
        }
        index.retain(|entry| !ready_only || entry.state == ModelState::Ready);
        // Stable: versions stay in their order.
        index.sort_by(|a, b| a.name.cmp(&b.name));
        index
    }
}

impl Entry {
    /// Nothing of it serves or is about to.
    fn idle(&self) -> bool {
        let idle = |slot: &Slot| slot.served.is_none() && slot.state == ModelState::Unavailable;
        self.versions.values().all(idle)
    }
}

impl Slot {
    fn why(&self) -> String {
        if self.reason.is_empty() {
            self.state.name().to_lowercase()
        } else {
            self.reason.clone()
        }
    }
}

/// The versions of a model that should answer.
fn wanted(model: &ModelFolder, config: Option<&Value>) -> Result<Vec<Wanted>> {
    let name = &model.name;
    let refuse = |reason: &str| Error::unavailable(format!("model `{name}` cannot be served: {reason}"));
    let mut settings = model.settings.clone().map_err(|reason| refuse(&reason))?;
    if let Some(config) = config {
        settings = repository::apply_overrides(name, &settings, config).map_err(Error::invalid)?;
    }
    let versions = settings.version_policy.choose(&model.versions);
    if versions.is_empty() {
        return Err(refuse(&format!(
            "it has no version to serve; a version is a folder named by a whole number, with a model.onnx in it; there \
             are {:?}",
            model.versions
        )));
    }
    let wanted = versions.into_iter().map(|version| Wanted {
        name: name.clone(),
        version,
        folder: model.version(version),
        settings: settings.clone(),
    });
    Ok(wanted.collect())
}

async fn free(served: Arc<Served>) {
    let freed = blocking(move || {
        served.finish();
        drop(served);
        ort_ep_sys::session::release_unused_memory();
        Ok(())
    });
    if let Err(error) = freed.await {
        tracing::error!("a model could not be freed: {error}");
    }
}

fn unknown(model: &str, version: Option<&str>) -> Error {
    match version {
        None => Error::not_found(format!("no model `{model}` in the repository")),
        Some(version) => Error::not_found(format!(
            "no version `{version}` of model `{model}` in the repository"
        )),
    }
}

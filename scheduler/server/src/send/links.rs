//! The engines of the fleet, by address.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use afterglow_policy::breaker::Standing;
use tokio::sync::Notify;

use super::link::{Engine, Link};
use crate::fleet::Fleet;

/// One connection per engine, made when the engine joins the fleet, so that its first request does not wait for it.
#[derive(Debug, Default)]
pub(crate) struct Links {
    engines: Mutex<HashMap<String, Arc<Engine>>>,
    /// Told whenever an engine can be reached that could not before.
    pub(crate) news: Arc<Notify>,
}

impl Links {
    /// Whether the engine at an address may be asked; one that is not known yet is well.
    pub(crate) fn standing(&self, address: &str, now: Instant) -> Standing {
        let engine = self.lock().get(address).cloned();
        engine.map_or(Standing::Well, |engine| engine.standing(now))
    }

    /// The connection to an engine, or why there is none.
    pub(crate) async fn to(&self, address: &str) -> Result<Link, String> {
        let engine = self.engine(address);
        engine.link().await
    }

    /// Connects to the fleet's engines, and forgets those that are not in it any more; what is under way there goes on.
    pub(crate) fn keep(&self, fleet: &Fleet) {
        self.lock()
            .retain(|address, _| fleet.replicas().any(|replica| replica.grpc == *address));
        for replica in fleet.replicas() {
            self.engine(&replica.grpc);
        }
    }

    fn engine(&self, address: &str) -> Arc<Engine> {
        let mut engines = self.lock();
        if let Some(engine) = engines.get(address) {
            return engine.clone();
        }
        let engine = Arc::new(Engine::keep(address.to_owned(), self.news.clone()));
        engines.insert(address.to_owned(), engine.clone());
        engine
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Engine>>> {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

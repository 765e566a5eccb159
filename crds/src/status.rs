//! Writing a status to the object that it is about, and to no other one of its name.
//!
//! The uid in an apply to `/status` is no precondition: the API server takes the metadata of the object that is there before it
//! compares (apiextensions-apiserver, `statusStrategy.PrepareForUpdate`). It does compare the `resourceVersion`. As that also
//! changes whenever anybody writes anything, a refusal is followed by a look at what is there now.

use std::fmt::Debug;

use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Beside somebody who writes fifty times a second every second try or so is one too many: so many in a row are one in 256.
const TRIES: usize = 8;

/// Applies `status` to `object`, by force: the fields are `manager`'s. `None`: the object is gone, and what has its name now, if
/// anything has, was left alone.
///
/// # Errors
/// What the API server says; its conflict (409) if others changed the object before each of eight tries.
pub async fn write<K>(
    api: &Api<K>,
    object: &K,
    status: &impl Serialize,
    manager: &str,
) -> kube::Result<Option<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let name = object.name_any();
    let params = PatchParams::apply(manager).force();
    let mut version = object.resource_version();
    let mut tries = 1;
    loop {
        let patch = Patch::Apply(body::<K>(object, version.as_deref(), status));
        match api.patch_status(&name, &params, &patch).await {
            Ok(written) => return Ok(Some(written)),
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() => return Ok(None),
            Err(kube::Error::Api(refusal)) if refusal.is_conflict() && tries < TRIES => {}
            Err(error) => return Err(error),
        }
        // A list of one, as nobody here has another reason for the right to get single objects.
        let this = ListParams::default().fields(&format!("metadata.name={name}"));
        let now = api.list_metadata(&this).await?.items.pop();
        match now {
            Some(now) if now.uid() == object.uid() => version = now.resource_version(),
            _ => return Ok(None),
        }
        tries += 1;
    }
}

fn body<K: Resource<DynamicType = ()>>(object: &K, version: Option<&str>, status: &impl Serialize) -> Value {
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "name": object.name_any(), "namespace": object.namespace(), "resourceVersion": version },
        "status": status,
    })
}

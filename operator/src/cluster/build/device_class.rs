//! How pods of others claim cards that are lent to them.

use afterglow_crds::labels;
use serde_json::json;

use super::{Blueprint, Child, Kind, MANAGED_BY};

/// One for all clusters: it belongs to none of them, and goes with the last.
pub(crate) fn lent(_: &Blueprint<'_>) -> Child {
    let resource = Kind::DeviceClass.resource();
    let body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": labels::DRIVER,
            "labels": { "app.kubernetes.io/name": "afterglow", "app.kubernetes.io/managed-by": MANAGED_BY },
        },
        "spec": {
            "selectors": [{ "cel": { "expression": format!("device.driver == \"{}\"", labels::DRIVER) } }],
        },
    });
    Child {
        kind: Kind::DeviceClass,
        namespace: None,
        name: labels::DRIVER.to_owned(),
        body,
    }
}

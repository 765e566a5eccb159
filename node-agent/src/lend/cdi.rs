//! What the container runtime puts into a container: one CDI file per claim. The files are also this plugin's memory: a
//! restart forgets nothing, and what has a file has been handed over.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use afterglow_crds::gpu_node::Device;
use serde::{Deserialize, Serialize};

/// CDI's `vendor/class`.
const KIND: &str = "afterglow.dev/gpu";
const PREFIX: &str = "afterglow.dev-";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    cdi_version: String,
    kind: String,
    devices: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: String,
    annotations: BTreeMap<String, String>,
    container_edits: Edits,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    device_nodes: Vec<Node>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", rename = "additionalGids")]
    additional_gids: Vec<i64>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: String,
    permissions: String,
}

const DEVICE: &str = "afterglow.dev/device";

/// The name by which the runtime knows a device of a claim. The claim is part of it: runtimes remember names.
pub(super) fn id(claim: &str, device: &str) -> String {
    format!("{KIND}={claim}-{device}")
}

/// Writes a claim's file; `devices` by the request that they answer. Writing it again changes nothing.
pub(super) fn write(folder: &Path, claim: &str, devices: &[(String, Device)]) -> io::Result<()> {
    let entries: Vec<Entry> = devices
        .iter()
        .map(|(request, device)| {
            // A container that uses a request gets all of its devices, each with the whole list: whichever the runtime
            // applies last, the variable is right.
            let names: Vec<&str> = devices
                .iter()
                .filter(|(other, _)| other == request)
                .map(|(_, device)| device.name.as_str())
                .collect();
            entry(claim, device, &names.join(","))
        })
        .collect();
    // The group came with 0.7.0; runtimes that know only 0.6.0 are served where no group is needed.
    let groups = entries
        .iter()
        .any(|entry| !entry.container_edits.additional_gids.is_empty());
    let spec = Spec {
        cdi_version: if groups { "0.7.0" } else { "0.6.0" }.to_owned(),
        kind: KIND.to_owned(),
        devices: entries,
    };
    fs::create_dir_all(folder)?;
    // The runtime reads every .json file here at any time: it must never see half a file.
    let unfinished = folder.join(format!("{PREFIX}{claim}.unfinished"));
    fs::write(&unfinished, serde_json::to_vec_pretty(&spec)?)?;
    fs::rename(unfinished, file(folder, claim))
}

fn entry(claim: &str, device: &Device, all: &str) -> Entry {
    let render = device.render_node.as_ref();
    let mut env = vec![format!("AFTERGLOW_DEVICE={all}")];
    if render.is_some() {
        // Mesa's rusticl is installed with every driver switched off.
        env.push("RUSTICL_ENABLE=radeonsi".to_owned());
    }
    Entry {
        name: format!("{claim}-{}", device.name),
        annotations: BTreeMap::from([(DEVICE.to_owned(), device.name.clone())]),
        container_edits: Edits {
            env,
            device_nodes: render
                .map(|path| Node {
                    path: path.clone(),
                    permissions: "rw".to_owned(),
                })
                .into_iter()
                .collect(),
            additional_gids: render
                .and(device.render_gid)
                .filter(|gid| *gid > 0)
                .into_iter()
                .collect(),
        },
    }
}

/// Removes a claim's file; it may be gone already.
pub(super) fn remove(folder: &Path, claim: &str) -> io::Result<()> {
    match fs::remove_file(file(folder, claim)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The claim, other than `claim`, to which a device has been handed over.
pub(super) fn holder(folder: &Path, device: &str, claim: &str) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let other = name.strip_prefix(PREFIX)?.strip_suffix(".json")?;
        let spec: Spec = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
        let has = spec
            .devices
            .iter()
            .any(|entry| entry.annotations.get(DEVICE).is_some_and(|name| name == device));
        (has && other != claim).then(|| other.to_owned())
    })
}

fn file(folder: &Path, claim: &str) -> PathBuf {
    folder.join(format!("{PREFIX}{claim}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(name: &str) -> Device {
        Device {
            name: name.into(),
            render_node: Some("/dev/dri/renderD128".into()),
            render_gid: Some(992),
            ..Device::default()
        }
    }

    #[test]
    fn a_card_comes_with_its_render_node_and_its_group_and_a_processor_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let processor = Device {
            name: "cpu-0".into(),
            ..Device::default()
        };
        write(
            folder.path(),
            "uid-1",
            &[("one".into(), card("gpu-a")), ("one".into(), card("gpu-b"))],
        )
        .unwrap();
        write(folder.path(), "uid-2", &[("one".into(), processor)]).unwrap();
        let read = |claim| -> serde_json::Value {
            serde_json::from_slice(&fs::read(file(folder.path(), claim)).unwrap()).unwrap()
        };
        let cards = read("uid-1");
        assert_eq!(cards["cdiVersion"], "0.7.0");
        assert_eq!(cards["kind"], "afterglow.dev/gpu");
        assert_eq!(
            cards["devices"][1],
            serde_json::json!({
                "name": "uid-1-gpu-b",
                "annotations": {"afterglow.dev/device": "gpu-b"},
                "containerEdits": {
                    "env": ["AFTERGLOW_DEVICE=gpu-a,gpu-b", "RUSTICL_ENABLE=radeonsi"],
                    "deviceNodes": [{"path": "/dev/dri/renderD128", "permissions": "rw"}],
                    "additionalGids": [992],
                },
            })
        );
        let processor = read("uid-2");
        assert_eq!(processor["cdiVersion"], "0.6.0");
        assert_eq!(
            processor["devices"][0]["containerEdits"],
            serde_json::json!({"env": ["AFTERGLOW_DEVICE=cpu-0"]})
        );
        assert_eq!(id("uid-1", "gpu-b"), "afterglow.dev/gpu=uid-1-gpu-b");
    }

    #[test]
    fn the_files_know_who_holds_what() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "uid-1", &[("one".into(), card("gpu-a"))]).unwrap();
        write(folder.path(), "uid-1", &[("one".into(), card("gpu-a"))]).unwrap();
        fs::write(folder.path().join("other.json"), "{}").unwrap();
        assert_eq!(holder(folder.path(), "gpu-a", "uid-2").as_deref(), Some("uid-1"));
        assert_eq!(holder(folder.path(), "gpu-a", "uid-1"), None, "its own");
        assert_eq!(holder(folder.path(), "gpu-b", "uid-2"), None);
        remove(folder.path(), "uid-1").unwrap();
        remove(folder.path(), "uid-1").unwrap();
        assert_eq!(holder(folder.path(), "gpu-a", "uid-2"), None);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "nothing of ours is left"
        );
    }
}

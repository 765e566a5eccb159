//! `afterglow models`: what a server has, and what of each model runs where.

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;

use crate::args::{Output, Server};
use crate::client::{Client, IndexEntry, Metadata, Placement};
use crate::render::{self, Table};

/// One model version.
#[derive(Debug, Serialize)]
pub(crate) struct Model {
    #[serde(flatten)]
    entry: IndexEntry,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Metadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placement: Option<Placement>,
}

/// Runs the verb.
pub(super) async fn run(args: &Server, output: Output) -> Result<ExitCode> {
    let models = gather(&Client::new(args)?).await?;
    match output {
        Output::Json => render::json(&models)?,
        Output::Table => render::text(table(&models))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything a server tells of its models.
pub(crate) async fn gather(client: &Client) -> Result<Vec<Model>> {
    let mut models = Vec::new();
    for entry in client.index().await? {
        let (metadata, placement) = if entry.is_ready() {
            let versioned = format!("{}/{}", entry.name, entry.version);
            (
                Some(client.metadata(&versioned).await?),
                client.placement(&entry.name, &entry.version).await?,
            )
        } else {
            (None, None)
        };
        models.push(Model {
            entry,
            metadata,
            placement,
        });
    }
    Ok(models)
}

/// The models for people; the share that runs on the CPU is never hidden.
pub(crate) fn table(models: &[Model]) -> Table {
    let mut table = Table::new([
        "MODEL",
        "VERSION",
        "STATE",
        "DEVICE",
        "ON DEVICE",
        "ON CPU",
        "REASON",
    ]);
    for Model { entry, placement, .. } in models {
        let (device, on_device, on_cpu) = match placement {
            Some(p) => (p.device.clone(), on_device(p), on_cpu(p)),
            None => ("-".to_owned(), "-".to_owned(), "-".to_owned()),
        };
        let reason = entry.reason.lines().next().unwrap_or_default().to_owned();
        table.row([
            entry.name.clone(),
            entry.version.clone(),
            entry.state.clone(),
            device,
            on_device,
            on_cpu,
            reason,
        ]);
    }
    table
}

fn on_device(placement: &Placement) -> String {
    match placement.partitions {
        0 => "0 nodes".to_owned(),
        1 => format!("{} nodes in 1 partition", placement.device_nodes),
        n => format!("{} nodes in {n} partitions", placement.device_nodes),
    }
}

fn on_cpu(placement: &Placement) -> String {
    if placement.cpu_operators.is_empty() {
        format!("{} nodes", placement.cpu_nodes)
    } else {
        format!("{} nodes ({})", placement.cpu_nodes, placement.cpu_operators)
    }
}

//! What people see who look after a fleet: a real Prometheus reads the annotated pods while requests come, and each panel and
//! each alert of the chart has something to look at.

mod expressions;
mod server;

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::traffic::Traffic;
use crate::wire;
use crate::world::{FIRST_START, SOON, World};
use expressions::{Expression, Guide};
use server::Prometheus;

/// One operator, three agents, two schedulers.
const FEWEST: usize = 6;

pub(super) async fn every_panel_and_every_alert_has_data_while_requests_come(
    world: &mut World,
) -> Result<()> {
    ensure!(
        world.provider.name() == "local",
        "pods of the provider `{}` are not reached from here, so nothing here can read their metrics",
        world.provider.name()
    );
    world.minilm("minilm-1", 2).await.context("serve something")?;
    let prometheus = Prometheus::start(world).await?;
    let traffic = Traffic::start(world)?;
    let up = "each pod of ours is read";
    world
        .until(up, FIRST_START, async || targets(&prometheus).await)
        .await?;

    let guide = Guide::read(&world.tools.root)?;
    let mut waiting = expressions::of_chart(&world.tools.root)?;
    let all = waiting.len();
    ensure!(all > 60, "only {all} expressions were found in the chart");
    let unseen: Vec<Expression> = waiting
        .extract_if(.., |expression| guide.cards_only(&expression.query))
        .collect();
    world
        .until("every expression has data", SOON, async || {
            let mut empty = Vec::new();
            for expression in &waiting {
                if prometheus.query(&expression.query).await?.is_empty() {
                    empty.push(format!("{}: {}", expression.place, expression.query));
                }
            }
            ensure!(empty.is_empty(), "no data for {}", empty.join("; "));
            Ok(())
        })
        .await?;
    // No node here has a card: what only a card's sensors tell must be absent, and not zero.
    for expression in &unseen {
        let found = prometheus.query(&expression.query).await?;
        ensure!(
            found.is_empty(),
            "{} shows {found:?}, and there is no card here",
            expression.place
        );
    }
    well_named(&prometheus).await?;
    prometheus.rules_are_well().await?;
    pages_are_well_formed(world, &prometheus).await?;
    let tally = traffic.nothing_lost().await?;
    anstream::println!(
        "    {} expressions have data, {} wait for a card; {} answers meanwhile, none lost",
        all - unseen.len(),
        unseen.len(),
        tally.plain + tally.tensors
    );
    Ok(())
}

async fn targets(prometheus: &Prometheus) -> Result<()> {
    let up = prometheus.query("up").await?;
    let down: Vec<&Value> = up
        .iter()
        .filter(|sample| sample["value"][1] != "1")
        .map(|sample| &sample["metric"]["pod"])
        .collect();
    ensure!(down.is_empty(), "{down:?} cannot be read");
    ensure!(
        up.len() >= FEWEST,
        "{} pods are read, {FEWEST} are here",
        up.len()
    );
    Ok(())
}

/// Models go by the names that people know, and no label of ours was taken by Prometheus.
async fn well_named(prometheus: &Prometheus) -> Result<()> {
    let served = prometheus
        .query(r#"nv_inference_count{model_namespace="default",model="minilm",inference_cluster="default"}"#)
        .await?;
    ensure!(!served.is_empty(), "no series is of the model default/minilm");
    for label in [
        "exported_namespace",
        "exported_node",
        "exported_pod",
        "exported_job",
        "exported_instance",
    ] {
        let taken = prometheus
            .query(&format!(
                r#"{{__name__=~"afterglow_.+|nv_.+|vllm:.+",{label}!=""}}"#
            ))
            .await?;
        ensure!(
            taken.is_empty(),
            "a series has the label {label}: {:?}",
            taken.first()
        );
    }
    Ok(())
}

/// `promtool` reads every pod's page and finds nothing to say, but of names that are Triton's and vLLM's.
async fn pages_are_well_formed(world: &World, prometheus: &Prometheus) -> Result<()> {
    let client = wire::rest()?;
    for page in prometheus.pages().await? {
        let text = client.get(&page).send().await?.text().await?;
        let mut promtool = Command::new(world.tools.program("promtool"))
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start promtool")?;
        if let Some(mut stdin) = promtool.stdin.take() {
            // If it ends early it says why.
            let _ = stdin.write_all(text.as_bytes());
        }
        let said = promtool.wait_with_output().context("wait for promtool")?;
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        let ours: Vec<&str> = said
            .lines()
            .filter(|line| !line.starts_with("nv_") && !line.starts_with("vllm:"))
            .collect();
        ensure!(ours.is_empty(), "promtool says of {page}: {}", ours.join("; "));
    }
    Ok(())
}

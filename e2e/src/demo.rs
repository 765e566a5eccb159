//! `make cluster`: a cluster to try things on, with the quickstart's model served.

use std::time::{Duration, Instant};

use afterglow_crds::ModelDeployment;
use anyhow::{Context, Result, bail};

use crate::local::Local;
use crate::models::Models;
use crate::provider::Provider as _;
use crate::runner::client;
use crate::tools::Tools;
use crate::world::{FIRST_START, MINILM, install, shown};

/// Loads the images, installs the chart and serves MiniLM; on a cluster that has all of it, it changes nothing.
pub async fn serve(tools: &Tools, mut local: Local) -> Result<()> {
    let (kubeconfig, bin) = (local.kubeconfig(), tools.bin.clone());
    let archives = tools.images();
    if archives.is_empty() {
        bail!("target/images has no archives: run `make images` first");
    }
    for archive in archives {
        let name = archive
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name != "afterglow-agent" && name != "afterglow-agent-polaris-shim" {
            anstream::println!("loading {name} on every node");
            local.load(&archive)?;
        }
    }
    anstream::println!("installing the chart");
    install(tools, &kubeconfig)?;

    let models = Models::make(tools)?;
    let deployment = serde_json::json!({
        "apiVersion": "afterglow.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"namespace": "default", "name": MINILM},
        "spec": {
            "model": {"source": {
                "uri": format!("file://{}", models.file("minilm-1").display()),
                "digest": models.digest("minilm-1")?,
            }},
            "replicas": 2,
        },
    });
    let (kubectl, file) = (
        tools.program("kubectl"),
        kubeconfig.to_string_lossy().into_owned(),
    );
    let apply = crate::command::command(&[&kubectl, "--kubeconfig", &file, "apply", "-f", "-"]);
    crate::command::feed(apply, &deployment.to_string())?;
    wait(&local).await?;

    let address = local.node_address("node1")?;
    anstream::println!(
        "
The cluster is up; `make cluster-down` removes it. In this shell:

  export KUBECONFIG={file} PATH={}:$PATH

  kubectl get inferenceclusters,gpunodes,modeldeployments,modelreplicas -A
  kubectl scale modeldeployment/{MINILM} --replicas=3
  curl -s http://{address}:30080/v1/embeddings -H 'Content-Type: application/json' \\
    -d '{{\"model\": \"{MINILM}\", \"input\": [\"old hardware, new work\"]}}'
",
        bin.display()
    );
    Ok(())
}

/// Says what is being done until the model serves.
async fn wait(local: &Local) -> Result<()> {
    let deployments = kube::Api::<ModelDeployment>::namespaced(client(local).await?, "default");
    let (started, mut said) = (Instant::now(), String::new());
    loop {
        let found = deployments
            .get(MINILM)
            .await
            .context("look at the ModelDeployment")?;
        let conditions = found.status.map(|status| status.conditions).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
        if ready.is_some_and(|ready| ready.status == "True") {
            anstream::println!("{MINILM} serves after {:.0} s", started.elapsed().as_secs_f64());
            return Ok(());
        }
        let now = ready.map_or_else(
            || "waiting for the operator".to_owned(),
            |ready| ready.message.clone(),
        );
        if now != said {
            anstream::println!("{MINILM}: {now}");
            said = now;
        }
        if started.elapsed() > FIRST_START {
            bail!("{MINILM} does not serve: {}", shown(&conditions));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

//! The same files, with a cluster and without.

use std::fs;

use anyhow::{Context, Result};

use crate::reference::{Standalone, TEXTS};
use crate::wire;
use crate::world::{FIRST_START, MINILM, World};

pub(super) async fn the_same_folder_gives_the_same_answers_without_a_cluster(
    world: &mut World,
) -> Result<()> {
    world.install()?;
    world.cluster_ready("default", FIRST_START).await?;
    let folder = world.tools.target.join("folder");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let deployment = world.models.deployment("default", MINILM, "minilm-1", 1)?;
    let text = serde_saphyr::to_string(&deployment).context("write the deployment as YAML")?;
    fs::write(folder.join("minilm.yaml"), text).context("write minilm.yaml")?;

    world.kubectl(&["apply", "-f", &folder.to_string_lossy()])?;
    world.deployment_ready("default", MINILM, 1, FIRST_START).await?;
    let mut standalone = Standalone::start(&world.tools, &folder)?;
    standalone.ready().await?;
    let rest = wire::rest()?;
    for text in TEXTS {
        let there = wire::embed(&rest, &world.rest()?, None, MINILM, text).await?;
        let here = wire::embed(&rest, &standalone.rest, None, MINILM, text)
            .await
            .with_context(|| standalone.last_words())?;
        wire::same(&here, &there).with_context(|| format!("the embedding of {text:?}"))?;
    }
    standalone.stop()
}

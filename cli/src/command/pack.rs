//! `afterglow pack`: a model folder becomes one file, and a `ModelDeployment` that names it.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use crate::args::{Output, Pack};
use crate::package;
use crate::render;

/// Runs the verb.
pub(super) async fn run(args: Pack, output: Output) -> Result<ExitCode> {
    let (contents, package) = tokio::task::spawn_blocking({
        let args = args.clone();
        move || {
            let contents = package::contents(&args.folder)?;
            let package = package::write(&contents, &args.file)?;
            anyhow::Ok((contents, package))
        }
    })
    .await??;
    let names: Vec<&str> = contents.files.iter().map(|(name, _)| name.as_str()).collect();
    match output {
        Output::Json => render::json(&json!({
            "file": args.file,
            "digest": package.digest,
            "bytes": package.bytes,
            "files": names,
        }))?,
        Output::Table => {
            let file = args.file.display();
            let base = args
                .file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            render::text(format_args!(
                "# {file}: {} bytes, {}\n\
                 # Put it where the nodes can fetch it, say so in `uri`, then: kubectl apply -f\n\
                 apiVersion: afterglow.dev/v1alpha1\n\
                 kind: ModelDeployment\n\
                 metadata:\n  name: {}\n\
                 spec:\n  model:\n    source:\n      uri: https://models.example.com/{base}\n      digest: {}\n",
                package.bytes,
                names.join(" "),
                name(&base),
                package.digest
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A name for the deployment, from the file's: lower case, digits and dashes.
fn name(file: &str) -> String {
    let stem = [".tar.gz", ".tgz", ".tar"]
        .iter()
        .find_map(|end| file.strip_suffix(end))
        .unwrap_or(file);
    crate::up::plain_name(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_for_kubernetes_is_made_from_the_files() {
        for (file, wanted) in [
            ("all-minilm-l6-v2.tar", "all-minilm-l6-v2"),
            ("Bert_Base.v2.tar.gz", "bert-base-v2"),
            ("--x--.tgz", "x"),
            ("größe.tar", "gr-e"),
            ("_.tar", "model"),
        ] {
            assert_eq!(name(file), wanted, "{file}");
        }
    }
}

//! The engines' metrics on the scheduler's page: one page for one machine, each series with its device.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afterglow_crds::gpu_node::Device;
use afterglow_scheduler::MetricsOfOthers;
use futures::future::join_all;
use tokio::sync::watch;

/// An engine that does not answer by then is left out of the page.
const WITHIN: Duration = Duration::from_secs(2);

/// Reads the page of every engine; device i's is at `first_port + 10 × i + 2`.
pub(super) fn of_engines(devices: watch::Receiver<Vec<Device>>, first_port: u16) -> MetricsOfOthers {
    let client = reqwest::Client::builder()
        .timeout(WITHIN)
        .build()
        .unwrap_or_default();
    Arc::new(move || {
        let names: Vec<String> = devices
            .borrow()
            .iter()
            .map(|device| device.name.clone())
            .collect();
        let client = client.clone();
        Box::pin(async move {
            let pages = names.iter().enumerate().map(async |(place, name)| {
                let port = usize::from(first_port) + 10 * place + 2;
                let page = client
                    .get(format!("http://127.0.0.1:{port}/metrics"))
                    .send()
                    .await;
                // No engine runs on a device without a model.
                let text = page.ok()?.text().await.ok()?;
                Some((name.clone(), text))
            });
            let pages: Vec<(String, String)> = join_all(pages).await.into_iter().flatten().collect();
            merge(&pages)
        })
    })
}

/// Pages as one: each family's comments once, each sample with the label `device`.
fn merge(pages: &[(String, String)]) -> String {
    let mut families: BTreeMap<&str, (Vec<&str>, Vec<String>)> = BTreeMap::new();
    for (device, page) in pages {
        let mut family = "";
        for line in page.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                family = comment.split(' ').nth(1).unwrap_or_default();
                let (comments, _) = families.entry(family).or_default();
                if !comments.contains(&line) {
                    comments.push(line);
                }
            } else {
                let (_, samples) = families.entry(family).or_default();
                samples.push(labelled(line, device));
            }
        }
    }
    let mut text = String::new();
    for (comments, samples) in families.into_values() {
        for line in comments {
            text.push_str(line);
            text.push('\n');
        }
        for line in samples {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}

fn labelled(sample: &str, device: &str) -> String {
    let label = format!("device=\"{device}\"");
    let end = sample.find(['{', ' ']).unwrap_or(sample.len());
    let (name, rest) = sample.split_at(end);
    match rest.strip_prefix('{') {
        // An engine's own `device` is its selector; ours is the one that the rest of the machine knows.
        Some(labels) => format!("{name}{{{label},{}", labels.replace("device=\"", "selector=\"")),
        None => format!("{name}{{{label}}}{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_engines_make_one_page_with_each_family_once() {
        let page = |value: u32| {
            format!(
                "# HELP nv_count Count\n# TYPE nv_count counter\nnv_count{{model=\"m\"}} {value}\n\
                 # HELP up Up\n# TYPE up gauge\nup 1\n\
                 # HELP info Info\n# TYPE info gauge\ninfo{{device=\"opencl:0\",version=\"1\"}} 1\n"
            )
        };
        let merged = merge(&[("gpu-0".into(), page(1)), ("gpu-1".into(), page(2))]);
        assert_eq!(merged.matches("# TYPE nv_count counter").count(), 1);
        for line in [
            "nv_count{device=\"gpu-0\",model=\"m\"} 1",
            "nv_count{device=\"gpu-1\",model=\"m\"} 2",
            "up{device=\"gpu-1\"} 1",
            "info{device=\"gpu-0\",selector=\"opencl:0\",version=\"1\"} 1",
        ] {
            assert!(merged.lines().any(|found| found == line), "{line}\n{merged}");
        }
    }
}

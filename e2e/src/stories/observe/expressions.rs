//! Every expression of the chart's dashboards and alerts, as something that must have data whether it is bad news or not.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// What to ask, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expression {
    /// The panel or the alert.
    pub(super) place: String,
    /// What Prometheus is asked.
    pub(super) query: String,
}

/// What the guide's table says of metrics.
pub(super) struct Guide {
    cards_only: BTreeSet<String>,
}

impl Guide {
    /// Of the checkout at `root`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let path = root.join("docs/guide/metrics.md");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let rows = text.lines().filter(|line| line.contains(", cards only |"));
        let cards_only = rows.filter_map(|row| Some(row.split('`').nth(1)?.to_owned()));
        Ok(Self {
            cards_only: cards_only.collect(),
        })
    }

    /// Whether a query reads something that only a card's sensors tell.
    pub(super) fn cards_only(&self, query: &str) -> bool {
        self.cards_only.iter().any(|name| query.contains(name.as_str()))
    }
}

/// All of them.
pub(super) fn of_chart(root: &Path) -> Result<Vec<Expression>> {
    let chart = root.join("charts/afterglow");
    let mut found = Vec::new();
    let mut dashboards: Vec<PathBuf> = fs::read_dir(chart.join("dashboards"))
        .context("read the dashboards")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    dashboards.sort();
    for path in dashboards {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let dashboard: Value =
            serde_json::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
        found.extend(of_dashboard(&dashboard));
    }
    let path = chart.join("alerts/afterglow.yaml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let rules: Value =
        serde_saphyr::from_str(&text).with_context(|| format!("understand {}", path.display()))?;
    found.extend(of_rules(&rules));
    Ok(found)
}

fn of_dashboard(dashboard: &Value) -> Vec<Expression> {
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    let targets = panels.flat_map(|panel| {
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (panel, target))
    });
    targets
        .filter_map(|(panel, target)| {
            let mut query = target["expr"].as_str()?.replace("$__rate_interval", "30s");
            for variable in ["cluster", "namespace", "model", "node", "device"] {
                query = query.replace(&format!("\"${variable}\""), "\".*\"");
            }
            Some(Expression {
                place: format!("{}, {}", dashboard["title"], panel["title"]),
                query,
            })
        })
        .collect()
}

fn of_rules(rules: &Value) -> Vec<Expression> {
    let groups = rules["groups"].as_array().into_iter().flatten();
    let rules = groups.flat_map(|group| group["rules"].as_array().into_iter().flatten());
    rules
        .filter_map(|rule| {
            let name = rule["alert"].as_str().or(rule["record"].as_str())?;
            let parts = measured(rule["expr"].as_str()?).into_iter();
            Some(parts.map(|query| Expression {
                place: name.to_owned(),
                query,
            }))
        })
        .flatten()
        .collect()
}

/// An alert's expression without what makes it an alert: each thing that it compares or combines, but for plain numbers.
fn measured(expression: &str) -> Vec<String> {
    let (mut parts, mut depth, mut quoted) = (vec![String::new()], 0_usize, false);
    let mut rest = expression;
    while let Some(next) = rest.chars().next() {
        let cut = if depth == 0 && !quoted { joint(rest) } else { 0 };
        if cut > 0 {
            parts.push(String::new());
            rest = &rest[cut..];
            continue;
        }
        match next {
            '"' => quoted = !quoted,
            '(' | '{' | '[' if !quoted => depth += 1,
            ')' | '}' | ']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        if let Some(part) = parts.last_mut() {
            part.push(next);
        }
        rest = &rest[next.len_utf8()..];
    }
    parts
        .iter()
        .map(|part| operand(part).to_owned())
        .filter(|part| !part.is_empty() && part.parse::<f64>().is_err())
        .collect()
}

/// The length of what joins two operands, where `text` begins with such.
fn joint(text: &str) -> usize {
    let signs = ["==", "!=", ">=", "<=", ">", "<"];
    if let Some(sign) = signs.iter().find(|sign| text.starts_with(**sign)) {
        return sign.len();
    }
    let words = ["and", "or", "unless"];
    let word = words.iter().find(|word| {
        let inner = text
            .strip_prefix([' ', '\n'])
            .and_then(|text| text.strip_prefix(**word));
        inner.is_some_and(|after| after.starts_with([' ', '\n']))
    });
    word.map_or(0, |word| word.len() + 1)
}

/// An operand without the words that say how it is matched with the one before it.
fn operand(text: &str) -> &str {
    let mut text = text.trim();
    for word in ["bool", "on", "ignoring", "group_left", "group_right"] {
        let Some(after) = text
            .strip_prefix(word)
            .filter(|after| after.starts_with([' ', '(']))
        else {
            continue;
        };
        let after = after.trim_start();
        let list = after.strip_prefix('(').and_then(|after| after.split_once(')'));
        text = list.map_or(after, |(_, after)| after).trim_start();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_comes_apart_into_what_it_measures() {
        for (alert, parts) in [
            ("max by (node) (t) >= 85", vec!["max by (node) (t)"]),
            ("a / b{x=\"> 1 or\"} < 0.1", vec!["a / b{x=\"> 1 or\"}"]),
            (
                "x == 0\nunless min by (or) (y) == 0",
                vec!["x", "min by (or) (y)"],
            ),
            (
                "r > on () group_left () (14.4 * b)\nand s > on () group_left () (6 * b)",
                vec!["r", "(14.4 * b)", "s", "(6 * b)"],
            ),
            ("(sum(l) or vector(0)) == 0", vec!["(sum(l) or vector(0))"]),
            ("count(a) unless count(b)", vec!["count(a)", "count(b)"]),
            ("vector(0.002)", vec!["vector(0.002)"]),
        ] {
            assert_eq!(measured(alert), parts, "{alert}");
        }
    }

    #[test]
    fn the_chart_is_read_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let found = of_chart(root).unwrap();
        for place in ["AfterglowNodeLost", "\"Afterglow: card\", \"Temperature\""] {
            assert!(
                found.iter().any(|expression| expression.place == place),
                "{place}"
            );
        }
        let left: Vec<&Expression> = found.iter().filter(|one| one.query.contains('$')).collect();
        assert!(left.is_empty(), "variables stay: {left:?}");
        let guide = Guide::read(root).unwrap();
        assert!(guide.cards_only("max(nv_gpu_utilization)") && !guide.cards_only("afterglow_devices"));
    }
}

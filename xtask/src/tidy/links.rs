//! Every link from one page to another finds its page and its heading, and no page below `docs/` is left without a link to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What a page offers to others and asks of them.
#[derive(Debug, Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<(usize, String)>,
}

pub(super) fn check(root: &Path, files: &[String]) -> Result<Vec<String>> {
    let mut pages = BTreeMap::new();
    for name in files.iter().filter(|name| is_page(name)) {
        let text = fs::read_to_string(root.join(name)).with_context(|| format!("read {name}"))?;
        pages.insert(name.clone(), Page::read(&text));
    }
    Ok(complaints(&pages, files))
}

fn is_page(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|end| end == "md")
}

fn complaints(pages: &BTreeMap<String, Page>, files: &[String]) -> Vec<String> {
    let known = known(files);
    let mut complaints = Vec::new();
    let mut linked = BTreeSet::new();
    for (name, page) in pages {
        for (line, link) in &page.links {
            let (path, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let Some(target) = resolve(name, path).filter(|target| known.contains(target.as_str())) else {
                complaints.push(format!("{name}:{line}: `{link}` leads nowhere"));
                continue;
            };
            let heading = |page: &Page| anchor.is_empty() || page.anchors.contains(anchor);
            if !pages.get(&target).is_none_or(heading) {
                complaints.push(format!("{name}:{line}: {target} has no heading `#{anchor}`"));
            }
            if target != *name {
                linked.insert(target);
            }
        }
    }
    let lonely = |name: &&String| name.starts_with("docs/") && !linked.contains(*name);
    let unlinked = pages.keys().filter(lonely);
    complaints.extend(unlinked.map(|name| format!("{name}: no page links to it; docs/README.md lists them")));
    complaints
}

impl Page {
    /// Fenced blocks hold examples: neither their comments are headings nor their brackets links.
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            } else if !fenced {
                page.links
                    .extend(links(line).map(|link| (number + 1, link.to_owned())));
                page.head(line);
            }
        }
        page
    }

    fn head(&mut self, line: &str) {
        let level = line.chars().take_while(|&c| c == '#').count();
        let Some(title) = line[level..]
            .strip_prefix(' ')
            .filter(|_| (1..=6).contains(&level))
        else {
            return;
        };
        let slug = slug(title);
        // As forges do it: the second heading of the same words ends in -1.
        let again = (1..).map(|n| format!("{slug}-{n}"));
        let free = std::iter::once(slug.clone())
            .chain(again)
            .find(|one| !self.anchors.contains(one));
        self.anchors.extend(free);
    }
}

/// The files, and the folders above them.
fn known(files: &[String]) -> BTreeSet<&str> {
    let folders = files
        .iter()
        .flat_map(|name| name.match_indices('/').map(|(at, _)| &name[..at]));
    files.iter().map(String::as_str).chain(folders).collect()
}

/// Where inline links lead, but for other sites and for what stands in backticks.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let code: Vec<(usize, usize)> = line
        .match_indices('`')
        .map(|(at, _)| at)
        .collect::<Vec<_>>()
        .chunks_exact(2)
        .map(|pair| (pair[0], pair[1]))
        .collect();
    line.match_indices("](").filter_map(move |(at, open)| {
        if code.iter().any(|&(from, to)| from < at && at < to) {
            return None;
        }
        let target = line[at + open.len()..].split_once(')')?.0.split(' ').next()?;
        let elsewhere = target.contains("://") || target.starts_with("mailto:");
        (!elsewhere).then_some(target)
    })
}

/// The path from the root that a link in the page `from` means; none where it leaves the repository.
fn resolve(from: &str, path: &str) -> Option<String> {
    if path.is_empty() {
        return Some(from.to_owned());
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A heading's anchor: its words in lower case joined by dashes, without marks.
fn slug(title: &str) -> String {
    shown(title)
        .trim()
        .to_lowercase()
        .chars()
        .filter(|&c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// A title as it is shown: of a link only its words.
fn shown(title: &str) -> String {
    let mut text = String::new();
    let mut rest = title;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pages: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<String> = pages.iter().map(|(name, _)| (*name).to_owned()).collect();
        let read = pages
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Page::read(text)));
        complaints(&read.collect(), &files)
    }

    #[test]
    fn pages_headings_and_folders_that_exist_pass() {
        let readme = "[a](docs/a.md) [b](docs/a.md#the-way-of-x) [c](docs) [here](#top)\n# Top";
        let page = "## The way of `x`\n[up](../README.md#top \"a title\")";
        assert!(told(&[("README.md", readme), ("docs/a.md", page)]).is_empty());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() {
        let complaints = told(&[("README.md", "fine\n[gone](docs/gone.md) [out](../out.md)")]);
        assert_eq!(
            complaints,
            [
                "README.md:2: `docs/gone.md` leads nowhere",
                "README.md:2: `../out.md` leads nowhere"
            ]
        );
    }

    #[test]
    fn a_heading_that_does_not_exist_is_named() {
        let complaints = told(&[("README.md", "[a](docs/a.md#two)"), ("docs/a.md", "# One")]);
        assert_eq!(complaints, ["README.md:1: docs/a.md has no heading `#two`"]);
    }

    #[test]
    fn a_page_below_docs_that_nobody_links_to_is_named() {
        let complaints = told(&[("README.md", ""), ("docs/a.md", "[myself](a.md)")]);
        assert_eq!(
            complaints,
            ["docs/a.md: no page links to it; docs/README.md lists them"]
        );
    }

    #[test]
    fn other_sites_code_and_fenced_blocks_are_not_read() {
        let text = "[out](https://x.org/a.md) `[x](gone.md)`\n```\n[y](gone.md)\n# One\n```\n";
        assert!(told(&[("README.md", text)]).is_empty());
    }

    #[test]
    fn anchors_are_made_as_forges_make_them() {
        assert_eq!(slug("More of `model.yaml`"), "more-of-modelyaml");
        assert_eq!(
            slug("Why [the agent](a.md)'s pod is privileged?"),
            "why-the-agents-pod-is-privileged"
        );
        assert_eq!(slug("1. The images"), "1-the-images");
        let twice = Page::read("# Same\n# Same").anchors;
        assert_eq!(twice.into_iter().collect::<Vec<_>>(), ["same", "same-1"]);
    }
}

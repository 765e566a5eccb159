//! The table of `docs/guide/metrics.md` against what a part of Afterglow shows. Each part's tests hold a page of its real
//! registry against it; included by path, as it belongs to none of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What a family is: its kind and the names of its labels.
type Family = (String, BTreeSet<String>);

/// Fails where the page and the table's rows of `part` differ, in either direction. `common` are labels that every series of
/// the part has; they stand above the table, not in it. Rows for `cards only` may be absent from the page.
pub(crate) fn agrees(part: &str, page: &str, common: &[&str]) {
    let (listed, cards_only) = listed(part);
    assert!(
        !listed.is_empty(),
        "docs/guide/metrics.md lists nothing of `{part}`"
    );
    let shown = shown(page, common);
    for (name, family) in &shown {
        assert_eq!(
            Some(family),
            listed.get(name),
            "`{name}` on the {part}'s page, and its row in docs/guide/metrics.md"
        );
    }
    let gone: Vec<&String> = listed
        .keys()
        .filter(|name| !shown.contains_key(*name) && !cards_only.contains(*name))
        .collect();
    assert!(
        gone.is_empty(),
        "docs/guide/metrics.md lists {gone:?}, which the {part} does not show:\n{page}"
    );
}

/// The rows of a part, and which of them need a card.
fn listed(part: &str) -> (BTreeMap<String, Family>, BTreeSet<String>) {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("docs/guide/metrics.md"))
        .find(|path| path.exists())
        .expect("the guide is in this repository");
    let text = std::fs::read_to_string(guide).expect("the guide can be read");
    let (mut families, mut cards_only) = (BTreeMap::new(), BTreeSet::new());
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, by, labels, ..] = cells[..] else {
            continue;
        };
        let name = name.trim_matches('`').to_owned();
        if by.split(',').next() != Some(part) {
            continue;
        }
        if by.ends_with("cards only") {
            cards_only.insert(name.clone());
        }
        let labels = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let twice = families.insert(name.clone(), (kind.to_owned(), labels));
        assert!(twice.is_none(), "docs/guide/metrics.md lists `{name}` twice");
    }
    (families, cards_only)
}

/// The families of a page in Prometheus' text format. None of the labels' values in these tests holds a quote.
fn shown(page: &str, common: &[&str]) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut family = String::new();
    for line in page.lines() {
        if let Some(type_) = line.strip_prefix("# TYPE ") {
            let (name, kind) = type_.split_once(' ').expect("a name and a kind");
            name.clone_into(&mut family);
            families.insert(family.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((_, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            let (labels, _) = rest.rsplit_once('}').expect("labels end");
            let names = labels
                .split('"')
                .step_by(2)
                .map(|name| name.trim_matches([',', '=', ' ']))
                .filter(|name| !name.is_empty() && *name != "le" && !common.contains(name))
                .map(str::to_owned);
            families.entry(family.clone()).or_default().1.extend(names);
        }
    }
    families
}

//! One line of Prometheus' text format, taken apart.

/// `NAME{LABELS} VALUE`. Values of labels stay escaped as they were, and so can be written again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Vec<(&'a str, &'a str)>,
    pub(super) value: &'a str,
}

impl<'a> Sample<'a> {
    /// `None`: it is no sample.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        let mut labels = Vec::new();
        let Some(mut rest) = rest.strip_prefix('{') else {
            let value = rest.trim_start();
            return Some(Self { name, labels, value });
        };
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(value) = rest.strip_prefix('}') {
                let value = value.trim_start();
                return Some(Self { name, labels, value });
            }
            let (label, after) = rest.split_once("=\"")?;
            let end = closing_quote(after)?;
            labels.push((label, &after[..end]));
            rest = &after[end + 1..];
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().find_map(|(at, character)| {
        let closes = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        closes.then_some(at)
    })
}

/// A label's value as the text format has it.
pub(super) fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_apart_whatever_its_labels_hold() {
        let sample = Sample::parse(r#"up{a="x,y}",b="say \"hi\"\\"} 4.5 1700"#).unwrap();
        assert_eq!(sample.name, "up");
        assert_eq!(sample.labels, [("a", "x,y}"), ("b", r#"say \"hi\"\\"#)]);
        assert_eq!(sample.value, "4.5 1700");
        let bare = Sample::parse("up 1").unwrap();
        assert_eq!((bare.name, bare.labels.len(), bare.value), ("up", 0, "1"));
        for wrong in ["", "up", "up{a=\"x", "up{a} 1"] {
            assert_eq!(Sample::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_escaped_is_read_back_as_one_value() {
        let line = format!("up{{a=\"{}\"}} 1", escape("a\\b\"c\nd"));
        assert_eq!(Sample::parse(&line).unwrap().labels, [("a", "a\\\\b\\\"c\\nd")]);
    }
}

//! The signing rule as the page shows it: a section of the protocol's documentation, so that there is
//! one text of it.

/// The page of the protocol.
const WIRE: &str = include_str!("../../../docs/protocol/wire.md");

/// What a batch signature covers (wire §9), in Markdown without links, whose targets are not served.
pub(super) fn rule() -> String {
    without_links(section("Canonical bytes"))
}

/// The text of the section with a title, without its heading.
fn section(title: &str) -> &'static str {
    let mut sections = WIRE.split("\n## ").filter_map(|text| text.split_once('\n'));
    let found = sections.find(|(heading, _)| heading.ends_with(title));
    found.map_or("", |(_, text)| text.trim())
}

/// `[text](target)` becomes its text; other brackets stay.
fn without_links(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        out.push_str(before);
        let shown = link.split_once("](");
        let shown = shown.filter(|(label, _)| !label.contains(']'));
        let parsed = shown.and_then(|(label, target)| Some((label, target.split_once(')')?.1)));
        match parsed {
            Some((label, behind)) => {
                out.push_str(label);
                rest = behind;
            }
            None => {
                out.push('[');
                rest = link;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_whole_section_and_nothing_else() {
        let rule = rule();
        assert!(rule.starts_with("This is the rule of **what a batch signature covers**"));
        assert!(rule.contains("| 8 | `days_since_onset_of_symptoms` |"));
        assert!(
            rule.contains("decision 2"),
            "the text of a link to a decision"
        );
        assert!(!rule.contains("## ") && !rule.contains("]("), "{rule}");
    }

    #[test]
    fn keeps_brackets_that_are_no_links() {
        let text = "`[\"DE,FR\"]` as [decision 2](decisions.md#x), [a], [b";
        assert_eq!(without_links(text), "`[\"DE,FR\"]` as decision 2, [a], [b");
    }
}

//! Text of others, made fit to be shown: nothing in it ends a line, moves a cursor, or turns the text
//! around it.

use crate::limits;

/// Whether a character is not seen, or changes how those around it are shown: control characters, the
/// separators of lines and paragraphs, and the category Cf of Unicode 16 with the places that are
/// reserved for more of them.
pub const fn is_unprintable(character: char) -> bool {
    matches!(
        character,
        '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// The text on one line, with U+FFFD for every character that is not printable.
pub fn single_line(text: &str) -> String {
    text.replace(is_unprintable, "\u{fffd}")
}

/// The beginning of a text on one line, fit for an error, a log line or a status: at most
/// [`limits::EXCERPT_CHARACTERS_MAX`] characters, and how many bytes are left out.
pub(crate) fn excerpt(text: &str) -> String {
    let end = text.char_indices().nth(limits::EXCERPT_CHARACTERS_MAX);
    let (start, rest) = text.split_at(end.map_or(text.len(), |(end, _)| end));
    let shown = single_line(start);
    match rest.len() {
        0 => shown,
        left_out => format!("{shown} (and {left_out} bytes more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_one_short_line_whatever_others_say() {
        for (text, shown) in [
            ("The table 'x' is full", "The table 'x' is full"),
            ("one\r\ntwo\u{1b}[2J", "one\u{fffd}\u{fffd}two\u{fffd}[2J"),
            ("\u{202e}evil", "\u{fffd}evil"),
        ] {
            assert_eq!(excerpt(text), shown);
        }
        let long = excerpt(&"ä".repeat(30_000));
        assert!(long.ends_with("ä (and 59400 bytes more)"), "{long}");
        assert_eq!(long.chars().count(), 300 + 23);
    }

    #[test]
    fn knows_all_control_characters_and_leaves_what_is_seen() {
        for character in '\0'..=char::MAX {
            assert!(!character.is_control() || is_unprintable(character));
        }
        assert!(!"é€ 😀\u{a0}".contains(is_unprintable));
    }
}

//! Values of a line: texts of others, so that nothing in them ends a line, begins a pair, or shows
//! itself as something else; and only so much of them.

use std::fmt::Write as _;

use engine::text::is_unprintable;

/// Longest value in a line, in characters as they are written, escapes included: clients choose some
/// of them.
pub(super) const VALUE_CHARACTERS_MAX: usize = 1000;

/// Whether a value needs no quotes.
pub(super) fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+@".contains(&byte);
    (1..=VALUE_CHARACTERS_MAX).contains(&value.len()) && value.bytes().all(plain)
}

/// Escapes as JSON does, and whatever a reader might interpret as the end of a line or not see.
/// What is too long is cut, never inside an escape.
pub(super) fn push_escaped(line: &mut String, text: &str) {
    // Escapes only add characters.
    let mut rest = shortened(text, VALUE_CHARACTERS_MAX);
    let mut left = VALUE_CHARACTERS_MAX;
    loop {
        let (plain, from) = rest.split_at(rest.find(needs_escape).unwrap_or(rest.len()));
        let plain = shortened(plain, left);
        line.push_str(plain);
        left -= plain.chars().count();
        let mut characters = from.chars();
        let Some(character) = characters.next() else {
            return;
        };
        let before = line.len();
        push_escape(line, character);
        let Some(after) = left.checked_sub(line.len() - before) else {
            return line.truncate(before);
        };
        (left, rest) = (after, characters.as_str());
    }
}

/// At most so many characters of a text.
fn shortened(text: &str, characters_max: usize) -> &str {
    // No text has more characters than bytes.
    if text.len() <= characters_max {
        return text;
    }
    let end = text.char_indices().nth(characters_max);
    end.map_or(text, |(end, _)| &text[..end])
}

fn push_escape(line: &mut String, character: char) {
    match character {
        '"' => line.push_str("\\\""),
        '\\' => line.push_str("\\\\"),
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\t' => line.push_str("\\t"),
        other => {
            for unit in other.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
}

fn needs_escape(character: char) -> bool {
    match character {
        ' '..='~' => matches!(character, '"' | '\\'),
        other => is_unprintable(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        let mut line = String::new();
        push_escaped(&mut line, text);
        line
    }

    #[test]
    fn escapes_what_is_not_seen_or_changes_what_is() {
        for (character, expected) in [
            ('\u{ad}', "\\u00ad"),
            ('\u{200b}', "\\u200b"),
            ('\u{202e}', "\\u202e"),
            ('\u{2066}', "\\u2066"),
            ('\u{feff}', "\\ufeff"),
            ('\u{e0041}', "\\udb40\\udc41"),
            ('\u{1d173}', "\\ud834\\udd73"),
            ('\u{2028}', "\\u2028"),
            ('\u{81}', "\\u0081"),
            ('\0', "\\u0000"),
        ] {
            assert_eq!(escaped(&format!("a{character}b")), format!("a{expected}b"));
            let json = format!("\"{}\"", escaped(&character.to_string()));
            let parsed: String = serde_json::from_str(&json).unwrap();
            assert_eq!(parsed, character.to_string());
        }
        assert_eq!(escaped("é€ 😀"), "é€ 😀");
    }

    #[test]
    fn cuts_what_is_too_long_as_it_is_written() {
        for (text, expected) in [
            ("€".repeat(5000), "€".repeat(1000)),
            ("\u{81}".repeat(1000), "\\u0081".repeat(1000 / 6)),
            ("\u{e0041}".repeat(1000), "\\udb40\\udc41".repeat(1000 / 12)),
            ("\"".repeat(1000), "\\\"".repeat(500)),
            (format!("{}\n", "x".repeat(999)), "x".repeat(999)),
            (format!("{}\n", "x".repeat(998)), "x".repeat(998) + "\\n"),
            (
                format!("\n{}", "x".repeat(999)),
                format!("\\n{}", "x".repeat(998)),
            ),
        ] {
            assert_eq!(escaped(&text), expected);
        }
    }
}

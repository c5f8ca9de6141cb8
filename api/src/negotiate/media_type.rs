//! Media types and media ranges as clients write them: `application / json; version = "1.0"`.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

/// A media type or a media range, in lower case. Borrowed where possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MediaType<'a> {
    pub(crate) main: Cow<'a, str>,
    pub(crate) sub: Cow<'a, str>,
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> MediaType<'a> {
    /// Parses `type/subtype; name=value…`. Blanks are allowed everywhere around `/`, `;` and `=`,
    /// values may be quoted, an empty parameter is skipped. A bare `*` is `*/*`: Java's
    /// `HttpURLConnection` sends `*; q=.2`, and Spring accepts it. `None` for anything else.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let mut pieces = split_unquoted(text, b';');
        let range = pieces.next()?;
        let (main, sub) = match range.trim_ascii() {
            "*" => ("*", "*"),
            _ => range.split_once('/')?,
        };
        let mut parameters = Vec::new();
        for piece in pieces
            .map(str::trim_ascii)
            .filter(|piece| !piece.is_empty())
        {
            let (name, value) = piece.split_once('=')?;
            parameters.push((token(name)?, unquote(value.trim_ascii())?));
        }
        Some(Self {
            main: token(main)?,
            sub: token(sub)?,
            parameters,
        })
    }

    /// A parameter's value; of repeated ones, the first.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let found = parameters.find(|(known, _)| known == name);
        found.map(|(_, value)| &**value)
    }

    /// Whether it is this type, whatever its parameters.
    pub(crate) fn is(&self, main: &str, sub: &str) -> bool {
        self.main == main && self.sub == sub
    }

    /// The quality of a range in thousandths; 1000 when it is absent or not a number.
    pub(crate) fn quality(&self) -> u16 {
        let given = self
            .parameter("q")
            .and_then(|text| text.parse::<f32>().ok());
        let clamped = given
            .filter(|q| q.is_finite())
            .unwrap_or(1.0)
            .clamp(0.0, 1.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to 0..=1000"
        )]
        let thousandths = (clamped * 1000.0).round() as u16;
        thousandths
    }
}

/// Splits at a separator that is not inside a quoted string. The separator is ASCII.
pub(crate) fn split_unquoted(text: &str, separator: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = unquoted_position(text.as_bytes(), separator);
        let parted = end.and_then(|end| Some((text.get(..end)?, text.get(end.checked_add(1)?..)?)));
        rest = parted.map(|(_, after)| after);
        Some(parted.map_or(text, |(piece, _)| piece))
    })
}

/// The position of the first separator outside quotes.
fn unquoted_position(text: &[u8], separator: u8) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.iter().position(|byte| {
        if escaped {
            escaped = false;
            return false;
        }
        match byte {
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => return !quoted && *byte == separator,
        }
        false
    })
}

/// A token of RFC 9110 §5.6.2, trimmed and in lower case.
fn token(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim_ascii();
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_tchar) {
        return None;
    }
    Some(if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    })
}

/// The value without its quotes; `None` when the closing quote is missing.
fn unquote(value: &str) -> Option<Cow<'_, str>> {
    let Some(rest) = value.strip_prefix('"') else {
        return Some(Cow::Borrowed(value));
    };
    let mut characters = rest.strip_suffix('"')?.chars();
    let mut plain = String::with_capacity(rest.len());
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(characters.next()?),
            '"' => return None,
            _ => plain.push(character),
        }
    }
    Some(Cow::Owned(plain))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_blanks_upper_case_and_quotes() {
        for text in [
            "application/json;version=1.0",
            "application/json; version=1.0",
            "application / json; version = 1.0",
            "Application/JSON ;VERSION=\"1.0\" ;",
            "application/json; charset=utf-8; version=1.0",
            "application/json; version=1.0; version=2.0",
            "application/json; note=\"a;b, c\"; version=\"1\\.0\"",
        ] {
            let media_type = MediaType::parse(text).unwrap();
            assert!(media_type.is("application", "json"), "{text}");
            assert_eq!(media_type.parameter("version"), Some("1.0"), "{text}");
        }
    }

    #[test]
    fn refuses_invalid_media_types() {
        for text in [
            "",
            "json",
            "/json",
            "application/",
            "application/json;version",
            "application/js on",
            "application/json; version=\"1.0",
            "application/json; =1",
            "a/b/c",
            "**",
            "; q=.2",
        ] {
            assert_eq!(MediaType::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn accepts_a_bare_star_as_any_type() {
        for text in ["*", " * ; q=.2"] {
            assert!(MediaType::parse(text).unwrap().is("*", "*"), "{text:?}");
        }
    }

    #[test]
    fn parses_qualities() {
        let quality = |text: &str| MediaType::parse(text).unwrap().quality();
        assert_eq!(quality("*/*"), 1000);
        assert_eq!(quality("*/*;q=0.5"), 500);
        assert_eq!(quality("*/*; q = 0"), 0);
        assert_eq!(quality("*/*;q=x"), 1000);
        assert_eq!(quality("*/*;q=-3"), 0);
        assert_eq!(quality("*/*;q=NaN"), 1000);
        assert_eq!(quality("*; q=.2"), 200);
    }

    #[test]
    fn splits_outside_quotes_only() {
        let pieces: Vec<_> = split_unquoted(r#"a;x="1,\",2",b,"c"#, b',').collect();
        assert_eq!(pieces, [r#"a;x="1,\",2""#, "b", "\"c"]);
    }

    proptest! {
        #[test]
        fn survives_any_text(text in ".{0,200}") {
            let _ = MediaType::parse(&text);
            let _ = split_unquoted(&text, b',').count();
        }
    }
}

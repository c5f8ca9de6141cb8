//! What commands print.

use std::fmt;

use engine::domain::UnixMillis;
use engine::output;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Writes a line to standard output.
pub(super) fn say(line: impl fmt::Display) -> anyhow::Result<()> {
    Ok(output::say(line)?)
}

/// RFC 3339, UTC, in seconds.
pub(super) fn instant(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.seconds()).unwrap_or(i64::MAX);
    let instant = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = instant.and_then(|instant| instant.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "at no time".to_owned())
}

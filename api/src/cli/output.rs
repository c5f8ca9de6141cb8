//! What commands print.

use std::fmt;
use std::io::{self, Write as _};

use anyhow::Context as _;
use engine::domain::UnixMillis;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Writes a line to standard output.
pub(super) fn say(line: impl fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{line}").and_then(|()| out.flush());
    written.context("cannot write to standard output")
}

/// RFC 3339, UTC, in seconds.
pub(super) fn instant(at: UnixMillis) -> String {
    let seconds = i64::try_from(at.seconds()).unwrap_or(i64::MAX);
    let instant = OffsetDateTime::from_unix_timestamp(seconds).ok();
    let text = instant.and_then(|instant| instant.format(&Rfc3339).ok());
    text.unwrap_or_else(|| "at no time".to_owned())
}

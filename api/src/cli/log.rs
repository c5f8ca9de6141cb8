//! Log lines on standard error: one event a line, as `key=value` pairs or as JSON.

use std::fmt;

use anyhow::anyhow;
use api::settings::{LogFormat, LogSettings};
use engine::{Clock as _, SystemClock};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Sends log lines to standard error from now on.
///
/// # Errors
/// When logging was started before.
pub(super) fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(EnvFilter::builder().parse(&settings.level)?);
    let started = match settings.format {
        LogFormat::Text => builder.event_format(Pairs).try_init(),
        LogFormat::Json => builder.json().with_timer(Utc).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}

/// The time of an event, from the engine's clock.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let nanoseconds = i128::from(SystemClock.now().0) * 1_000_000;
        let now = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).map_err(|_| fmt::Error)?;
        writer.write_str(&now.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

/// `timestamp=…, level=…, message="…"` and the fields, as the reference writes its lines (wire
/// behaviour §18.3). Values are quoted where needed, so that sent text cannot forge a line.
struct Pairs;

impl<S, N> FormatEvent<S, N> for Pairs
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("timestamp=")?;
        Utc.format_time(&mut writer)?;
        let metadata = event.metadata();
        write!(
            writer,
            ", level={}, class={}",
            metadata.level(),
            metadata.target()
        )?;
        let mut pairs = PairWriter {
            writer: &mut writer,
            written: Ok(()),
        };
        event.record(&mut pairs);
        pairs.written?;
        writeln!(writer)
    }
}

/// Writes fields until one cannot be written.
struct PairWriter<'w, 'a> {
    writer: &'w mut Writer<'a>,
    written: fmt::Result,
}

impl PairWriter<'_, '_> {
    fn write(&mut self, field: &Field, value: &str) {
        if self.written.is_ok() {
            self.written = write!(self.writer, ", {}=", field.name())
                .and_then(|()| write_value(self.writer, value));
        }
    }
}

impl Visit for PairWriter<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.write(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.write(field, value);
    }
}

/// A value as it is if it is a plain word; else in quotes, with escapes.
fn write_value(writer: &mut impl fmt::Write, value: &str) -> fmt::Result {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | ',' | '=' | '\\');
    if !value.is_empty() && value.chars().all(plain) {
        return writer.write_str(value);
    }
    write!(writer, "\"{}\"", value.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_could_be_taken_for_something_else() {
        for (value, expected) in [
            ("DE", "DE"),
            ("20201006-1", "20201006-1"),
            ("", "\"\""),
            ("batch stored", "\"batch stored\""),
            ("a, level=ERROR", "\"a, level=ERROR\""),
            ("a=b", "\"a=b\""),
            ("x\ntimestamp", "\"x\\ntimestamp\""),
            ("\"\\\u{1b}[31m", "\"\\\"\\\\\\u{1b}[31m\""),
        ] {
            let mut out = String::new();
            write_value(&mut out, value).unwrap();
            assert_eq!(out, expected);
        }
    }
}

//! Logs: one event a line, `key=value` or JSON, the fixed head of the reference (wire behaviour
//! §18.3) and then the event's attributes. Values come from clients: nothing in them can end a
//! line or begin a new pair.

mod output;
mod trace;

use std::error::Error;
use std::fmt::{self, Write as _};

use engine::{Clock, SystemClock};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::settings::{LogFormat, LogSettings};

pub(crate) use output::measure;
pub use output::{LogEnd, say_last};
pub(crate) use trace::request_span;

/// Why logs cannot be written. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be read.
    #[error(
        "[log] filter {filter:?} cannot be read ({reason}): write it as info or info,api=debug"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another subscriber is installed.
    #[error("logs are installed already")]
    Installed,
}

/// Writes this process's logs to standard error, its panics among them. Nobody waits for whoever reads
/// there: lines beyond a bound are dropped and counted.
///
/// # Errors
/// [`TelemetryError`].
pub fn install(settings: &LogSettings) -> Result<LogEnd, TelemetryError> {
    let (writer, end) = output::standard_error();
    let subscriber = subscriber(settings, writer)?;
    let installed = tracing::subscriber::set_global_default(subscriber);
    installed.map_err(|_| TelemetryError::Installed)?;
    std::panic::set_hook(Box::new(output::log_panic));
    Ok(end)
}

/// What turns events into lines and gives them to a writer.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn subscriber<W>(
    settings: &LogSettings,
    writer: W,
) -> Result<impl Subscriber + Send + Sync + use<W>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(&settings.level);
    let filter = filter.map_err(|error| TelemetryError::Filter {
        filter: settings.level.clone(),
        reason: error.to_string(),
    })?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .fmt_fields(SpanFormat(settings.format))
        .event_format(LineFormat::new(settings.format));
    Ok(subscriber.finish())
}

/// An instant of a certificate as ISO 8601, from seconds since the Unix epoch; empty when it is
/// beyond the calendar.
pub(crate) fn utc_seconds(seconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

/// An error and what caused it, on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Longest value in a line, in characters: clients choose some of them.
const VALUE_CHARACTERS_MAX: usize = 1000;

/// Formats what a span says about itself as pairs of a line.
struct SpanFormat(LogFormat);

impl<'a> FormatFields<'a> for SpanFormat {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut attributes = Attributes::default();
        fields.record(&mut attributes);
        Line::new(writer, self.0).pairs(&attributes.pairs)
    }
}

/// Formats an event as a line.
struct LineFormat {
    format: LogFormat,
    hostname: String,
    pid: u32,
}

impl LineFormat {
    fn new(format: LogFormat) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let hostname =
            hostname.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned());
        Self {
            format,
            hostname,
            pid: std::process::id(),
        }
    }
}

impl<S, N> FormatEvent<S, N> for LineFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut attributes = Attributes::default();
        event.record(&mut attributes);
        let metadata = event.metadata();
        let thread = std::thread::current();
        let mut line = Line::new(writer, self.format);
        line.begin()?;
        line.text("timestamp", &timestamp(&SystemClock))?;
        line.text("level", level(*metadata.level()))?;
        line.text("hostname", &self.hostname)?;
        line.number("pid", &self.pid.to_string())?;
        line.ids(context)?;
        line.text("thread", thread.name().unwrap_or("unnamed"))?;
        line.text("class", metadata.target())?;
        line.text("message", &attributes.message)?;
        line.text("exception", &attributes.exception)?;
        line.pairs(&attributes.pairs)?;
        line.end()
    }
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "TRACE",
    }
}

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]:[second].[subsecond digits:3]");

/// `2020-10-06 09:12:33.120`, UTC.
fn timestamp(clock: &dyn Clock) -> String {
    let nanoseconds = i128::from(clock.now().0) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    time.and_then(|time| time.format(TIMESTAMP).ok())
        .unwrap_or_default()
}

/// What an event says about itself.
#[derive(Debug, Default)]
struct Attributes {
    message: String,
    exception: String,
    pairs: Vec<(&'static str, Value)>,
}

#[derive(Debug)]
enum Value {
    Text(String),
    /// Also true and false.
    Number(String),
}

impl Attributes {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text)) => self.message = text,
            ("exception", Value::Text(text)) => self.exception = text,
            (name, value) => self.pairs.push((name, value)),
        }
    }
}

impl Visit for Attributes {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::Number(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::Number(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::Number(value.to_string()));
    }
}

/// A line being written.
struct Line<W> {
    writer: W,
    format: LogFormat,
    pairs_count: u32,
}

impl<W: fmt::Write> Line<W> {
    const fn new(writer: W, format: LogFormat) -> Self {
        Self {
            writer,
            format,
            pairs_count: 0,
        }
    }

    fn begin(&mut self) -> fmt::Result {
        match self.format {
            LogFormat::Text => Ok(()),
            LogFormat::Json => self.writer.write_char('{'),
        }
    }

    fn end(&mut self) -> fmt::Result {
        match self.format {
            LogFormat::Text => self.writer.write_char('\n'),
            LogFormat::Json => self.writer.write_str("}\n"),
        }
    }

    /// The ids of the request that is being answered, empty outside of any.
    fn ids<S, N>(&mut self, context: &FmtContext<'_, S, N>) -> fmt::Result
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        let spans = context.event_scope().into_iter();
        for span in spans.flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>();
            if let Some(pairs) = formatted.filter(|pairs| !pairs.fields.is_empty()) {
                self.separate()?;
                return self.writer.write_str(&pairs.fields);
            }
        }
        self.text("traceId", "")?;
        self.text("spanId", "")
    }

    fn pairs(&mut self, pairs: &[(&'static str, Value)]) -> fmt::Result {
        for (name, value) in pairs {
            match value {
                Value::Text(text) => self.text(name, text)?,
                Value::Number(number) => self.number(name, number)?,
            }
        }
        Ok(())
    }

    fn separate(&mut self) -> fmt::Result {
        self.pairs_count += 1;
        match self.format {
            _ if self.pairs_count == 1 => Ok(()),
            LogFormat::Text => self.writer.write_str(", "),
            LogFormat::Json => self.writer.write_char(','),
        }
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        self.separate()?;
        match self.format {
            LogFormat::Text => write!(self.writer, "{name}="),
            LogFormat::Json => write!(self.writer, "\"{name}\":"),
        }
    }

    fn number(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name)?;
        self.writer.write_str(value)
    }

    fn text(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name)?;
        if self.format == LogFormat::Text && is_plain(value) {
            return self.writer.write_str(value);
        }
        self.writer.write_char('"')?;
        for character in value.chars().take(VALUE_CHARACTERS_MAX) {
            write_escaped(&mut self.writer, character)?;
        }
        self.writer.write_char('"')
    }
}

/// Whether a value needs no quotes.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+@".contains(&byte);
    (1..=VALUE_CHARACTERS_MAX).contains(&value.len()) && value.bytes().all(plain)
}

/// Escapes as JSON does, and whatever some reader might take for the end of a line.
fn write_escaped(writer: &mut impl fmt::Write, character: char) -> fmt::Result {
    match character {
        '"' => writer.write_str("\\\""),
        '\\' => writer.write_str("\\\\"),
        '\n' => writer.write_str("\\n"),
        '\r' => writer.write_str("\\r"),
        '\t' => writer.write_str("\\t"),
        other if other.is_control() || matches!(other, '\u{2028}' | '\u{2029}') => {
            write!(writer, "\\u{:04x}", u32::from(other))
        }
        other => writer.write_char(other),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::participant::Arrival;
    use engine::ManualClock;
    use engine::domain::UnixMillis;
    use http::HeaderMap;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Sink {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    fn written(format: LogFormat, log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let level = "info".to_owned();
        let subscriber = subscriber(&LogSettings { format, level }, sink.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn writes_the_head_and_then_the_attributes() {
        let line = written(LogFormat::Text, || {
            tracing::info!(
                batchTag = "20201006-1",
                numKeys = 5000,
                "Successful Batch Download"
            );
        });
        assert!(line.starts_with("timestamp=\"20"), "{line}");
        assert!(line.contains(", level=INFO, hostname="), "{line}");
        assert!(
            line.contains(", traceId=\"\", spanId=\"\", thread="),
            "{line}"
        );
        assert!(line.contains(", class=api::telemetry::tests, "), "{line}");
        let end = "message=\"Successful Batch Download\", exception=\"\", batchTag=20201006-1, numKeys=5000\n";
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn lets_no_value_begin_a_line_or_a_pair() {
        let hostile = "x\", level=ERROR\r\nlevel=ERROR\u{2028}\u{85}\u{1b}[31m\\";
        let line = written(LogFormat::Text, || {
            tracing::info!(dnString = hostile, "Unknown client certificate");
        });
        assert_eq!(line.matches('\n').count(), 1, "{line}");
        let quoted =
            "dnString=\"x\\\", level=ERROR\\r\\nlevel=ERROR\\u2028\\u0085\\u001b[31m\\\\\"\n";
        assert!(line.ends_with(quoted), "{line}");
    }

    #[test]
    fn writes_json_that_parses() {
        let hostile = "x\",\"level\":\"ERROR\"\n\u{7f}";
        let line = written(LogFormat::Json, || {
            tracing::warn!(batchTag = hostile, numKeys = 7, replayed = true, "a \"b\"");
        });
        let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(parsed["batchTag"], hostile);
        assert_eq!(parsed["message"], "a \"b\"");
        assert_eq!(parsed["level"], "WARN");
        assert_eq!(parsed["numKeys"], 7);
        assert_eq!(parsed["replayed"], true);
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn joins_the_lines_of_a_request_by_its_ids() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let lines = written(format, || {
                for _ in 0..2 {
                    let span = request_span(Arrival::Operations, &HeaderMap::new());
                    let _entered = span.enter();
                    tracing::info!("first");
                    tracing::warn!(exception = "refused: \"x\"", "second");
                }
            });
            let ids = |line: &str| {
                let begin = line.find("traceId").unwrap();
                line[begin..line.find("thread").unwrap()].to_owned()
            };
            let ids: Vec<String> = lines.lines().map(ids).collect();
            assert!(
                ids[0] == ids[1] && ids[2] == ids[3] && ids[1] != ids[2],
                "{lines}"
            );
            let words = ids[0].split(|character: char| !character.is_ascii_hexdigit());
            let lengths: Vec<_> = words.map(str::len).filter(|length| *length > 8).collect();
            assert_eq!(lengths, [32, 16], "{lines}");
        }
    }

    #[test]
    fn shortens_long_values() {
        let line = written(LogFormat::Text, || {
            tracing::info!(dnString = "€".repeat(5000), "x");
        });
        assert_eq!(line.matches('€').count(), VALUE_CHARACTERS_MAX);
    }

    #[test]
    fn gives_the_time_in_utc() {
        // `date -u -d @1601975553.12`
        let clock = ManualClock::new(UnixMillis(1_601_975_553_120));
        assert_eq!(timestamp(&clock), "2020-10-06 09:12:33.120");
    }

    #[test]
    fn tells_an_error_with_its_causes() {
        let inner = io::Error::other("refused");
        let source = Box::new(inner);
        let error = engine::error::DatabaseError {
            doing: "storing",
            source,
        };
        let failure = engine::Failure::Database(error);
        assert_eq!(
            chain(&failure),
            "the database is not available: storing: refused: refused"
        );
    }

    #[test]
    fn refuses_a_filter_that_it_cannot_read() {
        let settings = LogSettings {
            format: LogFormat::Text,
            level: "api=loud".to_owned(),
        };
        let error = install(&settings).unwrap_err();
        assert!(error.to_string().contains("info,api=debug"), "{error}");
    }
}

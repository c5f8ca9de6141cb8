//! Logs: one event per line, `key=value` (logfmt) or JSON, the reference's fixed fields (wire
//! §18.3) and then the event's attributes. Values come from clients: nothing in them can end a
//! line or begin a new pair.

mod error;
mod escape;
mod level;
mod output;
mod rate_limit;
mod trace;

use std::fmt::{self, Write as _};
use std::sync::Arc;

use engine::{Clock, SystemClock};
use time::OffsetDateTime;
use time::macros::format_description;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use crate::settings::{LogFormat, LogSettings};

use escape::{is_plain, push_escaped};
use rate_limit::RateLimit;

pub use error::TelemetryError;
pub use level::LogLevel;
pub use output::{LogGuard, print_final};
pub(crate) use output::{level_names, update_metrics};
pub(crate) use rate_limit::on_behalf_of;
pub(crate) use trace::request_span;

/// Writes this process's log, including panics, to standard error. A slow reader blocks nothing:
/// lines beyond a bound are dropped and counted.
///
/// Lines name the gateway if it has been given a name; otherwise host and process tell them apart.
///
/// # Errors
/// [`TelemetryError`].
pub fn install(
    settings: &LogSettings,
    gateway_name: Option<&str>,
) -> Result<(LogGuard, LogLevel), TelemetryError> {
    let level = LogLevel::parse(&settings.level)?;
    let (writer, guard) = output::standard_error();
    let lines = LineFormat::new(settings.format, gateway_name);
    let rate_limit = Arc::clone(&lines.rate_limit);
    let subscriber = subscriber_of(lines, level.clone(), writer);
    let installed = tracing::subscriber::set_global_default(subscriber);
    installed.map_err(|_| TelemetryError::Installed)?;
    std::panic::set_hook(Box::new(output::log_panic));
    rate_limit::report_suppressed(rate_limit);
    Ok((guard, level))
}

/// A subscriber that formats events as lines for a writer.
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
    let lines = LineFormat::new(settings.format, None);
    Ok(subscriber_of(
        lines,
        LogLevel::parse(&settings.level)?,
        writer,
    ))
}

fn subscriber_of<W>(
    lines: LineFormat,
    level: LogLevel,
    writer: W,
) -> impl Subscriber + Send + Sync + use<W>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // `format_event` suppresses a line by returning an error.
        .log_internal_errors(false)
        .fmt_fields(SpanFormat(lines.format))
        .event_format(lines);
    tracing_subscriber::registry().with(layer).with(level)
}

/// Seconds since the Unix epoch as ISO 8601; empty when they are out of range.
pub(crate) fn utc_seconds(seconds: i64) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(format).ok())
        .unwrap_or_default()
}

/// Formats the fields of a span as pairs of a line.
struct SpanFormat(LogFormat);

impl<'a> FormatFields<'a> for SpanFormat {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'a>, fields: R) -> fmt::Result {
        let mut attributes = Attributes::default();
        fields.record(&mut attributes);
        let mut line = Line::new(self.0);
        line.pairs(&attributes);
        writer.write_str(&line.text)
    }
}

/// Formats an event as a line.
struct LineFormat {
    format: LogFormat,
    /// The fields of host and process, formatted once for every line.
    origin: String,
    rate_limit: Arc<RateLimit>,
}

impl LineFormat {
    fn new(format: LogFormat, gateway_name: Option<&str>) -> Self {
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname");
        let hostname =
            hostname.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned());
        let mut line = Line::new(format);
        line.text("hostname", &hostname);
        line.number("pid", &std::process::id().to_string());
        if let Some(name) = gateway_name {
            line.text("gateway", name);
        }
        Self {
            format,
            origin: line.text,
            rate_limit: Arc::default(),
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
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut attributes = Attributes::default();
        event.record(&mut attributes);
        let metadata = event.metadata();
        let (message, country) = (attributes.text_of("message"), attributes.text_of("country"));
        let own = context.lookup_current().is_none();
        let own = own.then_some(attributes.text.as_str());
        // An error leaves the line out.
        let suppressed = self
            .rate_limit
            .admit(metadata, message, country, own)
            .ok_or(fmt::Error)?;
        output::count_line(*metadata.level());
        let thread = std::thread::current();
        let mut line = Line::new(self.format);
        line.begin();
        line.text("timestamp", &timestamp(&SystemClock));
        line.text("level", level(*metadata.level()));
        line.formatted_pairs(&self.origin);
        line.ids(context);
        line.text("thread", thread.name().unwrap_or("unnamed"));
        line.text("class", metadata.target());
        line.text("message", message);
        line.text("exception", attributes.text_of("exception"));
        line.pairs(&attributes);
        if suppressed > 0 {
            line.number("suppressedLines", &suppressed.to_string());
        }
        line.end();
        writer.write_str(&line.text)
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

/// `2020-10-06T09:12:33.120Z` (RFC 3339). Formatted by hand: it is in every line, where the general
/// formatter takes a fifth of the time.
fn timestamp(clock: &dyn Clock) -> String {
    let nanoseconds = i128::from(clock.now().0) * 1_000_000;
    let Ok(time) = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds) else {
        return String::new();
    };
    let (hour, minute, second, millisecond) = time.to_hms_milli();
    let mut text = String::with_capacity(24);
    let mut push = |number: u32, digits: u32, after: &str| {
        let digit = |place| char::from_digit(number / 10_u32.pow(place) % 10, 10);
        text.extend((0..digits).rev().filter_map(digit));
        text.push_str(after);
    };
    push(time.year().unsigned_abs(), 4, "-");
    push(u8::from(time.month()).into(), 2, "-");
    push(time.day().into(), 2, "T");
    push(hour.into(), 2, ":");
    push(minute.into(), 2, ":");
    push(second.into(), 2, ".");
    push(millisecond.into(), 3, "Z");
    text
}

/// The fields of an event: all values concatenated in one text.
#[derive(Debug)]
struct Attributes {
    text: String,
    values: Vec<Value>,
}

#[derive(Debug)]
struct Value {
    name: &'static str,
    kind: ValueKind,
    /// Its end in the text; it begins where the previous one ends.
    end: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueKind {
    Text,
    /// Also true and false.
    Number,
}

impl Default for Attributes {
    /// Capacity for a typical event.
    fn default() -> Self {
        Self {
            text: String::with_capacity(256),
            values: Vec::with_capacity(8),
        }
    }
}

impl Attributes {
    fn format(&mut self, field: &Field, kind: ValueKind, value: fmt::Arguments<'_>) {
        // A value that cannot be formatted is left out.
        let _ = self.text.write_fmt(value);
        self.end(field, kind);
    }

    fn end(&mut self, field: &Field, kind: ValueKind) {
        self.values.push(Value {
            name: field.name(),
            kind,
            end: self.text.len(),
        });
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, ValueKind, &str)> {
        let mut begin = 0;
        self.values.iter().map(move |value| {
            let text = &self.text[begin..value.end];
            begin = value.end;
            (value.name, value.kind, text)
        })
    }

    /// The value of a field, empty when it is absent.
    fn text_of(&self, wanted: &str) -> &str {
        let mut named = self.iter().filter(|(name, _, _)| *name == wanted);
        named.next().map_or("", |(_, _, text)| text)
    }
}

impl Visit for Attributes {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.format(field, ValueKind::Text, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text.push_str(value);
        self.end(field, ValueKind::Text);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.format(field, ValueKind::Number, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.format(field, ValueKind::Number, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.format(field, ValueKind::Number, format_args!("{value}"));
    }
}

/// A line being written.
struct Line {
    text: String,
    format: LogFormat,
    pairs_count: u32,
}

/// Capacity for a typical line.
const LINE_BYTES: usize = 512;

impl Line {
    fn new(format: LogFormat) -> Self {
        Self {
            text: String::with_capacity(LINE_BYTES),
            format,
            pairs_count: 0,
        }
    }

    fn begin(&mut self) {
        match self.format {
            LogFormat::Text => {}
            LogFormat::Json => self.text.push('{'),
        }
    }

    fn end(&mut self) {
        match self.format {
            LogFormat::Text => self.text.push('\n'),
            LogFormat::Json => self.text.push_str("}\n"),
        }
    }

    /// The ids of the current request, empty outside of requests.
    fn ids<S, N>(&mut self, context: &FmtContext<'_, S, N>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
        N: for<'a> FormatFields<'a> + 'static,
    {
        let spans = context.event_scope().into_iter();
        for span in spans.flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<N>>();
            if let Some(pairs) = formatted.filter(|pairs| !pairs.fields.is_empty()) {
                return self.formatted_pairs(&pairs.fields);
            }
        }
        self.text("traceId", "");
        self.text("spanId", "");
    }

    /// Appends pairs that are already formatted.
    fn formatted_pairs(&mut self, pairs: &str) {
        self.separate();
        self.text.push_str(pairs);
    }

    /// Appends all attributes except those among the fixed fields.
    fn pairs(&mut self, attributes: &Attributes) {
        for (name, kind, value) in attributes.iter() {
            match (name, kind) {
                ("message" | "exception", _) => {}
                (_, ValueKind::Text) => self.text(name, value),
                (_, ValueKind::Number) => self.number(name, value),
            }
        }
    }

    fn separate(&mut self) {
        self.pairs_count += 1;
        match self.format {
            _ if self.pairs_count == 1 => {}
            LogFormat::Text => self.text.push(' '),
            LogFormat::Json => self.text.push(','),
        }
    }

    fn name(&mut self, name: &str) {
        self.separate();
        let (before, after) = match self.format {
            LogFormat::Text => ("", "="),
            LogFormat::Json => ("\"", "\":"),
        };
        self.text.push_str(before);
        self.text.push_str(name);
        self.text.push_str(after);
    }

    fn number(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.push_str(value);
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        if self.format == LogFormat::Text && is_plain(value) {
            return self.text.push_str(value);
        }
        self.text.push('"');
        push_escaped(&mut self.text, value);
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests;

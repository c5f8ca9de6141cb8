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
fn writes_the_fixed_fields_and_then_the_attributes() {
    let line = written(LogFormat::Text, || {
        tracing::info!(
            batchTag = "20201006-1",
            numKeys = 5000,
            "Successful Batch Download"
        );
    });
    assert!(line.starts_with("timestamp=20"), "{line}");
    assert!(line.contains(" level=INFO hostname="), "{line}");
    assert!(line.contains(" traceId=\"\" spanId=\"\" thread="), "{line}");
    assert!(line.contains(" class=api::telemetry::tests "), "{line}");
    let end =
        "message=\"Successful Batch Download\" exception=\"\" batchTag=20201006-1 numKeys=5000\n";
    assert!(line.ends_with(end), "{line}");
}

#[test]
fn escapes_values_that_could_inject_a_line_or_a_pair() {
    let hostile = "x\", level=ERROR\r\nlevel=ERROR\u{2028}\u{85}\u{1b}[31m\u{202e}\\";
    let line = written(LogFormat::Text, || {
        tracing::info!(dnString = hostile, "Unknown client certificate");
    });
    assert_eq!(line.matches('\n').count(), 1, "{line}");
    let quoted =
        "dnString=\"x\\\", level=ERROR\\r\\nlevel=ERROR\\u2028\\u0085\\u001b[31m\\u202e\\\\\"\n";
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
fn correlates_the_lines_of_a_request_by_its_ids() {
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
fn formats_the_time_in_utc() {
    // `date -u -d @1601975553.12`
    let clock = ManualClock::new(UnixMillis(1_601_975_553_120));
    assert_eq!(timestamp(&clock), "2020-10-06T09:12:33.120Z");
}

#[test]
fn refuses_an_invalid_filter() {
    let settings = LogSettings {
        format: LogFormat::Text,
        level: "api=loud".to_owned(),
    };
    let error = install(&settings, None).unwrap_err();
    assert!(error.to_string().contains("info,api=debug"), "{error}");
}

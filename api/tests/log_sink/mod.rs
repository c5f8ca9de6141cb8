//! The log of a gateway in the test's own process.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::sync::{Arc, Mutex};

use api::settings::{LogFormat, LogSettings};
use api::telemetry;
use serde_json::Value;
use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;

/// Collects lines.
#[derive(Clone, Default)]
pub(crate) struct LogSink(Arc<Mutex<Vec<u8>>>);

impl io::Write for LogSink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogSink {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl LogSink {
    /// Collects what all threads of this process log, as JSON: the engine's, too.
    pub(crate) fn of_process() -> Self {
        let log = Self::default();
        let subscriber = log.subscriber(LogFormat::Json, "info");
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log
    }

    pub(crate) fn subscriber(
        &self,
        format: LogFormat,
        level: &str,
    ) -> impl Subscriber + Send + Sync + use<> {
        let level = level.to_owned();
        telemetry::subscriber(&LogSettings { format, level }, self.clone()).unwrap()
    }

    /// All that was written.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// What was written since the last call.
    pub(crate) fn take(&self) -> String {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap()
    }

    /// All lines that were written as JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = self.text();
        let lines = text.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().unwrap()
    }
}

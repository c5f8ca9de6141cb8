//! What an operator has to see to before it stops the gateway: certificates near their end, rows of the
//! certificate list that nobody vouches for, a reload that failed, a database that may lose commits, clocks
//! that differ, a disk that fills up.
//!
//! - *In*: the certificate list, the gateway's own certificates, the database's settings, its disk.
//! - *Out*: [`Finding`]s, one sentence each: in the log at start, when they come up and then once a
//!   day; in `warnings` of `/ready` and `/status`; as metrics.
//! - *Runs on*: a tokio task; any thread that asks for `/ready` or the metrics.

mod certificates;
mod clock;
mod disk;
mod finding;
mod reload;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use engine::locks::LockIgnoringPoison;
use engine::{Clock, Engine};
use tokio::sync::watch;

pub(crate) use certificates::{CertificateState, OwnCertificates, ends_of, list_findings};
pub(crate) use clock::finding as clock_finding;
pub use finding::{Finding, Severity};
use reload::FailedReloads;
pub use reload::Reloaded;

/// Between looks.
const INTERVAL: Duration = Duration::from_secs(60);
/// Between two lines that say the same.
const REPEAT: Duration = Duration::from_secs(24 * 3600);

/// What is looked at beside the engine.
#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) own: OwnCertificates,
    pub(crate) failed_reloads: FailedReloads,
    /// The SQLite database, if it is one.
    sqlite: Option<PathBuf>,
    /// As of the last look.
    flushing_risk: Mutex<Option<&'static str>>,
}

impl Attention {
    pub(crate) fn new(own: OwnCertificates, sqlite: Option<PathBuf>) -> Self {
        Self {
            own,
            failed_reloads: FailedReloads::default(),
            sqlite,
            flushing_risk: Mutex::default(),
        }
    }

    /// Everything that is to be seen to now, the worst first.
    pub(crate) fn findings(&self, engine: &Engine, clock: &dyn Clock) -> Vec<Finding> {
        let now = clock.now();
        let mut findings = self.own.findings(now);
        findings.extend(self.failed_reloads.findings());
        let status = engine.status();
        let fault = status.certificate_list_fault;
        let trust = engine.trust();
        let listed: Vec<_> = trust.certificates().map(|listed| &**listed).collect();
        findings.extend(list_findings(&listed, fault, now));
        findings.extend(self.flushing_risk().map(|risk| Finding {
            severity: Severity::Warning,
            subject: "database".to_owned(),
            text: format!("the database server may lose commits that it has confirmed: {risk}"),
        }));
        findings.extend(clock::finding(status.day.ahead_of_database_ms));
        let space = self.sqlite.as_deref().and_then(disk::space);
        findings.extend(space.and_then(disk::finding));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    /// Sets the metrics.
    pub(crate) fn measure(&self, engine: &Engine, clock: &dyn Clock) {
        self.own.measure();
        self.failed_reloads.measure();
        certificates::measure(&engine.trust(), clock.now());
        let risk = u32::from(self.flushing_risk().is_some());
        metrics::gauge!("efgs_database_may_lose_commits").set(risk);
        disk::measure(self.sqlite.as_deref().and_then(disk::space));
    }

    /// Asks the database for its settings, which can have changed since the start. While it does not
    /// answer, what it said last counts.
    async fn ask_database(&self, engine: &Arc<Engine>) {
        let engine = Arc::clone(engine);
        let asked = tokio::task::spawn_blocking(move || engine.flushing_risk()).await;
        if let Ok(Ok(risk)) = asked {
            *self.risk() = risk;
        }
    }

    fn flushing_risk(&self) -> Option<&'static str> {
        *self.risk()
    }

    fn risk(&self) -> MutexGuard<'_, Option<&'static str>> {
        self.flushing_risk.lock_ignoring_poison()
    }
}

/// Looks from time to time, and logs what is to be seen to, until the shutdown signal.
pub(crate) async fn watch(
    attention: Arc<Attention>,
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut told = Told::default();
    let mut interval = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = shutdown.wait_for(|shutdown| *shutdown) => return,
        }
        attention.ask_database(&engine).await;
        let findings = attention.findings(&engine, &*clock);
        told.due(&findings, Instant::now()).for_each(log);
    }
}

fn log(finding: &Finding) {
    let subject = &finding.subject;
    match finding.severity {
        Severity::Error => tracing::error!(subject, "{}", finding.text),
        Severity::Warning => tracing::warn!(subject, "{}", finding.text),
    }
}

/// What was logged, by subject.
#[derive(Debug, Default)]
struct Told(HashMap<String, (Severity, Instant)>);

impl Told {
    /// Those that are new, have become worse, or were logged a day ago. What has gone is forgotten, so that
    /// it is logged at once when it comes back.
    fn due<'a>(
        &mut self,
        findings: &'a [Finding],
        now: Instant,
    ) -> impl Iterator<Item = &'a Finding> {
        self.0
            .retain(|subject, _| findings.iter().any(|finding| finding.subject == *subject));
        let due = findings.iter().filter(|finding| {
            let known = self.0.get(&finding.subject);
            known.is_none_or(|(severity, at)| {
                finding.severity > *severity || now.duration_since(*at) >= REPEAT
            })
        });
        let due: Vec<_> = due.collect();
        for finding in &due {
            let told = (finding.severity, now);
            self.0.insert(finding.subject.clone(), told);
        }
        due.into_iter()
    }
}

/// The findings as an operator reads them.
pub(crate) fn sentences(findings: Vec<Finding>) -> impl Iterator<Item = String> {
    findings.into_iter().map(|finding| finding.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(severity: Severity, subject: &str) -> Finding {
        Finding {
            severity,
            subject: subject.to_owned(),
            text: "in 29 days".to_owned(),
        }
    }

    #[test]
    fn tells_once_a_day_and_at_once_what_is_new_worse_or_back() {
        let (mut told, start) = (Told::default(), Instant::now());
        let mut due = |findings: &[Finding], hours: u64| {
            let now = start + Duration::from_secs(hours * 3600);
            told.due(findings, now).count()
        };
        let (a, b) = (
            finding(Severity::Warning, "a"),
            finding(Severity::Warning, "b"),
        );
        assert_eq!(due(std::slice::from_ref(&a), 0), 1);
        assert_eq!(due(std::slice::from_ref(&a), 1), 0);
        assert_eq!(due(&[a.clone(), b.clone()], 2), 1, "b is new");
        let worse = finding(Severity::Error, "b");
        assert_eq!(due(&[a.clone(), worse.clone()], 3), 1, "b is worse");
        assert_eq!(due(std::slice::from_ref(&worse), 24), 0);
        assert_eq!(due(&[a, worse], 25), 1, "a is back");
        assert_eq!(due(&[b], 27), 1, "b was told a day ago");
    }
}

//! `efgs check`: whether a gateway could start, and what would stop it later.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use api::server::{self, ServeError, ServerSettings};
use api::settings::{AdminSettings, Settings, environment};
use clap::Args;
use engine::admin::Admin;
use engine::{Clock as _, SystemClock};
use rustix::fs::{Access, access};
use serde::Serialize;

use super::config::ConfigArguments;
use super::output::say;

/// Check configuration, files, database, ports and limits, without starting anything
///
/// Reads everything that a gateway reads when it starts, and says in one sentence each what is wrong, with
/// the name of the setting. Changes nothing. Ends with status 1 if a gateway would not start, or would
/// start and serve no one. Ports may be held by a gateway that runs on this configuration.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON: an object with `ok` and `findings`
    #[arg(long)]
    json: bool,
}

const EXAMPLE: &str = "\
Examples:
  efgs check --config demo/efgs.toml
  efgs check --config demo/efgs.toml --json";

/// How long a gateway that runs may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Of its state: some kilobytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What was found.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether nothing is wrong that keeps a gateway from serving.
    ok: bool,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    severity: Severity,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Ok,
    Warning,
    Error,
}

pub(super) fn run(arguments: &CheckArguments) -> anyhow::Result<()> {
    let findings = look(arguments)?;
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    if arguments.json {
        let report = Report {
            ok: errors == 0,
            findings,
        };
        say(serde_json::to_string_pretty(&report)?)?;
    } else {
        for finding in &findings {
            let Finding { check, text, .. } = finding;
            let severity = match finding.severity {
                Severity::Ok => "ok",
                Severity::Warning => "WARNING",
                Severity::Error => "ERROR",
            };
            say(format_args!("{severity:<8} {check:<14} {text}"))?;
        }
    }
    match errors {
        0 => Ok(()),
        1 => bail!("one error was found: a gateway would not start, or serve no one"),
        errors => bail!("{errors} errors were found: a gateway would not start, or serve no one"),
    }
}

/// Everything, in the order in which a gateway reads it.
fn look(arguments: &CheckArguments) -> anyhow::Result<Vec<Finding>> {
    let mut found = Found(Vec::new());
    let file = &arguments.config.config;
    match Settings::load(file, environment()) {
        Ok(settings) => {
            found.ok("configuration", format!("{} can be used", file.display()));
            for warning in &settings.warnings {
                found.add("configuration", Severity::Warning, warning.clone());
            }
            found.server(&ServerSettings::from(&settings))?;
            if let Some(path) = &settings.engine.continuity.state_file {
                found.state_file(path);
            }
        }
        Err(error) => found.error("configuration", engine::chain(&error)),
    }
    // Whatever else is wrong: the database and the list can be looked at.
    if let Ok(settings) = AdminSettings::load(file, environment()) {
        found.database(&settings);
    }
    Ok(found.0)
}

struct Found(Vec<Finding>);

impl Found {
    fn add(&mut self, check: &'static str, severity: Severity, text: String) {
        self.0.push(Finding {
            check,
            severity,
            text,
        });
    }

    fn ok(&mut self, check: &'static str, text: String) {
        self.add(check, Severity::Ok, text);
    }

    fn error(&mut self, check: &'static str, text: String) {
        self.add(check, Severity::Error, text);
    }

    /// Certificates, ports and limits.
    fn server(&mut self, settings: &ServerSettings) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let _inside = runtime.enter();
        let mut obstacles = server::obstacles(settings);
        let in_use = obstacles
            .extract_if(.., |obstacle| {
                matches!(obstacle, ServeError::PortInUse { .. })
            })
            .collect::<Vec<_>>();
        if !in_use.is_empty() && settings.operations_listen.is_some_and(is_gateway) {
            self.ok("ports", "a running gateway holds them".to_owned());
        } else {
            obstacles.extend(in_use);
        }
        if obstacles.is_empty() {
            self.ok(
                "server",
                "certificates, ports and limits can be used".to_owned(),
            );
        }
        for obstacle in obstacles {
            self.error("server", engine::chain(&obstacle));
        }
        self.seen_to("certificates", server::own_findings(settings, &SystemClock));
        Ok(())
    }

    /// Whether it could be written; it is made at the first start.
    fn state_file(&mut self, path: &Path) {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        let writable = |path: &Path| access(path, Access::WRITE_OK);
        let checked = match path.exists() {
            true => writable(path).and_then(|()| writable(folder)),
            false => writable(folder),
        };
        if let Err(error) = checked {
            let text = format!(
                "[database] state_file = {} cannot be written: {error}; make its folder, and let the gateway's user \
                 write there",
                path.display()
            );
            self.error("state file", text);
        }
    }

    fn database(&mut self, settings: &AdminSettings) {
        let mut admin = match Admin::open(&settings.database) {
            Ok(admin) => admin,
            Err(error) => return self.error("database", engine::chain(&error)),
        };
        self.ok("database", format!("{} can be used", settings.database));
        self.schema(&mut admin);
        self.memory_of(&mut admin, settings);
        self.clock(&mut admin);
        match admin.flushing_risk() {
            Ok(None) => {}
            Ok(Some(risk)) => {
                let text = format!("the server may lose commits that it has confirmed: {risk}");
                let severity = match settings.accepts_unflushed_commits() {
                    true => Severity::Warning,
                    false => Severity::Error,
                };
                self.add("database", severity, text);
            }
            Err(error) => self.error("database", engine::chain(&error)),
        }
        self.certificates(&mut admin, settings);
    }

    /// What gateways remember outside the database: the state file, and the sealing keys.
    fn memory_of(&mut self, admin: &mut Admin, settings: &AdminSettings) {
        let state_file = settings.state_file();
        let remembered = state_file.map_or(Ok(()), |path| admin.check_state_file(&path));
        if let Err(error) = remembered {
            self.error("database", engine::chain(&error));
        }
        // What is wrong with the file was reported above.
        let Ok(keys) = settings.keys() else { return };
        match admin.missing_sealing_keys(&keys) {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => {
                let text = format!(
                    "[encryption] key_file lacks the sealing keys {missing:?}, which other gateways have: copy the \
                     file from where it was rotated; without them a gateway is not ready"
                );
                self.error("keys", text);
            }
            Err(error) => self.error("keys", engine::chain(&error)),
        }
    }

    fn schema(&mut self, admin: &mut Admin) {
        match admin.check_schema() {
            Ok(faults) if faults.is_empty() => {
                self.ok("schema", "as the migrations have made it".to_owned());
            }
            Ok(faults) => {
                for fault in faults {
                    let text = format!("the database has what no migration has made: {fault}");
                    self.error("schema", text);
                }
            }
            Err(error) => self.error("schema", engine::chain(&error)),
        }
    }

    fn clock(&mut self, admin: &mut Admin) {
        match admin.database_now() {
            Ok(theirs) => {
                let ahead_ms = SystemClock.now().0.wrapping_sub(theirs.0).cast_signed();
                let finding = server::clock_finding(ahead_ms);
                self.seen_to("clock", finding.into_iter().collect());
            }
            Err(error) => self.error("clock", engine::chain(&error)),
        }
    }

    /// The list, under the digest and the anchor.
    fn certificates(&mut self, admin: &mut Admin, settings: &AdminSettings) {
        // What is wrong with these files was reported above.
        let (Ok(keys), Ok(anchor)) = (settings.keys(), settings.trust_anchor_pem()) else {
            return;
        };
        let list = match admin.check_certificates(&keys, &anchor) {
            Ok(list) => list,
            Err(error) => return self.error("certificates", engine::chain(&error)),
        };
        if let Some(fault) = list.fault {
            let text = format!(
                "gateways do not use the certificate list: {fault}; look at it with efgs cert verify"
            );
            self.error("certificates", text);
        }
        let now = SystemClock.now();
        let usable = list.certificates.iter().filter(|certificate| {
            let listed = &certificate.listed;
            listed.is_in_force() && listed.is_valid_at(now)
        });
        let usable = usable.count();
        if usable > 0 {
            self.ok(
                "certificates",
                format!("{usable} of {} are valid", list.certificates.len()),
            );
        }
        let listed: Vec<_> = list.certificates.iter().map(|row| &row.listed).collect();
        let mut findings = server::list_findings(&listed, &SystemClock);
        if usable > 0 {
            // It stops its owner, and no gateway.
            let all = findings.iter_mut();
            all.for_each(|finding| finding.severity = server::Severity::Warning);
        }
        self.seen_to("certificates", findings);
    }

    fn seen_to(&mut self, check: &'static str, findings: Vec<server::Finding>) {
        for finding in findings {
            let severity = match finding.severity {
                server::Severity::Error => Severity::Error,
                server::Severity::Warning => Severity::Warning,
            };
            self.add(check, severity, finding.text);
        }
    }
}

/// Whether a gateway answers operators here.
fn is_gateway(operations: SocketAddr) -> bool {
    let mut address = operations;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let request = b"GET /status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request)?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"logPosition\":"))
}

//! Warm downloads compared with nginx's sendfile of the same bytes, by the same client in the same run.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::deployment::{Deployment, RunningGateway, free_address, today};
use crate::http::{Connection, EncodedRequest, Route, download_headers};
use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

/// How long one measurement lasts.
const DURATION: &str = "2s";
/// Timeout for a server, and for a batch to be cut.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A download batch that a gateway holds.
#[derive(Debug)]
pub(crate) struct CutBatch {
    pub(crate) tag: String,
    pub(crate) body: Vec<u8>,
}

/// Uploads one batch of `key_count` keys as the first participant, and waits until the second can
/// download it.
pub(crate) fn cut(
    deployment: &Deployment,
    running: &RunningGateway,
    key_count: u32,
) -> anyhow::Result<CutBatch> {
    let mut connection = Connection::open(&Route::Plain(running.proxy))?;
    let before = newest(deployment, &mut connection)?;
    let upload = deployment.uploads(1, key_count).swap_remove(0);
    let response = connection.send(&upload)?;
    ensure!(
        response.status == 201,
        "an upload was answered with: {}",
        response.head
    );
    let begun = Instant::now();
    loop {
        if let Some(cut) = newest(deployment, &mut connection)?
            && before.as_ref().is_none_or(|before| before.tag != cut.tag)
        {
            return Ok(cut);
        }
        ensure!(begun.elapsed() < TIMEOUT, "no download batch was cut");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The last download batch of today.
fn newest(
    deployment: &Deployment,
    connection: &mut Connection,
) -> anyhow::Result<Option<CutBatch>> {
    let mut tag: Option<String> = None;
    let mut found = None;
    loop {
        let mut body = Vec::new();
        let request = request(deployment, tag.as_deref());
        let response = connection.send_with(&request, |bytes| body.extend_from_slice(bytes))?;
        if response.status == 404 {
            return Ok(found);
        }
        ensure!(
            response.status == 200,
            "a download was answered with: {}",
            response.head
        );
        let header = |name| response.header(name).map(str::to_owned);
        found = Some(CutBatch {
            tag: header("batchTag").context("an answer names its batch")?,
            body,
        });
        tag = header("nextBatchTag").filter(|next| next != "null");
        if tag.is_none() {
            return Ok(found);
        }
    }
}

fn path() -> String {
    format!("/diagnosiskeys/download/{}", today())
}

/// A download by the second participant.
pub(crate) fn request(deployment: &Deployment, tag: Option<&str>) -> EncodedRequest {
    EncodedRequest::get(&path(), &download_headers(&deployment.backends[1], tag))
}

/// Requests per second that a gateway answers.
pub(crate) fn gateway_rate(
    deployment: &Deployment,
    running: &RunningGateway,
    tag: &str,
    connections: u32,
) -> anyhow::Result<f64> {
    let headers = download_headers(&deployment.backends[1], Some(tag));
    wrk(running.proxy, &path(), &headers, connections)
}

/// nginx serving files from a private folder; it ends when its value is dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    folder: TempDir,
    program: PathBuf,
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    /// Starts it. Writes `files` where it finds them.
    pub(crate) fn start(files: &[(&str, &[u8])]) -> anyhow::Result<Self> {
        let program = find("nginx")?;
        let folder = tempfile::Builder::new().prefix("efgs-nginx").tempdir()?;
        let address = free_address()?;
        let place = folder.path().display();
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes)?;
        }
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {place}/{name};"))
            .join("\n");
        // As many workers as the gateway has threads; files stay open, as its bundles do.
        let configuration = format!(
            "daemon off;\n{}worker_processes auto;\npid {place}/pid;\n\
             error_log {place}/error.log;\nevents {{ worker_connections 512; }}\n\
             http {{\n{temporary}\naccess_log off;\nsendfile on;\ntcp_nopush on;\n\
             keepalive_requests 100000000;\nopen_file_cache max=16;\n\
             default_type application/protobuf;\n\
             server {{ listen {address}; root {place}; }}\n}}\n",
            if rustix::process::geteuid().is_root() {
                "user root;\n"
            } else {
                ""
            }
        );
        std::fs::write(folder.path().join("nginx.conf"), configuration)?;
        let child = nginx(&program, folder.path())
            .stdin(Stdio::null())
            .spawn()?;
        let server = Self {
            folder,
            program,
            child,
            address,
        };
        server.wait()?;
        Ok(server)
    }

    fn wait(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            if begun.elapsed() > TIMEOUT {
                let log = std::fs::read_to_string(self.folder.path().join("error.log"));
                bail!("nginx does not start: {}", log.unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Requests per second for one of its files.
    pub(crate) fn rate(&self, file: &str, connections: u32) -> anyhow::Result<f64> {
        wrk(self.address, &format!("/{file}"), &[], connections)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master process tells its workers.
        let told = nginx(&self.program, self.folder.path())
            .args(["-s", "stop"])
            .status();
        if told.is_ok_and(|status| status.success()) {
            self.child.wait().ok();
        } else {
            self.child.kill().ok();
        }
    }
}

fn nginx(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"));
    // Before it has read its configuration it logs to its default path.
    command.args(["-e", "stderr"]).stderr(Stdio::null());
    command
}

fn find(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    let mut candidates = folders.map(|folder| folder.join(name));
    let found = candidates.find(|candidate| candidate.is_file());
    found.with_context(|| format!("{name} is missing: run .ci/packages perf"))
}

/// Requests per second that wrk makes.
fn wrk(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, String)],
    connections: u32,
) -> anyhow::Result<f64> {
    let mut command = Command::new(find("wrk")?);
    let threads = connections.min(2);
    command.args([
        format!("-t{threads}"),
        format!("-c{connections}"),
        format!("-d{DURATION}"),
    ]);
    for (name, value) in headers {
        command.arg("-H").arg(format!("{name}: {value}"));
    }
    let output = command.arg(format!("http://{address}{path}")).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    read_wrk(&said).with_context(|| format!("wrk on {path} said: {said}"))
}

/// The rate; an error if any response was not successful.
fn read_wrk(said: &str) -> Option<f64> {
    if said.contains("Non-2xx") || said.contains("Socket errors") {
        return None;
    }
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_wrk_prints() {
        // wrk 4.1.0 on Debian 12.
        let said = "RunningGateway 2s test @ http://127.0.0.1:1/x\n  2 threads and 8 connections\n\
                    Requests/sec:   8912.45\nTransfer/sec:      2.73GB\n";
        assert_eq!(read_wrk(said), Some(8912.45));
        assert_eq!(
            read_wrk(&format!("{said}  Non-2xx or 3xx responses: 3\n")),
            None
        );
    }
}

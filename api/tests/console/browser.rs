//! Chromium without a screen, through `chromedriver` on loopback. Both end with the value, whatever becomes
//! of the test.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fantoccini::Client;
use fantoccini::wd::WebDriverCompatibleCommand;
use http::Method;
use hyper_util::client::legacy::connect::HttpConnector;
use procfs::process::all_processes;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::poll::holds_within;
use url::{ParseError, Url};

/// How long a program may take to end when it is told to.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// `chromedriver`, and the browser that it starts.
struct Driver {
    process: Child,
    address: String,
}

impl Driver {
    fn start() -> Self {
        let mut process = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("chromedriver is not installed: `make packages`, or the packages chromium and chromium-driver");
        let output = process.stdout.take().unwrap();
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = format!(
            "http://127.0.0.1:{}",
            port.expect("chromedriver says its port")
        );
        Self { process, address }
    }

    /// The processes that it has started, and those that they have.
    fn descendants(&self) -> Vec<i32> {
        let all: Vec<(i32, i32)> = all_processes()
            .into_iter()
            .flatten()
            .filter_map(|process| process.ok()?.stat().ok())
            .map(|stat| (stat.pid, stat.ppid))
            .collect();
        let mut found = BTreeSet::from([i32::try_from(self.process.id()).unwrap()]);
        while let Some((pid, _)) = all
            .iter()
            .find(|(pid, parent)| found.contains(parent) && !found.contains(pid))
        {
            found.insert(*pid);
        }
        found.remove(&i32::try_from(self.process.id()).unwrap());
        found.into_iter().collect()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let browser = self.descendants();
        let end = |pid, signal| Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
        end(i32::try_from(self.process.id()).unwrap(), Signal::TERM);
        if !holds_within(ENDS_WITHIN, || {
            matches!(self.process.try_wait(), Ok(Some(_)))
        }) {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
        for pid in browser {
            end(pid, Signal::KILL);
        }
    }
}

/// A command that is not standard, and `chromedriver` has.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(&self, base: &Url, session: Option<&str>) -> Result<Url, ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &Url) -> (Method, Option<String>) {
        (Method::POST, Some(self.body.to_string()))
    }
}

/// A browser with one page.
pub(crate) struct Browser {
    client: Client,
    // The browser ends before its folder goes.
    _driver: Driver,
    _profile: TempDir,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let driver = Driver::start();
        let profile = tempfile::tempdir().unwrap();
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless=new",
                // Tests may run as root.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-breakpad",
                "--disable-background-networking",
                "--no-first-run",
                "--hide-scrollbars",
                format!("--user-data-dir={}", profile.path().display()),
            ]},
        });
        let Value::Object(capabilities) = capabilities else {
            unreachable!("it is an object");
        };
        let connector = HttpConnector::new();
        let client =
            Client::with_capabilities_and_connector(&driver.address, &capabilities, connector);
        let client = client
            .await
            .expect("chromium starts: is the package chromium installed?");
        Self {
            client,
            _driver: driver,
            _profile: profile,
        }
    }

    pub(crate) async fn open(&self, address: &str) {
        self.client.goto(address).await.unwrap();
    }

    /// The value of an expression in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.client.execute(&script, Vec::new()).await.unwrap()
    }

    /// Presses a key where the focus is.
    pub(crate) async fn press(&self, key: &str) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(key).await.unwrap();
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        let body = json!({"cmd": command, "params": parameters});
        let path = "goog/cdp/execute";
        self.client
            .issue_cmd(Extension { path, body })
            .await
            .unwrap()
    }

    /// As on a device with this width that prefers `light` or `dark`.
    pub(crate) async fn emulate(&self, width: u32, height: u32, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", json!({"features": [feature]}))
            .await;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)
            .await;
    }

    /// What the console of the browser has, violations of the page's policy among it.
    pub(crate) async fn log(&self) -> Vec<Value> {
        let body = json!({"type": "browser"});
        let log = self
            .client
            .issue_cmd(Extension {
                path: "se/log",
                body,
            })
            .await
            .unwrap();
        log.as_array().unwrap().clone()
    }

    /// Writes the page, as far as it is shown, to a PNG file.
    pub(crate) async fn picture(&self, file: &Path) {
        let picture = self
            .devtools("Page.captureScreenshot", json!({"format": "png"}))
            .await;
        let bytes = STANDARD.decode(picture["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    pub(crate) async fn close(self) {
        self.client.close().await.unwrap();
    }
}

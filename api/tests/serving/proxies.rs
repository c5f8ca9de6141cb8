//! Behind a proxy: the Unix socket, the user at its other end, the secret; and the configurations of
//! nginx and `HAProxy` in `deploy/`, with the real programs before two gateways.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use api::server::ServerSettings;
use api::settings::{ProxySecret, ProxySocket};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use efgs_client::{Answer, Protocol};
use http::{HeaderName, HeaderValue, Method};
use tempfile::TempDir;
use testkit::ports::free_port;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::support::{Gateway, TODAY, forwarded, read, signed_upload, thumbprint};
use crate::{CAPABILITIES, download_path};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A gateway that listens on a socket in `folder`, where a proxy of these users needs the secret.
async fn behind_a_socket(folder: &TempDir, users: Vec<u32>) -> (Gateway, String) {
    let mut server_pem = String::new();
    let gateway = Gateway::start_with(|_, server| {
        let proxy = server.proxy.as_mut().unwrap();
        proxy.socket = Some(ProxySocket {
            path: folder.path().join("proxy.sock"),
            mode: 0o600,
            users,
        });
        proxy.secret = Some(ProxySecret {
            header: HeaderName::from_static("x-proxy-secret"),
            value: SECRET.to_owned(),
        });
        let tls = server.tls.as_ref().unwrap();
        server_pem = format!("{}{}", tls.certificate_chain_pem, tls.private_key_pem);
    });
    (gateway.await, server_pem)
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The status of a request over the socket.
async fn ask(folder: &TempDir, more: &str) -> String {
    let mut stream = UnixStream::connect(folder.path().join("proxy.sock"))
        .await
        .unwrap();
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway\r\n{}{more}Connection: close\r\n\r\n",
        download_path(),
        forwarded("DE")
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer[9..12].to_owned()
}

#[tokio::test]
async fn believes_the_users_of_the_socket_that_have_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let (gateway, _) = behind_a_socket(&folder, vec![own_user()]).await;
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let secret = format!("X-Proxy-Secret: {SECRET}\r\n");
    // Nothing is there yet.
    assert_eq!(ask(&folder, &secret).await, "404");
    for wrong in [
        String::new(),
        secret.replace("0123", "0124"),
        secret.replace("f\r", "\r"),
        secret.repeat(2),
    ] {
        assert_eq!(ask(&folder, &wrong).await, "403", "{wrong:?}");
    }
    // The port needs it, too.
    let mut raw = gateway.proxy().await;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: gateway\r\n{}",
        download_path(),
        forwarded("DE")
    );
    assert_eq!(raw.get(&format!("{request}\r\n")).await.status(), 403);
    assert_eq!(
        raw.get(&format!("{request}{secret}\r\n")).await.status(),
        404
    );
    assert_eq!(raw.get(CAPABILITIES).await.status(), 200);
    gateway.stop().await.unwrap().unwrap();
    assert!(!path.exists(), "the socket was left behind");
}

#[tokio::test]
async fn believes_no_other_user_of_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    // A socket that was left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("proxy.sock")).unwrap());
    let (_gateway, _) = behind_a_socket(&folder, vec![own_user() + 1]).await;
    let secret = format!("X-Proxy-Secret: {SECRET}\r\n");
    assert_eq!(ask(&folder, &secret).await, "403");
}

#[tokio::test]
async fn leaves_the_socket_to_the_gateway_that_listens_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let (_gateway, _) = behind_a_socket(&folder, vec![own_user()]).await;
    let second = Gateway::try_start(|_, server| {
        server.proxy.as_mut().unwrap().socket = Some(ProxySocket {
            path: folder.path().join("proxy.sock"),
            mode: 0o600,
            users: vec![own_user()],
        });
    });
    let refused = second.await.err().unwrap().to_string();
    assert!(refused.contains("another process listens on"), "{refused}");
    assert_eq!(ask(&folder, "").await, "403");
}

/// A proxy; killed when dropped.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Where proxies of tests connect from.
const LOOPBACK: &str = "127.0.0.1";

/// Runs a program with the secret in its environment.
fn run(program: &str, arguments: &[&str], folder: &Path) -> Proxy {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/usr/local/sbin"));
    command.args(arguments).current_dir(folder);
    command.env("EFGS_PROXY_SECRET", SECRET);
    command.stdin(Stdio::null());
    let started = command.spawn();
    Proxy(started.unwrap_or_else(|error| panic!("{program}: {error}; .ci/packages installs it")))
}

/// Names and values of headers.
type Headers<'a> = &'a [(&'static str, &'a str)];

/// Two gateways on one database, which believe the certificate that a proxy hands over.
struct Deployed {
    folder: TempDir,
    /// Of the proxy.
    port: u16,
    gateways: [Gateway; 2],
}

impl Deployed {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut tls = None;
        let socket = folder.path().join("proxy.sock");
        let believe = |server: &mut ServerSettings| {
            let proxy = server.proxy.as_mut().unwrap();
            proxy.certificate_header = Some(HeaderName::from_static("client-cert"));
            proxy.secret = Some(ProxySecret {
                header: HeaderName::from_static("x-proxy-secret"),
                value: SECRET.to_owned(),
            });
        };
        let first = Gateway::start_with(|_, server| {
            believe(server);
            server.proxy.as_mut().unwrap().socket = Some(ProxySocket {
                path: socket,
                mode: 0o600,
                users: vec![own_user()],
            });
            server.proxy_protocol_from = vec![LOOPBACK.parse().unwrap()];
            tls.clone_from(&server.tls);
        });
        let first = first.await;
        let second = first.another_with(|_, server| {
            believe(server);
            server.proxy_protocol_from = vec![LOOPBACK.parse().unwrap()];
            // One name for clients, and so one certificate.
            server.tls.clone_from(&tls);
        });
        let second = second.await;
        let tls = tls.unwrap();
        let server_pem = format!("{}{}", tls.certificate_chain_pem, tls.private_key_pem);
        let deployed = Self {
            folder,
            port: free_port().unwrap(),
            gateways: [first, second],
        };
        deployed.write("efgs-server.pem", &server_pem);
        deployed.write("efgs-server.key", &server_pem);
        deployed
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// A file of `deploy/`, with the addresses, ports and folders of this test.
    fn configuration(&self, file: &str, replacements: &[(&str, String)]) -> String {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../deploy")
            .join(file);
        let mut text = fs::read_to_string(file).unwrap();
        let folder = self.folder.path().to_str().unwrap().to_owned();
        let folders = ["/etc/nginx", "/etc/haproxy"].map(|name| (name, folder.clone()));
        for (from, to) in folders.iter().chain(replacements) {
            assert!(text.contains(from) || from.starts_with("/etc/"), "{from}");
            text = text.replace(from, to);
        }
        text
    }

    fn proxy_address(&self, gateway: usize) -> String {
        self.gateways[gateway].addresses.proxy.unwrap().to_string()
    }

    async fn ask(
        &self,
        code: &str,
        method: Method,
        path: &str,
        headers: Headers<'_>,
        body: Bytes,
    ) -> Answer {
        let mut connection = self.gateways[0].mutual_tls_at(self.port, code, Protocol::Http1);
        let headers = headers.iter().map(|(name, value)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        });
        let headers: Vec<_> = headers.collect();
        connection.send(method, path, &headers, body).await.unwrap()
    }

    async fn get(&self, code: &str, path: &str) -> Answer {
        let headers = [(
            "accept",
            "application/protobuf; version=1.0, application/json",
        )];
        self.ask(code, Method::GET, path, &headers, Bytes::new())
            .await
    }

    async fn upload(
        &self,
        code: &str,
        tag: &str,
        numbers: std::ops::Range<u64>,
        more: Headers<'_>,
    ) -> Answer {
        let upload = signed_upload(code, numbers);
        let mut headers = vec![
            ("content-type", "application/protobuf; version=1.0"),
            ("batchtag", tag),
            ("batchsignature", &upload.signature),
        ];
        headers.extend(more);
        let body = Bytes::from(upload.body);
        self.ask(code, Method::POST, "/diagnosiskeys/upload", &headers, body)
            .await
    }

    /// What each participant can do through the proxy, and nobody can claim.
    async fn check(self) {
        until_connected(self.port).await;
        let it = read("pki/IT/IT-authentication.pem");
        let it = BASE64_STANDARD.encode(pem::parse(it).unwrap().contents());
        let forged = format!(":{it}:");
        let claims = [
            ("client-cert", forged.as_str()),
            ("x-ssl-client-sha256", &thumbprint("IT")),
            ("x-ssl-client-dn", "C=IT"),
            ("x-proxy-secret", "a guess of the client's"),
        ];
        // If it were IT, the keys would be of another origin.
        let answer = self.upload("DE", "through-the-proxy", 0..30, &claims).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let answer = self.upload("IT", "through-the-proxy", 30..40, &[]).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let (path, none) = (download_path(), Bytes::new());
        let answer = self.ask("NL", Method::GET, &path, &claims, none);
        assert_eq!(answer.await.status, 403, "nobody has listed it");
        assert_eq!(self.get("DE", "/diagnosiskeys/callback").await.status, 200);
        self.check_download().await;
        self.check_bounds();
        self.check_gateways_that_end().await;
    }

    /// Head and body of an answer to curl.
    fn curl(&self, code: &str, path: &str, more: &[&str]) -> String {
        let vectors = "../engine/tests/fixtures/vectors";
        let certificate = format!("{vectors}/pki/{code}/{code}-authentication.pem");
        let key = format!("{vectors}/keys/TEST-ONLY-{code}-authentication.key.pem");
        let mut curl = Command::new("curl");
        curl.current_dir(env!("CARGO_MANIFEST_DIR"));
        curl.args(["-sik", "--http1.1", "--cert", &certificate, "--key", &key]);
        let url = format!("https://localhost:{}{path}", self.port);
        let answer = curl.args(more).arg(url).output().unwrap();
        String::from_utf8_lossy(&answer.stdout).into_owned()
    }

    /// What ES sees, which looks for `batchTag` in this spelling.
    async fn check_download(&self) {
        let path = download_path();
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.get("ES", &path).await.status != 200 {
            assert!(Instant::now() < deadline, "no batch");
        }
        let head = self.curl(
            "ES",
            &path,
            &["-H", "accept: application/protobuf; version=1.0"],
        );
        let tag = head
            .lines()
            .find_map(|line| line.strip_prefix("batchTag: "));
        let tag = tag.unwrap_or_else(|| panic!("{head}")).trim();
        let audit = format!("/diagnosiskeys/audit/download/{TODAY}/{tag}");
        assert_eq!(self.get("DE", &audit).await.status, 200);
    }

    /// Everything that is too long is refused in the gateway's words, and not by a page of the proxy's.
    fn check_bounds(&self) {
        self.write("short", "0123456789");
        self.write("long", &"0".repeat(9 << 20));
        let signature = "A".repeat(32 * 1024);
        for (signature, body, status) in [(signature.as_str(), "short", 400), ("A", "long", 413)] {
            let body = format!("@{}/{body}", self.folder.path().display());
            let signature = format!("batchSignature: {signature}");
            let (kind, tag) = (
                "content-type: application/protobuf; version=1.0",
                "batchTag: too-long",
            );
            let headers = ["-H", kind, "-H", tag, "-H", &signature];
            let more = [&headers[..], &["--data-binary", &body]].concat();
            let answer = self.curl("DE", "/diagnosiskeys/upload", &more);
            let (head, body) = answer.rsplit_once("\r\n\r\n").unwrap();
            let last = head.rsplit("HTTP/1.1 ").next().unwrap();
            assert!(last.starts_with(&status.to_string()), "{answer}");
            let json: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(json["code"].is_string(), "{json}");
        }
    }

    /// One gateway ends, then the other.
    async fn check_gateways_that_end(self) {
        let path = download_path();
        let [first, second] = self.gateways;
        let mut connection = first.mutual_tls_at(self.port, "ES", Protocol::Http1);
        let accept = HeaderValue::from_static("application/protobuf; version=1.0");
        let headers = [(http::header::ACCEPT, accept)];
        let ended = second.stop();
        // While it ends and afterwards: nothing is lost that can be asked again.
        let mut asked_after = 0;
        while asked_after < 20 {
            let answer = connection.send(Method::GET, &path, &headers, Bytes::new());
            assert_eq!(answer.await.unwrap().status, 200);
            asked_after += u32::from(ended.is_finished());
        }
        first.stop().await.unwrap().unwrap();
        let answer = connection.send(Method::GET, &path, &headers, Bytes::new());
        let answer = answer.await.unwrap();
        assert_eq!(answer.status, 503, "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("5"));
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["code"], "unavailable");
    }
}

async fn until_connected(port: u16) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < deadline, "the proxy does not listen");
        tokio::task::yield_now().await;
    }
}

/// With the first gateway on a socket, as on one host.
#[tokio::test(flavor = "multi_thread")]
async fn is_served_by_nginx_as_deployed() {
    let deployed = Deployed::start().await;
    let at = deployed.folder.path().to_owned();
    deployed.write(
        "efgs-secret.conf",
        &format!("proxy_set_header X-Proxy-Secret {SECRET};"),
    );
    let replacements = [
        ("listen 8443", format!("listen 127.0.0.1:{}", deployed.port)),
        (
            "10.0.0.11:8080",
            format!("unix:{}/proxy.sock", at.display()),
        ),
        ("10.0.0.12:8080", deployed.proxy_address(1)),
    ];
    let server = deployed.configuration("nginx/efgs.conf", &replacements);
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", at.display()))
        .concat();
    // The worker has to be the user that the socket trusts.
    let user = if own_user() == 0 { "user root;" } else { "" };
    let configuration = format!(
        "daemon off; master_process off; {user} pid {0}/nginx.pid; error_log {0}/error.log;\n\
         events {{}}\nhttp {{\naccess_log off;\n{folders}{server}}}\n",
        at.display(),
    );
    deployed.write("nginx.conf", &configuration);
    let arguments = ["-p", ".", "-e", "error.log", "-c", "nginx.conf"];
    let _proxy = run("nginx", &arguments, &at);
    deployed.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn is_served_by_haproxy_as_deployed() {
    let deployed = Deployed::start().await;
    let at = deployed.folder.path().to_owned();
    deployed.write(
        "efgs-participants.pem",
        &read("pki/DE/DE-authentication.pem"),
    );
    let operations = |gateway: usize| {
        let address = deployed.gateways[gateway].addresses.operations.unwrap();
        format!(
            "{} port {}",
            deployed.proxy_address(gateway),
            address.port()
        )
    };
    let replacements = [
        ("bind :8443", format!("bind 127.0.0.1:{}", deployed.port)),
        ("10.0.0.11:8080", operations(0)),
        ("10.0.0.12:8080", operations(1)),
    ];
    let configuration = deployed.configuration("haproxy/haproxy.cfg", &replacements);
    deployed.write("haproxy.cfg", &configuration);
    let _proxy = run("haproxy", &["-db", "-f", "haproxy.cfg"], &at);
    deployed.check().await;
}

/// The gateways do mutual TLS themselves.
#[tokio::test(flavor = "multi_thread")]
async fn is_served_by_haproxy_that_forwards_tcp() {
    let deployed = Deployed::start().await;
    let at = deployed.folder.path().to_owned();
    let addresses = |gateway: usize| {
        let addresses = &deployed.gateways[gateway].addresses;
        let (public, operations) = (addresses.public.unwrap(), addresses.operations.unwrap());
        format!("{public} port {}", operations.port())
    };
    let replacements = [
        ("bind :8443", format!("bind 127.0.0.1:{}", deployed.port)),
        ("10.0.0.11:8443", addresses(0)),
        ("10.0.0.12:8443", addresses(1)),
    ];
    let configuration = deployed.configuration("haproxy/haproxy-tcp.cfg", &replacements);
    deployed.write("haproxy.cfg", &configuration);
    let _proxy = run("haproxy", &["-db", "-f", "haproxy.cfg"], &at);
    until_connected(deployed.port).await;
    let answer = deployed.upload("DE", "over-tcp", 0..30, &[]).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    deployed.check_download().await;
    deployed.check_bounds();
}

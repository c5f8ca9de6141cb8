//! `efgs participant`, and what an installation renews while it runs: trust anchors and sealing keys.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first unexpected result"
)]

mod cli_support;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use testkit::poll::holds_within;

use cli_support::{Backend, Gateway, Installation, Traffic, openssl, refuses, succeeds, texts};

const TIMEOUT: Duration = Duration::from_secs(60);
const ANCHOR: &str = "pki/trust-anchor.pem";
const ANCHOR_KEY: &str = "pki/trust-anchor.key";
const THEIR_AUTHENTICATION: &str = "pki/FR/authentication.pem";

/// A gateway for DE, and FR's certificates.
struct Parties {
    ours: Installation,
    theirs: Installation,
}

impl Parties {
    fn new() -> Self {
        Self {
            ours: Installation::new("DE"),
            theirs: Installation::new("FR"),
        }
    }

    fn start(&self) -> (Gateway, SocketAddr) {
        let log = File::create(self.ours.path("log")).unwrap();
        let (gateway, addresses) = Gateway::start_with_log(&mut self.ours.serve(), log);
        (gateway, named(&addresses, "public"))
    }

    fn hand_over(&self) -> PathBuf {
        self.ours.path("for-fr")
    }

    /// `efgs participant add FR`, but for the source of the signatures.
    fn add(&self, address: &str) -> Command {
        let mut command = self.ours.efgs(&["participant", "add", "FR"]);
        command.args(["--address", address]);
        command
            .arg("--authentication")
            .arg(self.theirs.path(THEIR_AUTHENTICATION));
        command
            .arg("--signing")
            .arg(self.theirs.path("pki/FR/signing.pem"));
        command.arg("--ca").arg(self.ours.path("pki/server-ca.pem"));
        command.arg("--hand-over").arg(self.hand_over());
        command
    }

    fn add_with_key(&self, address: &str) -> Command {
        let mut command = self.add(address);
        command
            .arg("--trust-anchor-key")
            .arg(self.ours.path(ANCHOR_KEY));
        command
    }

    /// Runs the script that FR was handed.
    fn first_request(&self) -> Output {
        Command::new("sh")
            .arg(self.hand_over().join("first-request.sh"))
            .arg(self.theirs.path(THEIR_AUTHENTICATION))
            .arg(self.theirs.path("pki/FR/authentication.key"))
            .output()
            .unwrap()
    }

    /// Whether it says that FR is connected.
    fn is_connected(&self) -> bool {
        self.first_request().status.success()
    }

    fn participants(&self) -> serde_json::Value {
        let json = succeeds(&mut self.ours.efgs(&["participant", "list", "--json"]));
        serde_json::from_str(&json).unwrap()
    }
}

/// Whether body or status of a path of the operations port hold a text.
fn operations_say(operations: SocketAddr, path: &str, expected: &str) -> bool {
    let url = format!("http://{operations}{path}");
    let output = Command::new("curl")
        .args(["-s", "-w", "%{http_code}", &url])
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    text.contains(expected)
}

fn named(addresses: &[(String, SocketAddr)], name: &str) -> SocketAddr {
    addresses.iter().find(|(found, _)| found == name).unwrap().1
}

/// A thumbprint as OpenSSL computes it, written as `efgs` does.
fn fingerprint(certificate: &Path) -> String {
    let file = certificate.to_str().unwrap();
    let folder = certificate.parent().unwrap();
    let arguments = ["x509", "-in", file, "-noout", "-fingerprint", "-sha256"];
    let text = openssl(&arguments, folder).unwrap();
    text.trim()
        .rsplit('=')
        .next()
        .unwrap()
        .replace(':', "")
        .to_lowercase()
}

#[test]
fn adds_a_country_that_connects_with_what_it_was_handed_and_removes_it() {
    let parties = Parties::new();
    let (gateway, public) = parties.start();
    let address = public.to_string();
    let added = succeeds(&mut parties.add_with_key(&address));
    assert_eq!(added.matches("listed FR ").count(), 2, "{added}");
    assert!(holds_within(TIMEOUT, || parties.is_connected()));

    let readme = fs::read_to_string(parties.hand_over().join("README.txt")).unwrap();
    for certificate in [THEIR_AUTHENTICATION, "pki/FR/signing.pem"] {
        let thumbprint = fingerprint(&parties.theirs.path(certificate));
        assert!(readme.contains(&thumbprint), "{readme}");
    }
    assert!(
        readme.contains(&format!("https://{address}/diagnosiskeys")),
        "{readme}"
    );
    let handed = fs::read_to_string(parties.hand_over().join("trust-anchor.pem")).unwrap();
    assert_eq!(handed, parties.ours.read(ANCHOR));
    let row = &parties.participants()[1];
    assert_eq!(row["country"], "FR");
    let counts = ["authentication", "signing", "callback"].map(|kind| row[kind].as_u64().unwrap());
    assert_eq!(counts, [1, 1, 0]);
    let shown = succeeds(&mut parties.ours.efgs(&["participant", "show", "FR"]));
    assert_eq!(shown.matches(" days left  ").count(), 2, "{shown}");

    let again = succeeds(&mut parties.add_with_key(&address));
    assert_eq!(again.matches("listed already: FR ").count(), 2, "{again}");

    let remove = |arguments: &[&str]| {
        let mut command = parties.ours.efgs(&["participant", "remove", "FR"]);
        succeeds(command.args(arguments))
    };
    let dry = remove(&["--dry-run"]);
    assert_eq!(dry.matches("would be revoked FR ").count(), 2, "{dry}");
    assert_eq!(parties.participants()[1]["signing"], 1);
    let removed = remove(&[]);
    assert_eq!(removed.matches("revoked FR ").count(), 2, "{removed}");
    assert!(holds_within(TIMEOUT, || !parties.is_connected()));
    let refusal = parties.first_request();
    assert!(
        texts(&refusal).1.contains("certificate_revoked"),
        "{refusal:?}"
    );
    refuses(
        &mut parties.ours.efgs(&["participant", "show", "IT"]),
        &["IT does not take part", "efgs participant list"],
    );
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn lists_nothing_unless_all_certificates_are_good() {
    let parties = Parties::new();
    let mut command =
        parties
            .ours
            .efgs(&["participant", "add", "FR", "--address", "efgs.example.eu"]);
    command
        .arg("--authentication")
        .arg(parties.theirs.path(THEIR_AUTHENTICATION));
    command
        .arg("--signing")
        .arg(parties.ours.path("pki/DE/signing.pem"));
    command
        .arg("--trust-anchor-key")
        .arg(parties.ours.path(ANCHOR_KEY));
    refuses(
        &mut command,
        &["DE/signing.pem", "does not name the country FR"],
    );
    let mut rogue = parties.add("efgs.example.eu");
    rogue
        .arg("--trust-anchor-key")
        .arg(parties.theirs.path(ANCHOR_KEY));
    refuses(
        &mut rogue,
        &["authentication.pem", "none of the trust anchors"],
    );
    assert_eq!(parties.participants().as_array().unwrap().len(), 1);
    assert!(!parties.hand_over().exists());
}

/// The anchor's key stays on a machine of its own: a folder goes there and comes back.
#[test]
fn lists_with_signatures_that_openssl_made_elsewhere() {
    let parties = Parties::new();
    let requests = parties.ours.path("requests");
    let mut request = parties.ours.efgs(&["cert", "sign-request"]);
    request.arg("--out").arg(&requests);
    for certificate in [THEIR_AUTHENTICATION, "pki/FR/signing.pem"] {
        request
            .arg("--certificate")
            .arg(parties.theirs.path(certificate));
    }
    succeeds(&mut request);
    let add = || {
        let mut command = parties.add("efgs.example.eu");
        command.arg("--signatures").arg(&requests);
        command
    };
    refuses(&mut add(), &["cannot read", ".sig"]);
    let signed = Command::new("sh")
        .arg(requests.join("sign.sh"))
        .arg(parties.ours.path(ANCHOR_KEY))
        .output()
        .unwrap();
    assert!(signed.status.success(), "{signed:?}");
    let added = succeeds(&mut add());
    assert_eq!(added.matches("listed FR ").count(), 2, "{added}");
    succeeds(&mut parties.ours.efgs(&["cert", "verify"]));
    // The same folder serves a certificate alone; the next request needs its own.
    let single = ["cert", "add", "--country", "FR", "--kind", "callback"];
    let mut single = parties.ours.efgs(&single);
    single
        .arg("--certificate")
        .arg(parties.theirs.path(THEIR_AUTHENTICATION));
    succeeds(single.arg("--signatures").arg(&requests));
    refuses(&mut request, &["requests is not empty", "new folder"]);
}

/// Ends the requests, also when an assertion fails meanwhile.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two anchors for a while: at no time is a certificate not trusted.
#[test]
fn changes_the_trust_anchor_without_a_refused_request() {
    let parties = Parties::new();
    let (gateway, public) = parties.start();
    succeeds(&mut parties.add_with_key(&public.to_string()));
    assert!(holds_within(TIMEOUT, || parties.is_connected()));
    let old = parties.ours.read(ANCHOR);
    let new = parties.theirs.read(ANCHOR);
    let count = |text: &str| parties.ours.read("log").matches(text).count();
    // Until the list has been checked with the new anchors, which takes five seconds.
    let reload = |anchors: &str| {
        let reloads = count("trust anchors reloaded");
        let loads = count("certificate list loaded");
        fs::write(parties.ours.path(ANCHOR), anchors).unwrap();
        gateway.signal("HUP");
        assert!(holds_within(TIMEOUT, || count("trust anchors reloaded") > reloads));
        assert!(holds_within(TIMEOUT, || count("certificate list loaded") > loads));
    };
    let resign = || {
        let mut command = parties.ours.efgs(&["cert", "resign"]);
        command
            .arg("--trust-anchor-key")
            .arg(parties.theirs.path(ANCHOR_KEY));
        command
    };
    refuses(
        &mut resign(),
        &["nothing is signed again", "[trust_anchor] certificate"],
    );
    // Audits still show it.
    let revoked = fingerprint(&parties.theirs.path("pki/FR/signing.pem"));
    succeeds(&mut parties.ours.efgs(&["cert", "revoke", &revoked]));

    let (stop, refused, requests) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                refused.fetch_add(u32::from(!parties.is_connected()), Ordering::Relaxed);
                requests.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _stop = StopAtEnd(&stop);
        reload(&format!("{old}{new}"));
        let signed = succeeds(&mut resign());
        assert_eq!(signed, "signed 5 certificates again\n");
        reload(&new);
        let enough = requests.load(Ordering::Relaxed) + 5;
        assert!(holds_within(TIMEOUT, || requests.load(Ordering::Relaxed) >= enough));
    });
    assert_eq!(refused.load(Ordering::Relaxed), 0, "of {requests:?}");
    let verified = succeeds(&mut parties.ours.efgs(&["cert", "verify"]));
    assert!(verified.contains("5 certificates, all signed by the trust anchor"));
    assert!(
        verified.contains(&format!("{revoked}  revoked 20")),
        "{verified}"
    );
    reload(&old);
    assert!(holds_within(TIMEOUT, || !parties.is_connected()));
    // What cannot be an anchor changes nothing.
    reload(&format!("{old}{new}"));
    assert!(holds_within(TIMEOUT, || parties.is_connected()));
    fs::write(parties.ours.path(ANCHOR), new.repeat(9)).unwrap();
    gateway.signal("HUP");
    assert!(holds_within(TIMEOUT, || count("more than 8 trust anchors") > 0));
    assert!(parties.is_connected());
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn is_not_ready_when_all_participants_are_removed() {
    let ours = Installation::new("DE");
    let log = File::create(ours.path("log")).unwrap();
    let (gateway, addresses) = Gateway::start_with_log(&mut ours.serve(), log);
    let operations = named(&addresses, "operations");
    let ready = |expected: &str| operations_say(operations, "/ready", expected);
    assert!(ready("\"certificates\":3") && ready("200"));
    succeeds(&mut ours.efgs(&["participant", "remove", "DE"]));
    assert!(holds_within(TIMEOUT, || ready("\"certificates\":0") && ready("503")));
    assert!(ready("no valid certificate is listed"));
    assert!(gateway.stop("TERM").status.success());
}

/// The status of an upload, and the code of its refusal.
fn uploaded(backend: &Backend) -> (u16, String) {
    let answer = backend.upload().unwrap();
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (
        answer.status,
        body["code"].as_str().unwrap_or_default().to_owned(),
    )
}

/// As docs/operate/rotate.md says: both certificates of a kind are valid while the country changes over.
#[test]
fn renews_certificates_of_a_country_without_a_refused_request() {
    let parties = Parties::new();
    let (gateway, public) = parties.start();
    succeeds(&mut parties.add_with_key(&public.to_string()));
    let renewed = Installation::new("FR");
    // The backend with the old or the new certificate of either kind.
    let backend = |authentication: &Installation, signing: &Installation| {
        let certificates = [
            authentication.path("pki/FR/authentication"),
            signing.path("pki/FR/signing"),
        ];
        let server_ca = parties.ours.path("pki/server-ca.pem");
        Backend::new(
            "FR",
            [&certificates[0], &certificates[1]],
            &server_ca,
            public,
        )
    };
    let old = &parties.theirs;
    let is_stored = |backend: &Backend| uploaded(backend) == (201, String::new());
    assert!(holds_within(TIMEOUT, || is_stored(&backend(old, old))));
    assert_eq!(
        uploaded(&backend(&renewed, old)),
        (403, "unknown_certificate".to_owned())
    );
    assert_eq!(
        uploaded(&backend(old, &renewed)),
        (400, "invalid_signature".to_owned())
    );

    let before = Traffic::start(backend(old, old));
    for kind in ["authentication", "signing"] {
        let mut add = parties
            .ours
            .efgs(&["cert", "add", "--country", "FR", "--kind", kind]);
        add.arg("--certificate")
            .arg(renewed.path(&format!("pki/FR/{kind}.pem")));
        add.arg("--trust-anchor-key")
            .arg(parties.ours.path(ANCHOR_KEY));
        succeeds(&mut add);
    }
    let row = &parties.participants()[1];
    assert_eq!([&row["authentication"], &row["signing"]], [2, 2]);
    assert!(holds_within(TIMEOUT, || is_stored(&backend(
        &renewed, &renewed
    ))));
    let after = Traffic::start(backend(&renewed, &renewed));
    // In whichever order it changes over.
    assert!(is_stored(&backend(&renewed, old)) && is_stored(&backend(old, &renewed)));
    before.await_more(4);
    assert_eq!(before.stop(), [] as [String; 0]);

    for kind in ["authentication", "signing"] {
        let thumbprint = fingerprint(&old.path(&format!("pki/FR/{kind}.pem")));
        succeeds(&mut parties.ours.efgs(&["cert", "revoke", &thumbprint]));
    }
    let is_refused = |backend: &Backend, answer: (u16, &str)| {
        let refused = || uploaded(backend) == (answer.0, answer.1.to_owned());
        assert!(holds_within(TIMEOUT, refused), "{:?}", uploaded(backend));
    };
    is_refused(&backend(old, &renewed), (403, "certificate_revoked"));
    is_refused(&backend(&renewed, old), (400, "invalid_signature"));
    after.await_more(4);
    assert_eq!(after.stop(), [] as [String; 0]);
    assert!(gateway.stop("TERM").status.success());
}

/// A row of the log, sealed with key 1.
const SEALED_WITH_1: &str = "INSERT INTO upload_log (seq, created_at_ms, country, upload_tag, key_count, \
    format_version, uploader_thumbprint, signer_thumbprint, content_digest, chain, batch_signature, \
    identities, sealed) VALUES (1, 1, 'DE', 'a', 0, 1, x'', x'', x'', x'', '', x'', x'00000001ff')";

#[test]
fn retires_a_sealing_key_when_nothing_is_sealed_with_it() {
    let ours = Installation::new("DE");
    let retire = |id: &str| ours.efgs(&["key", "retire", id]);
    refuses(&mut retire("1"), &["key 1 seals", "efgs key rotate"]);
    refuses(&mut retire("7"), &["there is no key 7", "efgs key list"]);
    succeeds(ours.efgs(&["key", "rotate"]).arg("--standby"));
    refuses(&mut retire("2"), &["key 2 stands by"]);
    succeeds(&mut ours.efgs(&["key", "rotate"]));
    let before = ours.read("keys");

    let database = rusqlite::Connection::open(ours.path("efgs.sqlite")).unwrap();
    database.execute_batch(SEALED_WITH_1).unwrap();
    refuses(
        &mut retire("1"),
        &["1 stored uploads are sealed with key 1"],
    );
    assert_eq!(ours.read("keys"), before);
    database.execute_batch("DELETE FROM upload_log").unwrap();
    drop(database);
    succeeds(&mut retire("1"));
    let list = succeeds(&mut ours.efgs(&["key", "list"]));
    assert_eq!(list, "key 2  seals\n");

    // A gateway may keep the key, but not seal with it.
    let start = || Gateway::start(&mut ours.serve()).0;
    assert!(start().stop("TERM").status.success());
    fs::write(ours.path("keys"), &before).unwrap();
    assert!(start().stop("TERM").status.success());
    let stale = before.lines().filter(|line| !line.contains(" 2 "));
    fs::write(ours.path("keys"), stale.collect::<Vec<_>>().join("\n")).unwrap();
    refuses(&mut ours.serve(), &["sealing key 1 configured is retired"]);
}

#[test]
fn is_not_ready_without_a_sealing_key_that_others_have() {
    let ours = Installation::new("DE");
    let old = ours.read("keys");
    let log = File::create(ours.path("log")).unwrap();
    let (gateway, addresses) = Gateway::start_with_log(&mut ours.serve(), log);
    let operations = named(&addresses, "operations");
    let ready = |expected: &str| operations_say(operations, "/ready", expected);
    assert!(ready("\"missingSealingKeys\":[]"));
    // Another gateway has rotated; this one sees the file of before.
    succeeds(&mut ours.efgs(&["key", "rotate"]));
    let new = ours.read("keys");
    let other = Gateway::start(&mut ours.serve()).0;
    assert!(other.stop("TERM").status.success());
    fs::write(ours.path("keys"), old).unwrap();
    gateway.signal("HUP");
    assert!(holds_within(TIMEOUT, || ready(
        "\"missingSealingKeys\":[2]"
    ) && ready("503")));
    fs::write(ours.path("keys"), new).unwrap();
    gateway.signal("HUP");
    assert!(holds_within(TIMEOUT, || ready("\"missingSealingKeys\":[]")
        && ready("200")));
    assert!(gateway.stop("TERM").status.success());
}

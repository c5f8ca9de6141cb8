use super::*;
use engine::pki::DEVELOPMENT_ORGANIZATION;
use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

mod practice;
mod refusals;

/// What `efgs init` writes, in short.
const WHOLE: &str = r#"
[public]
certificate = "pki/server.pem"
private_key = "pki/server.key"
[database]
url = "sqlite:efgs.sqlite"
[encryption]
key_file = "keys"
[trust_anchor]
certificate = "pki/trust-anchor.pem"
"#;

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder with all files that the configuration names.
struct Folder(TempDir);

impl Folder {
    fn new(configuration: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        std::fs::create_dir(folder.0.path().join("pki")).unwrap();
        for (name, text) in [
            ("efgs.toml", configuration),
            ("keys", &Keys::generate_text()),
            ("pki/server.pem", CERTIFICATE),
            ("pki/server.key", PRIVATE_KEY),
            ("pki/trust-anchor.pem", CERTIFICATE),
            ("secret", "0123456789abcdef0123456789abcdef\n"),
            ("short", "0123456789abcde\n"),
        ] {
            let path = folder.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            set_mode(&path, 0o600);
        }
        folder
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let variables = variables
            .iter()
            .map(|(name, value)| (name.into(), value.into()));
        Settings::load(&self.0.path().join("efgs.toml"), variables)
    }
}

fn accepts(more: &str, variables: &[(&str, &str)]) -> Settings {
    let folder = Folder::new(&format!("{WHOLE}{more}"));
    folder.load(variables).unwrap()
}

/// Loading fails with a message of one line that holds all of `says`.
fn refuses(configuration: &str, variables: &[(&str, &str)], says: &[&str]) {
    let folder = Folder::new(configuration);
    check_refusal(folder.load(variables), says);
}

fn check_refusal(outcome: Result<Settings, SettingsError>, says: &[&str]) {
    let message = outcome.unwrap_err().to_string();
    for part in says {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    assert!(!message.contains('\n'), "{message:?}");
    assert!(!message.contains("s3cret"), "{message:?}");
}

fn refuses_setting(more: &str, says: &[&str]) {
    refuses(&format!("{WHOLE}{more}"), &[], says);
}

fn refuses_variable(name: &str, value: &str, says: &[&str]) {
    refuses(WHOLE, &[(name, value)], says);
}

#[test]
fn has_the_defaults_of_the_reference_where_it_has_the_setting() {
    let settings = accepts("", &[]);
    let engine = &settings.engine;
    assert_eq!(
        (engine.upload.keys_max, engine.bundle.keys_max),
        (5000, 5000)
    );
    assert_eq!(engine.download.max_age_days, 2);
    assert_eq!(engine.bundle.max_delay, Duration::from_secs(2));
    assert!(engine.legacy_sha1.is_empty());
    let public = settings.public.unwrap();
    assert_eq!(public.listen.to_string(), "0.0.0.0:8443");
    assert_eq!(public.tls.certificate_chain_pem, CERTIFICATE);
    assert_eq!(public.tls.private_key_pem, PRIVATE_KEY);
    assert!(settings.proxy.is_none());
    // Six attempts; 10 s to connect, 10 s to answer; 300 s of wait at the least.
    let callback = &settings.callback;
    assert_eq!(
        (callback.attempts_max, callback.retry_wait.as_secs()),
        (6, 300)
    );
    assert_eq!(callback.connect_timeout, Duration::from_secs(10));
    assert_eq!(callback.read_timeout, Duration::from_secs(10));
    assert!(callback.identity.is_none() && callback.proxy.is_none());
    assert_eq!(
        settings.operations_listen.unwrap().to_string(),
        "127.0.0.1:9090"
    );
    assert_eq!(
        (settings.log.format, settings.log.level.as_str()),
        (LogFormat::Text, "info")
    );
}

#[test]
fn reads_every_setting_from_the_file() {
    let settings = accepts(
        r#"
        [proxy]
        listen = "10.0.0.1:8080"
        trusted_peers = ["10.0.0.7", "fd00::/8"]
        thumbprint_header = "X-Thumb"
        distinguished_name_header = "X-DN"
        certificate_header = "Client-Cert"
        [operations]
        listen = "off"
        [api]
        shown_to_participants = false
        [upload]
        keys_max = 4000
        body_bytes_max = 1000000
        batches_in_flight_max = 10
        bytes_in_flight_max = 4000000
        [bundle]
        max_delay_ms = 100
        keys_max = 4000
        cache_bytes_max = 2000000
        [download]
        max_age_days = 14
        [signatures]
        legacy_sha1 = ["CZ", "ie"]
        [callback]
        certificate = "pki/server.pem"
        private_key = "pki/server.key"
        ca_file = "pki/trust-anchor.pem"
        allowed_networks = ["10.1.0.0/16"]
        allowed_hosts = ["receiver.internal"]
        proxy_url = "http://proxy.internal:3128"
        interval_ms = 50
        connect_timeout_ms = 2000
        read_timeout_ms = 3000
        attempts_max = 4
        retry_wait_ms = 1000
        retry_wait_max_ms = 500
        deliveries_max = 8
        [log]
        format = "json"
        level = "warn,engine=debug"
        [engine]
        cpu_threads = 3
        "#,
        &[],
    );
    let (engine, proxy) = (&settings.engine, settings.proxy.unwrap());
    let upload = &engine.upload;
    assert_eq!((upload.keys_max, upload.body_bytes_max), (4000, 1_000_000));
    assert_eq!(
        (upload.batches_in_flight_max, upload.bytes_in_flight_max),
        (10, 4_000_000)
    );
    let bundle = &engine.bundle;
    assert_eq!((bundle.max_delay.as_millis(), bundle.keys_max), (100, 4000));
    assert_eq!(bundle.cache_bytes_max, 2_000_000);
    assert_eq!((engine.download.max_age_days, engine.cpu_threads), (14, 3));
    assert_eq!(format!("{:?}", engine.legacy_sha1), "[CZ, IE]");
    assert_eq!(proxy.listen.unwrap().to_string(), "10.0.0.1:8080");
    assert_eq!(
        (
            proxy.thumbprint_header.as_str(),
            proxy.distinguished_name_header.as_str()
        ),
        ("x-thumb", "x-dn")
    );
    assert_eq!(proxy.certificate_header.unwrap().as_str(), "client-cert");
    assert_eq!(proxy.trusted_peers.len(), 2);
    let callback = &settings.callback;
    assert_eq!(callback.ca_pem.as_deref(), Some(CERTIFICATE));
    assert!(callback.identity.is_some());
    assert_eq!(callback.allowed_networks.len(), 1);
    assert_eq!(callback.allowed_hosts, ["receiver.internal"]);
    let through = callback.proxy.as_ref().unwrap();
    assert_eq!(
        (through.host.as_str(), through.port),
        ("proxy.internal", 3128)
    );
    assert_eq!(through.credentials, None);
    assert_eq!(callback.interval.as_millis(), 50);
    assert_eq!(callback.connect_timeout.as_secs(), 2);
    assert_eq!(callback.read_timeout.as_secs(), 3);
    assert_eq!((callback.attempts_max, callback.deliveries_max), (4, 8));
    // The bound is no lower than where it begins.
    assert_eq!(callback.retry_wait_max, callback.retry_wait);
    assert_eq!(settings.operations_listen, None);
    assert!(!settings.describes_api);
    assert_eq!(
        (settings.log.format, settings.log.level.as_str()),
        (LogFormat::Json, "warn,engine=debug")
    );
}

#[test]
fn lets_the_environment_override_the_file() {
    let settings = accepts(
        "[upload]\nkeys_max = 10\n",
        &[
            ("EFGS__UPLOAD__KEYS_MAX", "20"),
            ("EFGS__DATABASE__URL", "mysql://u:p@h:1/d"),
            ("EFGS__PUBLIC__LISTEN", "127.0.0.1:0"),
            ("EFGS__PROXY__LISTEN", "[::1]:8080"),
            ("EFGS__PROXY__TRUSTED_PEERS", "127.0.0.1, ::1"),
            ("EFGS__SIGNATURES__LEGACY_SHA1", ""),
            ("EFGS_OTHER", "x"),
            ("PATH", "x"),
        ],
    );
    assert_eq!(settings.engine.upload.keys_max, 20);
    assert!(matches!(settings.engine.database, DatabaseUrl::Mysql(_)));
    assert_eq!(settings.public.unwrap().listen.port(), 0);
    assert_eq!(settings.proxy.unwrap().trusted_peers.len(), 2);
}

#[test]
fn takes_the_keys_from_the_environment() {
    let keys = Keys::generate_text();
    let lines: Vec<_> = keys.lines().filter(|line| !line.starts_with('#')).collect();
    let settings = accepts("", &[("EFGS__ENCRYPTION__KEYS", &lines.join(";"))]);
    let expected = Keys::parse(&keys).unwrap().identity_check();
    assert_eq!(settings.engine.keys.identity_check(), expected);
}

#[test]
fn begins_relative_paths_at_the_folder_of_the_file() {
    let folder = Folder::new(WHOLE);
    let expected = DatabaseUrl::Sqlite(folder.0.path().join("efgs.sqlite"));
    assert_eq!(folder.load(&[]).unwrap().engine.database, expected);
    let absolute = folder
        .load(&[("EFGS__DATABASE__URL", "sqlite:/x/y")])
        .unwrap();
    assert_eq!(absolute.engine.database, DatabaseUrl::Sqlite("/x/y".into()));
}

#[test]
fn says_how_a_variable_is_written() {
    for name in [
        "EFGS__UPLOAD__KEYS",
        "EFGS__UPLOADS__KEYS_MAX",
        "EFGS__upload__keys_max",
        "EFGS__UPLOAD__KEYS_MAX__X",
        "EFGS__UPLOAD_KEYS_MAX",
        "EFGS_UPLOAD_KEYS_MAX",
        "EFGS_UPLOAD__KEYS_MAX",
        "EFGS_UPLOAD_KEY_MAX",
    ] {
        let says = [name, "names no setting", "EFGS__UPLOAD__KEYS_MAX?"];
        refuses_variable(name, "s3cret", &says);
    }
}

/// Tests have variables of their own, and Kubernetes makes some from the names of services.
#[test]
fn leaves_the_variables_of_others_alone() {
    for name in [
        "EFGS_SEED",
        "EFGS_FUZZ_SECONDS",
        "EFGS_IMPORT_FROM",
        "EFGS_DATABASE_PORT",
        "EFGS_DATABASE_SERVICE_HOST",
        "EFGS_PUBLIC_PORT_8443_TCP",
        "EFGS_LOG_PORT",
    ] {
        accepts("", &[(name, "x")]);
    }
}

#[test]
fn takes_a_name_for_the_gateway_that_is_the_same_wherever_it_is_written() {
    assert_eq!(accepts("", &[]).gateway_name, None);
    let longest = "x".repeat(64);
    for name in ["efgs-1.example:9090", "A_b", &longest] {
        let settings = accepts("", &[("EFGS__OPERATIONS__GATEWAY_NAME", name)]);
        assert_eq!(settings.gateway_name.as_deref(), Some(name));
    }
    for name in ["a b", "é", "a\"b", "a\nb", &"x".repeat(65)] {
        let says = ["[operations] gateway_name", "1 to 64 letters", "efgs-1"];
        refuses_variable("EFGS__OPERATIONS__GATEWAY_NAME", name, &says);
    }
}

#[test]
fn needs_no_peers_when_the_proxy_mode_is_on_loopback() {
    for listen in ["127.0.0.1:8080", "[::1]:8080"] {
        let settings = accepts(&format!("[proxy]\nlisten = \"{listen}\""), &[]);
        assert_eq!(settings.proxy.unwrap().trusted_peers, []);
    }
}

#[test]
fn asks_less_of_admin_commands() {
    let folder = Folder::new("[database]\nurl = \"sqlite:x\"\n");
    let file = folder.0.path().join("efgs.toml");
    let admin = AdminSettings::load(&file, []).unwrap();
    assert!(admin.trust_anchor_pem().is_err() && admin.key_file().is_err());
    let folder = Folder::new(WHOLE);
    let file = folder.0.path().join("efgs.toml");
    let admin = AdminSettings::load(&file, []).unwrap();
    assert_eq!(admin.trust_anchor_pem().unwrap(), CERTIFICATE);
    assert_eq!(admin.key_file().unwrap(), folder.0.path().join("keys"));
    let variable = ("EFGS__ENCRYPTION__KEYS".into(), "s3cret".into());
    let admin = AdminSettings::load(&file, [variable]).unwrap();
    let message = admin.key_file().unwrap_err().to_string();
    assert!(message.contains("EFGS__ENCRYPTION__KEYS") && !message.contains("s3cret"));
}

#[test]
fn never_shows_secrets() {
    let settings = accepts("", &[("EFGS__DATABASE__URL", "mysql://u:s3cret@h:1/d")]);
    let shown = format!("{settings:?}");
    assert!(
        !shown.contains("s3cret") && !shown.contains("PRIVATE KEY"),
        "{shown}"
    );
}

#[test]
fn takes_the_proxy_password_from_a_file_or_the_environment_only() {
    let proxy = "[callback]\nproxy_url = \"http://[::1]:3128\"\nproxy_user = \"gateway\"\n";
    let credentials = |settings: &Settings| {
        let proxy = settings.callback.proxy.clone().unwrap();
        assert_eq!(proxy.host, "::1");
        proxy.credentials.unwrap()
    };
    let expected = ("gateway".to_owned(), "s3cret".to_owned());
    let settings = accepts(proxy, &[("EFGS__CALLBACK__PROXY_PASSWORD", "s3cret")]);
    assert_eq!(credentials(&settings), expected);
    assert!(!format!("{settings:?}").contains("s3cret"));

    let folder = Folder::new(&format!(
        "{WHOLE}{proxy}proxy_password_file = \"password\"\n"
    ));
    check_refusal(
        folder.load(&[]),
        &["[callback] proxy_password_file", "cannot be read"],
    );
    std::fs::write(folder.0.path().join("password"), "s3cret\n").unwrap();
    assert_eq!(credentials(&folder.load(&[]).unwrap()), expected);

    let says = [
        "[callback] proxy_password_file is missing",
        "EFGS__CALLBACK__PROXY_PASSWORD_FILE",
    ];
    refuses_setting(proxy, &says);
    refuses_setting(
        "[callback]\nproxy_password = \"s3cret\"",
        &[
            "[callback] proxy_password must not stand in",
            "proxy_password_file",
        ],
    );
}

/// Anyone who declares a setting says what it is.
#[test]
fn documents_every_setting() {
    let shown = help();
    for setting in schema::settings() {
        assert!(shown.contains(&setting.variable()), "{setting}");
        assert!(setting.doc.ends_with('.'), "{setting}: {}", setting.doc);
    }
    assert!(
        schema::sections()
            .iter()
            .all(|section| section.doc.ends_with('.'))
    );
}

#[test]
fn warns_of_ports_that_are_open_to_more_than_they_are_made_for() {
    let warnings = |more: &str| accepts(more, &[]).warnings.join("\n");
    let quiet = warnings("[operations]\nlisten = \"127.0.0.1:9090\"\n");
    assert_eq!(quiet, "");
    let open = warnings("[operations]\nlisten = \"0.0.0.0:9090\"\n");
    assert!(
        open.contains("[operations] listen = 0.0.0.0:9090 can be reached"),
        "{open}"
    );
    let proxy = "[proxy]\nlisten = \"127.0.0.1:8080\"\n";
    let open = warnings(proxy);
    assert!(
        open.contains("every user of this host can connect"),
        "{open}"
    );
    let with_secret = format!("{proxy}secret_file = \"secret\"");
    assert_eq!(warnings(&with_secret), "");
    assert_eq!(warnings("[proxy]\nsocket = \"proxy.sock\"\n"), "");
}

#[test]
fn knows_the_development_pki_by_its_organization() {
    let of = |organization: &str, listen: &str| {
        let mut params = rcgen::CertificateParams::default();
        let name = rcgen::DnType::OrganizationName;
        params.distinguished_name.push(name, organization);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder =
            Folder::new(&WHOLE.replace("[public]", &format!("[public]\nlisten = {listen:?}")));
        std::fs::write(folder.0.path().join("pki/server.pem"), pem).unwrap();
        folder.load(&[]).unwrap().warnings.join("\n")
    };
    let warned = of(DEVELOPMENT_ORGANIZATION, "0.0.0.0:8443");
    assert!(
        warned.contains("the development PKI of efgs init is used at 0.0.0.0:8443"),
        "{warned}"
    );
    assert_eq!(of(DEVELOPMENT_ORGANIZATION, "127.0.0.1:8443"), "");
    assert_eq!(of("Ministry", "0.0.0.0:8443"), "");
}

#[test]
fn reads_the_socket_of_a_proxy() {
    let read = |more: &str| {
        let settings = accepts(&format!("[proxy]\nsocket = \"proxy.sock\"\n{more}"), &[]);
        settings.proxy.unwrap()
    };
    let proxy = read("socket_mode = \"0600\"\nsocket_users = [\"root\", \"33\"]");
    let socket = proxy.socket.unwrap();
    assert_eq!((socket.mode, socket.users), (0o600, vec![0, 33]));
    assert!(socket.path.is_absolute() && proxy.listen.is_none());
    let socket = read("").socket.unwrap();
    assert_eq!(socket.mode, 0o660);
    assert!(socket.users.contains(&0));
    let secret = read("secret_file = \"secret\"\nsecret_header = \"x-s\"")
        .secret
        .unwrap();
    assert_eq!((secret.header.as_str(), secret.value.len()), ("x-s", 32));
    assert!(!format!("{secret:?}").contains(&secret.value));
    for (more, says) in [
        ("socket_mode = \"1777\"", "a mode in octal digits"),
        ("socket_mode = \"rw\"", "a mode in octal digits"),
        ("socket_users = [\"nobody-at-all\"]", "give its number"),
        ("secret_file = \"none\"", "cannot be read"),
        (
            "secret_file = \"short\"",
            "at least 16 visible ASCII characters",
        ),
    ] {
        let more = format!("[proxy]\nsocket = \"proxy.sock\"\n{more}");
        refuses_setting(&more, &["[proxy] s", says]);
    }
}

#[test]
fn keeps_a_configuration_with_a_password_to_its_owner() {
    let with_password = WHOLE.replace("sqlite:efgs.sqlite", "mysql://u:s3cret@h:1/d");
    let folder = Folder::new(&with_password);
    let load = |mode| {
        set_mode(&folder.0.path().join("efgs.toml"), mode);
        folder.load(&[])
    };
    assert_eq!(load(0o600).unwrap().warnings, Vec::<String>::new());
    let warnings = load(0o644).unwrap().warnings;
    assert!(
        warnings[0].contains("holds the password of the database"),
        "{warnings:?}"
    );
    check_refusal(load(0o664), &["others can write", "chmod go-w"]);
    // Without a password it is no secret.
    let folder = Folder::new(WHOLE);
    set_mode(&folder.0.path().join("efgs.toml"), 0o664);
    assert_eq!(folder.load(&[]).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn reads_tls_to_the_database_and_its_password_file() {
    const SERVER: (&str, &str) = ("URL", "mysql://u@h:1/d");
    const CA: (&str, &str) = ("TLS_CA", "pki/trust-anchor.pem");
    const OWN: (&str, &str) = ("TLS_CERTIFICATE", "pki/server.pem");
    const KEY: (&str, &str) = ("TLS_KEY", "pki/server.key");
    const PASSWORD: (&str, &str) = ("PASSWORD_FILE", "secret");
    let folder = Folder::new(WHOLE);
    let load = |given: &[(&str, &str)]| {
        let name = |name: &str| format!("EFGS__DATABASE__{name}");
        let variables: Vec<_> = given
            .iter()
            .map(|(key, value)| (name(key), *value))
            .collect();
        let variables: Vec<_> = variables
            .iter()
            .map(|(key, value)| (&**key, *value))
            .collect();
        folder.load(&variables)
    };
    let settings = load(&[SERVER, CA, OWN, KEY, PASSWORD]).unwrap();
    let DatabaseUrl::Mysql(server) = settings.engine.database else {
        panic!("it is a server");
    };
    let tls = server.tls.unwrap();
    let identity = tls.identity.unwrap();
    let password = server.password_file.unwrap();
    assert_eq!(
        [tls.ca, identity.certificate, identity.key, password],
        [CA, OWN, KEY, PASSWORD].map(|(_, path)| folder.0.path().join(path))
    );
    for (given, says) in [
        (
            &[SERVER, ("TLS_CA", "none")][..],
            ["tls_ca", "cannot be read"],
        ),
        (
            &[SERVER, ("TLS_CA", "secret")],
            ["tls_ca", "authorities that vouch"],
        ),
        (
            &[SERVER, OWN, KEY],
            ["tls_certificate", "needs [database] tls_ca"],
        ),
        (
            &[SERVER, CA, KEY],
            ["tls_certificate is missing", "gateway's certificate"],
        ),
        (
            &[SERVER, CA, OWN],
            ["tls_key is missing", "the private key"],
        ),
        (
            &[("URL", "mysql://u:p@h/d"), PASSWORD],
            ["password_file", "take it out"],
        ),
        (
            &[("URL", "mysql://h/d?danger_accept_invalid_certs=true")],
            ["url", "options of a"],
        ),
        (&[CA], ["tls_ca", "names a file: leave it out"]),
    ] {
        check_refusal(load(given), &says);
    }
}

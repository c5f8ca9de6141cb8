use std::path::Path;
use std::time::Duration;

use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use tempfile::TempDir;

use super::*;

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
        ] {
            std::fs::write(folder.0.path().join(name), text).unwrap();
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
        [operations]
        listen = "off"
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
    assert_eq!(proxy.listen.to_string(), "10.0.0.1:8080");
    assert_eq!(
        (
            proxy.thumbprint_header.as_str(),
            proxy.distinguished_name_header.as_str()
        ),
        ("x-thumb", "x-dn")
    );
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
fn refuses_a_missing_file() {
    let outcome = Settings::load(Path::new("/nowhere/efgs.toml"), []);
    check_refusal(outcome, &["/nowhere/efgs.toml", "efgs init", "--config"]);
}

#[test]
fn refuses_text_that_is_no_toml_without_showing_it() {
    refuses_setting("[log]\nlevel = s3cret\n", &["line 12", "is not TOML"]);
    refuses_setting("x = \"s3cret", &["line 11"]);
    refuses_setting("[database]\nurl=\"s3cret\"", &["line 11", "is not TOML"]);
}

#[test]
fn refuses_unknown_names_and_says_which_are_known() {
    refuses_setting(
        "[uploads]\n",
        &[
            "unknown section [uploads]",
            "did you mean upload?",
            "upload, bundle",
        ],
    );
    refuses_setting(
        "[upload]\nkeys = 1\n",
        &[
            "unknown setting keys in [upload]",
            "did you mean keys_max?",
            "keys_max, body_bytes_max",
        ],
    );
    refuses(
        &format!("listen = 1\n{WHOLE}"),
        &[],
        &["unknown section [listen]"],
    );
    refuses(
        &format!("upload = 1\n{WHOLE}"),
        &[],
        &["upload in", "write [upload]"],
    );
    for name in ["EFGS__UPLOAD", "EFGS__", "EFGS__OTHER__THING"] {
        refuses_variable(name, "s3cret", &[name, "names no setting"]);
    }
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
fn refuses_missing_settings_and_says_what_they_are() {
    for (line, name, variable) in [
        (
            "certificate = \"pki/server.pem\"",
            "[public] certificate",
            "EFGS__PUBLIC__CERTIFICATE",
        ),
        (
            "private_key = \"pki/server.key\"",
            "[public] private_key",
            "EFGS__PUBLIC__PRIVATE_KEY",
        ),
        (
            "url = \"sqlite:efgs.sqlite\"",
            "[database] url",
            "EFGS__DATABASE__URL",
        ),
        (
            "key_file = \"keys\"",
            "[encryption] key_file",
            "EFGS__ENCRYPTION__KEY_FILE",
        ),
        (
            "certificate = \"pki/trust-anchor.pem\"",
            "[trust_anchor] certificate",
            "EFGS__TRUST_ANCHOR__CERTIFICATE",
        ),
    ] {
        let without = WHOLE.replace(line, "");
        refuses(&without, &[], &[name, "is missing", variable]);
    }
}

#[test]
fn refuses_files_that_are_missing_or_something_else() {
    for (name, file) in [
        ("[public] certificate", "pki/server.pem"),
        ("[public] private_key", "pki/server.key"),
        ("[encryption] key_file", "keys"),
        ("[trust_anchor] certificate", "pki/trust-anchor.pem"),
    ] {
        let folder = Folder::new(WHOLE);
        let path = folder.0.path().join(file);
        std::fs::write(&path, "s3cret").unwrap();
        check_refusal(folder.load(&[]), &[name, file]);
        std::fs::remove_file(&path).unwrap();
        check_refusal(folder.load(&[]), &[name, file, "cannot be read"]);
    }
}

#[test]
fn refuses_values_of_a_wrong_kind_or_out_of_range() {
    for (more, says) in [
        ("[upload]\nkeys_max = \"s3cret\"", "from 1 to 100000"),
        ("[upload]\nkeys_max = 0", "from 1 to 100000"),
        ("[upload]\nkeys_max = -1", "from 1 to 100000"),
        ("[upload]\nkeys_max = 1.5", "from 1 to 100000"),
        (
            "[upload]\nbody_bytes_max = 99999999",
            "from 1024 to 15728640",
        ),
        ("[upload]\nbatches_in_flight_max = 3", "from 4 to 100000"),
        ("[bundle]\nmax_delay_ms = 0", "from 1 to 3600000"),
        ("[download]\nmax_age_days = 15", "from 0 to 14"),
        ("[engine]\ncpu_threads = 1025", "from 0 to 1024"),
        ("[operations]\nlisten = 9090", "must be ADDRESS:PORT"),
        ("[callback]\nproxy_user = 1", "must be text in quotes"),
        ("[operations]\nlisten = \"s3cret\"", "must be ADDRESS:PORT"),
        ("[operations]\nlisten = \":9090\"", "must be ADDRESS:PORT"),
        (
            "[signatures]\nlegacy_sha1 = \"CZ\"",
            "must be a list of two-letter",
        ),
        (
            "[signatures]\nlegacy_sha1 = [\"CZE\"]",
            "two-letter countries",
        ),
        ("[log]\nformat = \"xml\"", "\"text\" or \"json\""),
        ("[log]\nlevel = \"loud=?\"", "\"error\", \"warn\""),
        ("[log]\nlevel = \"\"", "\"error\", \"warn\""),
        ("[log]\nlevel = \"verbose\"", "\"error\", \"warn\""),
        ("[log]\nlevel = \"info,engine\"", "\"error\", \"warn\""),
    ] {
        let section = more.lines().next().unwrap();
        refuses_setting(more, &[section, says, "efgs.toml"]);
    }
    refuses_variable(
        "EFGS__UPLOAD__KEYS_MAX",
        "s3cret",
        &["[upload] keys_max in EFGS__UPLOAD__KEYS_MAX", "from 1 to"],
    );
    refuses_variable(
        "EFGS__DATABASE__URL",
        "postgres://x:s3cret@y/z",
        &["EFGS__DATABASE__URL", "sqlite:PATH or mysql://"],
    );
    refuses_variable(
        "EFGS__ENCRYPTION__KEYS",
        "s3cret",
        &["EFGS__ENCRYPTION__KEYS", "line 1"],
    );
}

#[test]
fn refuses_settings_that_contradict_each_other() {
    refuses_setting(
        "[upload]\nkeys_max = 5001",
        &["[upload] keys_max", "[bundle] keys_max, which is 5000"],
    );
    refuses_setting(
        "[upload]\nbytes_in_flight_max = 33554431",
        &[
            "[upload] bytes_in_flight_max",
            "4 times [upload] body_bytes_max, which is 8388608",
        ],
    );
    refuses_variable(
        "EFGS__PUBLIC__LISTEN",
        "off",
        &["[public] listen", "[proxy] listen", "both off"],
    );
}

#[test]
fn refuses_keys_in_the_file() {
    let configuration = WHOLE.replace("key_file = \"keys\"", "keys = \"s3cret\"");
    refuses(&configuration, &[], &["[encryption] keys", "key_file"]);
}

#[test]
fn refuses_a_proxy_mode_that_everybody_could_reach() {
    for listen in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080"] {
        refuses_setting(
            &format!("[proxy]\nlisten = \"{listen}\""),
            &["[proxy] listen", "[proxy] trusted_peers is empty"],
        );
    }
    for peers in [
        "[\"proxy\"]",
        "[\"10.0.0.0/33\"]",
        "[\"::/129\"]",
        "[\"10.0.0.0/\"]",
    ] {
        refuses_setting(
            &format!("[proxy]\nlisten = \"127.0.0.1:1\"\ntrusted_peers = {peers}"),
            &["[proxy] trusted_peers", "addresses or networks"],
        );
    }
    for everybody in ["0.0.0.0/0", "::/0"] {
        refuses_setting(
            &format!(
                "[proxy]\nlisten = \"127.0.0.1:1\"\ntrusted_peers = [\"10.0.0.7\", \"{everybody}\"]"
            ),
            &["[proxy] trusted_peers", everybody, "everybody"],
        );
    }
    refuses_setting(
        "[proxy]\nlisten = \"127.0.0.1:1\"\nthumbprint_header = \"a b\"",
        &["[proxy] thumbprint_header", "name of an HTTP header"],
    );
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

#[test]
fn refuses_callback_settings_that_cannot_be_meant() {
    for (setting, says) in [
        (
            "certificate = \"pki/server.pem\"",
            "[callback] private_key is missing",
        ),
        (
            "private_key = \"pki/server.key\"",
            "[callback] certificate is missing",
        ),
        ("ca_file = \"keys\"", "[callback] ca_file"),
        (
            "allowed_networks = [\"10.0.0.0/33\"]",
            "addresses or networks",
        ),
        ("allowed_hosts = [\"https://x\"]", "whole host names"),
        ("allowed_hosts = [\"*.internal\"]", "whole host names"),
        ("proxy_url = \"https://proxy:3128\"", "http://HOST:PORT"),
        ("proxy_url = \"http://proxy\"", "http://HOST:PORT"),
        (
            "proxy_url = \"http://u:s3cret@proxy:3128\"",
            "http://HOST:PORT",
        ),
        (
            "proxy_url = \"http://proxy:3128\"\nproxy_user = \"a:b\"",
            "must not have a colon",
        ),
        ("attempts_max = 0", "from 1 to 100"),
        ("connect_timeout_ms = 0", "from 1 to 60000"),
        ("deliveries_max = 129", "from 1 to 128"),
    ] {
        refuses_setting(&format!("[callback]\n{setting}"), &["[callback]", says]);
    }
}

/// Whoever declares a setting says what it is.
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

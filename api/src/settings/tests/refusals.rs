//! Configurations that are refused, and what is said of each.

use super::*;

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
        let from = format!("[public]\nproxy_protocol_from = [\"{everybody}\"]\n");
        refuses(
            &WHOLE.replacen("[public]\n", &from, 1),
            &[],
            &["[public] proxy_protocol_from", everybody, "everybody"],
        );
    }
    refuses_setting(
        "[proxy]\nlisten = \"127.0.0.1:1\"\nthumbprint_header = \"a b\"",
        &["[proxy] thumbprint_header", "name of an HTTP header"],
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

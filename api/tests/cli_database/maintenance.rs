//! `efgs db`, `efgs check` and `efgs import`: the database and what is in it.

use testkit::ports::free_port;

use super::*;

/// A wrong password, and a database that nobody has made: in the server's words, and with what to do.
#[track_caller]
fn says_what_is_wrong_with_a_server(installation: &Installation, url: &str) {
    let (start, place) = url.rsplit_once('@').unwrap();
    let wrong_password = format!("{start}x@{place}");
    let missing = url.replace("/reference", "/missing");
    for (url, says) in [
        (
            &wrong_password,
            "the user or the password in [database] url is wrong",
        ),
        (&missing, "make this database on the server first"),
    ] {
        let mut migrate = installation.efgs(&["db", "migrate"]);
        refuses(
            migrate.env("EFGS__DATABASE__URL", url),
            &["cannot open the database", says],
        );
    }
}

/// `efgs check` and a gateway say the same, about a server that requires TLS and a certificate.
fn checks_tls_to_a_server(installation: &Installation, server: &MariaDb) {
    server
        .run(
            "CREATE DATABASE own; CREATE USER own@127.0.0.1 IDENTIFIED BY 'x' REQUIRE X509; \
             GRANT ALL ON own.* TO own@127.0.0.1",
        )
        .unwrap();
    let authority = server.authority().unwrap();
    let own = authority.issue("gateway", &[], 1).unwrap();
    let (ca, certificate, key) = (authority.ca(), own.certificate, own.key);
    let password = installation.path("database-password");
    fs::write(&password, "x\n").unwrap();
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).unwrap();
    let with = |arguments: &[&str], settings: &[(&str, &Path)]| {
        let mut command = installation.efgs(arguments);
        let url = format!("mysql://own@127.0.0.1:{}/own", server.port());
        command.env("EFGS__DATABASE__URL", url);
        for (name, value) in settings {
            command.env(format!("EFGS__DATABASE__{name}"), value);
        }
        command
    };
    let identity = [("TLS_CERTIFICATE", &*certificate), ("TLS_KEY", &*key)];
    let password = ("PASSWORD_FILE", &*password);
    let plain = [password];
    let without_identity = [password, ("TLS_CA", &*ca)];
    let wrong_ca = [
        password,
        ("TLS_CA", &*certificate),
        identity[0],
        identity[1],
    ];
    let whole = [password, ("TLS_CA", &*ca), identity[0], identity[1]];
    for (settings, says) in [
        (&plain[..], "only with TLS: then set [database] tls_ca"),
        (
            &without_identity,
            "then set [database] tls_certificate and tls_key",
        ),
        (&wrong_ca, "UnknownIssuer"),
    ] {
        refuses(&mut with(&["db", "migrate"], settings), &[says]);
        let check = with(&["check"], settings).output().unwrap();
        let (out, _) = texts(&check);
        assert!(!check.status.success() && out.contains(says), "{out}");
    }
    succeeds(&mut with(&["db", "migrate"], &whole));
    let (out, _) = texts(&with(&["check"], &whole).output().unwrap());
    assert!(out.contains("ok       database"), "{out}");
}

#[test]
fn confirms_only_the_day_that_the_database_has() {
    let installation = Installation::new("IT");
    let other = ["db", "confirm-day", "2020-10-07"];
    refuses(
        &mut installation.efgs(&other),
        &["the database's clock shows", "set it right first"],
    );
    let today = SystemClock.now().day().to_string();
    let said = succeeds(&mut installation.efgs(&["db", "confirm-day", &today]));
    assert!(
        said.contains(&format!("{today} is confirmed; no day was known")),
        "{said}"
    );
    let again = ["db", "confirm-day", &today, "--accept-batches"];
    let said = succeeds(&mut installation.efgs(&again));
    assert!(
        said.contains(&format!("the day known was {today}")),
        "{said}"
    );
}

#[test]
fn migrates_once_and_reports_it() {
    let installation = Installation::new("DE");
    let status = succeeds(&mut installation.efgs(&["db", "status"]));
    assert!(status.ends_with("which is up to date\n"), "{status}");
    let migrated = succeeds(&mut installation.efgs(&["db", "migrate"]));
    assert!(migrated.ends_with("already\n"), "{migrated}");
    let mut fresh = installation.efgs(&["db", "migrate"]);
    let migrated = succeeds(fresh.env("EFGS__DATABASE__URL", "sqlite:new.sqlite"));
    assert!(migrated.contains("had schema version 0"), "{migrated}");
}

#[test]
fn withdraws_an_upload_and_lists_it() {
    let installation = Installation::new("DE");
    let withdraw = |arguments: &[&str]| {
        let command = ["db", "withdraw", "DE", "2021-06-01-17"];
        installation.efgs(&[&command, arguments].concat())
    };
    let mistake = ["--reason", "sent by mistake, \"4711\""];
    refuses(&mut withdraw(&mistake), &["no upload 2021-06-01-17 of DE"]);
    let file = rusqlite::Connection::open(installation.path("efgs.sqlite")).unwrap();
    let row = "INSERT INTO upload_log (seq, created_at_ms, country, upload_tag, key_count, \
         format_version, uploader_thumbprint, signer_thumbprint, content_digest, chain, \
         batch_signature, identities, sealed) VALUES (1, 0, CAST('DE' AS BLOB), \
         CAST('2021-06-01-17' AS BLOB), 7, 256, zeroblob(32), zeroblob(32), zeroblob(32), '', '', \
         '', '')";
    file.execute(row, []).unwrap();

    refuses(&mut withdraw(&["--reason", "two\nlines"]), &["on one line"]);
    refuses(&mut withdraw(&["--reason", " "]), &["1 to 200 characters"]);
    let said = succeeds(&mut withdraw(&mistake));
    let done =
        "upload 2021-06-01-17 of DE is withdrawn: position 1, 7 keys, not in a download batch";
    assert!(said.starts_with(done), "{said}");
    let said = succeeds(&mut withdraw(&mistake));
    assert!(said.contains("was withdrawn before"), "{said}");
    let said = succeeds(&mut withdraw(&["--reason", "sends it again", "--free"]));
    assert!(
        said.contains("its keys and its tag can be sent again"),
        "{said}"
    );
    refuses(&mut withdraw(&mistake), &["no upload", "--withdrawals"]);

    let list = |format: &str| {
        let command = ["stats", "--withdrawals", "--format", format];
        succeeds(&mut installation.efgs(&command))
    };
    let rows: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 2);
    assert_eq!(
        (&rows[0]["freed"], &rows[1]["freed"]),
        (&"no".into(), &"yes".into())
    );
    assert_eq!(rows[0]["reason"], "sent by mistake, \"4711\"");
    let csv = list("csv");
    assert!(
        csv.contains(",no,\"sent by mistake, \"\"4711\"\"\"\n"),
        "{csv}"
    );
}

#[test]
fn imports_what_is_refused_only_without_it() {
    let installation = Installation::new("DE");
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start_with_tls(folder.path()).unwrap();
    server.create_database("reference").unwrap();
    says_what_is_wrong_with_a_server(&installation, &server.url("reference"));
    checks_tls_to_a_server(&installation, &server);
    let schema = include_str!("../../../engine/tests/reference/schema.sql");
    let forged = "INSERT INTO certificate (created_at, thumbprint, country, type, revoked, \
         signature, raw_data) VALUES (NOW(2), 'aa', 'DE', 'SIGNING', 0, 'AAAA', 'none')";
    server
        .run(&format!("USE reference; {schema}; {forged}"))
        .unwrap();
    fs::write(installation.path("password"), "a".repeat(32)).unwrap();
    let import = |arguments: &[&str]| {
        let mut command = installation.efgs(&[&["import"], arguments].concat());
        command.env("EFGS_IMPORT_FROM", server.url("reference"));
        command.env("EFGS__DATABASE__URL", "sqlite:fresh.sqlite");
        command
            .arg("--password-file")
            .arg(installation.path("password"));
        command
    };
    refuses(
        &mut import(&[]),
        &["1 certificates", "nothing was imported", "--leave-out"],
    );
    refuses(&mut import(&["--dry-run"]), &["nothing was imported"]);
    let said = succeeds(&mut import(&["--dry-run", "--leave-out"]));
    assert!(said.contains("nothing was written"), "{said}");
    let said = succeeds(&mut import(&["--leave-out"]));
    assert!(said.contains("imported into"), "{said}");
}

#[test]
fn names_what_no_migration_has_made() {
    let installation = Installation::new("DE");
    let status = || installation.efgs(&["db", "status"]);
    succeeds(&mut status());
    let file = rusqlite::Connection::open(installation.path("efgs.sqlite")).unwrap();
    file.execute_batch("CREATE VIEW peek AS SELECT seq FROM upload_log")
        .unwrap();
    refuses(&mut status(), &["view peek"]);
    refuses(&mut installation.serve(), &["view peek"]);
}

#[test]
fn verifies_a_database_and_names_what_is_not_as_it_was_stored() {
    let installation = Installation::new("DE");
    let verified = succeeds(&mut installation.efgs(&["db", "verify"]));
    let nothing = "0 uploads with 0 keys and 0 download batches verified\n";
    assert_eq!(verified, nothing);
    let file = rusqlite::Connection::open(installation.path("efgs.sqlite")).unwrap();
    let row = "1, 1622548800000, x'4445', 'monday', 1, 256, zeroblob(32), zeroblob(32), \
         zeroblob(32), x'', x'', zeroblob(16), zeroblob(50)";
    let insert = format!("INSERT INTO upload_log VALUES ({row})");
    file.execute_batch(&insert).unwrap();
    let mut verify = installation.efgs(&["db", "verify", "--since", "2021-06-01"]);
    let (out, _) = texts(&verify.output().unwrap());
    let found = "upload monday of DE at position 1 has sealed keys that do not open";
    assert!(out.contains(found), "{out}");
    refuses(&mut verify, &["1 findings"]);
    // One that a gateway stops at, until it is accepted.
    let damage = "UPDATE upload_log SET chain = zeroblob(64); UPDATE upload_log SET sealed = x''; \
         INSERT INTO cleanup_statistics VALUES (20210620, 0, 1, 1, 0, 1, 0)";
    file.execute_batch(damage).unwrap();
    refuses(&mut installation.efgs(&["db", "verify"]), &["1 findings"]);
    let mut accept = installation.efgs(&["db", "verify", "--accept"]);
    refuses(&mut accept, &["of which 1 are accepted"]);
    succeeds(&mut installation.efgs(&["db", "verify"]));
}

#[test]
fn refuses_a_database_that_was_never_set_up_and_makes_none() {
    let installation = Installation::new("DE");
    let (missing, empty) = (installation.path("missing"), installation.path("empty"));
    fs::write(&empty, "").unwrap();
    for path in [&missing, &empty] {
        let url = format!("sqlite:{}", path.display());
        for command in [
            &["serve"][..],
            &["cert", "list"],
            &["stats"],
            &["db", "status"],
            &["db", "recovered"],
        ] {
            let mut command = installation.efgs(command);
            let says = ["was never set up", "that its volume is mounted"];
            refuses(command.env("EFGS__DATABASE__URL", &url), &says);
        }
    }
    assert!(!missing.exists());
}

#[test]
fn keeps_the_database_and_its_folder_to_their_owner_whatever_the_umask() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("demo");
    let without_umask = |arguments: &[&str]| {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "umask 0; exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_efgs"),
        ]);
        shell.args(arguments);
        shell
    };
    let dir = home.to_str().unwrap();
    succeeds(&mut without_umask(&[
        "init",
        "--dir",
        dir,
        "--participants",
        "DE",
    ]));
    let settings = home.join("efgs.toml");
    let mut serve = without_umask(&["serve", "--config", settings.to_str().unwrap()]);
    serve.env("EFGS__PUBLIC__LISTEN", "127.0.0.1:0");
    serve.env("EFGS__OPERATIONS__LISTEN", "127.0.0.1:0");
    let (_gateway, _addresses) = Gateway::start(&mut serve);
    for (name, expected) in [
        ("", 0o700),
        ("pki", 0o700),
        ("efgs.sqlite", 0o600),
        ("efgs.sqlite-wal", 0o600),
        ("efgs.sqlite-shm", 0o600),
    ] {
        let mode = fs::metadata(home.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, expected, "{name:?}");
    }
}

#[test]
fn reads_the_address_of_a_database_without_the_line_feed_behind_it() {
    let installation = Installation::new("DE");
    let url = format!("sqlite:{}\n", installation.path("efgs.sqlite").display());
    let mut status = installation.efgs(&["db", "status"]);
    let said = succeeds(status.env("EFGS__DATABASE__URL", url));
    assert!(said.ends_with("which is up to date\n"), "{said}");
}

#[test]
fn refuses_a_database_that_cannot_be_reached_without_showing_its_password() {
    let installation = Installation::new("DE");
    let port = free_port().unwrap();
    let url = format!("mysql://efgs:s3cret@127.0.0.1:{port}/efgs");
    for command in [
        &["serve"][..],
        &["cert", "list"],
        &["db", "migrate"],
        &["db", "status"],
    ] {
        let mut command = installation.efgs(command);
        command.env("EFGS__DATABASE__URL", &url);
        refuses(
            &mut command,
            &["cannot open the database", "[database] url"],
        );
        assert!(!texts(&command.output().unwrap()).1.contains("s3cret"));
    }
}

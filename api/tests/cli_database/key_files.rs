//! Files of keys and secrets: made, rotated, and refused where others can write them.

use super::*;

#[test]
fn rotates_keys_in_one_step_or_in_two() {
    let installation = Installation::new("DE");
    let before = installation.read("keys");
    let rotated = succeeds(&mut installation.efgs(&["key", "rotate"]));
    assert!(rotated.starts_with("key 2 of "), "{rotated}");
    let after = installation.read("keys");
    assert!(
        after.starts_with(&before) && after.contains("\nsealing 2 "),
        "lines are kept"
    );
    succeeds(&mut installation.efgs(&["key", "rotate", "--standby"]));
    assert!(installation.read("keys").contains("\nstandby 3 "));
    let rotated = succeeds(&mut installation.efgs(&["key", "rotate"]));
    assert!(rotated.starts_with("key 3 of "), "{rotated}");
    assert!(!installation.read("keys").contains("standby"));
    let (gateway, _) = Gateway::start(&mut installation.serve());
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn loses_no_key_when_many_rotate_at_once_and_keeps_the_file_as_it_was() {
    let installation = Installation::new("DE");
    let (target, link) = (installation.path("ring"), installation.path("keys"));
    fs::rename(&link, &target).unwrap();
    std::os::unix::fs::symlink("ring", &link).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o400)).unwrap();
    let mut rotations = Vec::new();
    for _ in 0..20 {
        let mut rotate = installation.efgs(&["key", "rotate"]);
        rotations.push(rotate.stdout(Stdio::piped()).spawn().unwrap());
    }
    let mut said = BTreeSet::new();
    for rotation in rotations {
        let output = rotation.wait_with_output().unwrap();
        assert!(output.status.success());
        let words = texts(&output).0;
        said.insert(words.split_whitespace().nth(1).unwrap().to_owned());
    }
    let expected: BTreeSet<_> = (2..=21).map(|id: u32| id.to_string()).collect();
    assert_eq!(said, expected, "each has added a key of its own");
    assert_eq!(installation.read("keys").matches("sealing ").count(), 21);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let mode = fs::metadata(&target).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o400);
}

#[test]
fn refuses_secrets_that_others_can_write_and_warns_of_those_they_can_read() {
    let installation = Installation::new("DE");
    let set_mode = |name: &str, mode| {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(installation.path(name), mode).unwrap();
    };
    for name in ["keys", "pki/server.key", "pki/gateway-callback.key"] {
        for mode in [0o620, 0o602] {
            set_mode(name, mode);
            let says = [name, "others can write", "chmod go-w"];
            refuses(&mut installation.serve(), &says);
        }
        set_mode(name, 0o644);
    }
    let (gateway, addresses) = Gateway::start(&mut installation.serve());
    let (_, operations) = addresses
        .iter()
        .find(|(name, _)| name == "operations")
        .unwrap();
    let mut stream = TcpStream::connect(operations).unwrap();
    stream
        .write_all(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut status = String::new();
    stream.read_to_string(&mut status).unwrap();
    let log = texts(&gateway.stop("TERM")).1;
    for name in ["keys", "pki/server.key", "pki/gateway-callback.key"] {
        let path = installation.path(name);
        let warning = format!("others can read {}", path.display());
        assert_eq!(log.matches(&warning).count(), 1, "{log}");
        assert!(status.contains(&warning), "{status}");
    }
}

#[test]
fn refuses_missing_and_wrong_encryption_keys() {
    let installation = Installation::new("DE");
    let (gateway, _) = Gateway::start(&mut installation.serve());
    assert!(gateway.stop("TERM").status.success());
    let keys = installation.read("keys");
    let mut serve = installation.serve();
    serve.env("EFGS__LOG__LEVEL", "error");
    fs::remove_file(installation.path("keys")).unwrap();
    refuses(&mut serve, &["[encryption] key_file", "cannot be read"]);
    fs::write(installation.path("keys"), "identity x").unwrap();
    refuses(&mut serve, &["[encryption] key_file", "line 1"]);
    let others = Installation::new("DE");
    fs::copy(others.path("keys"), installation.path("keys")).unwrap();
    refuses(&mut serve, &["key"]);
    fs::write(installation.path("keys"), keys).unwrap();
    let (gateway, _) = Gateway::start(&mut installation.serve());
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn init_follows_no_symbolic_link() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    for name in ["efgs.sqlite", "efgs.sqlite-wal", "pki", "keys", "efgs.toml"] {
        let dir = folder.path().join(format!("demo-{name}"));
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.join(name)).unwrap();
        let mut init = efgs(&["init", "--participants", "DE", "--dir"]);
        refuses(init.arg(&dir), &[name, "name another folder"]);
        assert!(!elsewhere.exists(), "{name}");
    }
}

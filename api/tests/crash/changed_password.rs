//! The password of the database is changed while gateways work, on a server that requires TLS. Old
//! connections end, as they do when a server is restarted.

use std::fs;

use tempfile::TempDir;
use testkit::local::MariaDb;
use testkit::poll::holds_within;

use crate::crash_test::{CrashTest, Setup, TIMEOUT};

/// The server, and the file that gateways read.
struct Scene {
    server: MariaDb,
    folder: TempDir,
}

impl Scene {
    fn change_on_server(&self, password: &str) {
        let alter = format!("ALTER USER efgs@127.0.0.1 IDENTIFIED BY '{password}'; KILL USER efgs");
        self.server.run(&alter).unwrap();
    }

    fn change_in_file(&self, password: &str) {
        fs::write(self.folder.path().join("password"), format!("{password}\n")).unwrap();
    }

    fn url(&self) -> String {
        format!(
            "mysql://efgs@127.0.0.1:{}/efgs?tls_ca={}&password_file={}",
            self.server.port(),
            self.server.authority().unwrap().ca().display(),
            self.folder.path().join("password").display()
        )
    }
}

/// Whichever comes first, the server or the file.
#[test]
fn goes_on_while_the_password_is_changed() {
    let folder = TempDir::new().unwrap();
    let server = MariaDb::start_with_tls(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let scene = Scene { server, folder };
    scene.change_in_file("first");
    scene
        .server
        .run("ALTER USER efgs@127.0.0.1 IDENTIFIED BY 'first'")
        .unwrap();
    let mut test = CrashTest::start(&Setup {
        errors_allowed: true,
        urls: &[scene.url()],
        ..Setup::new("changed password")
    });
    test.put_under_load();
    let goes_on = |test: &CrashTest| test.wait_for_more("uploads", 5, |counts| counts.stored);
    goes_on(&test);

    scene.change_in_file("second");
    scene.server.run("KILL USER efgs").unwrap();
    goes_on(&test);
    scene.change_on_server("second");
    goes_on(&test);

    scene.change_on_server("third");
    let is_away = || {
        let ready = test.get_operations(0, "/ready");
        let is_ready = ready.is_none_or(|(status, _)| status != 503);
        !is_ready && test.logged(0, "ERROR 1045") > 0
    };
    assert!(holds_within(TIMEOUT, is_away));
    scene.change_in_file("third");
    goes_on(&test);
    test.finish();
    // One line per minute, not one per attempt of each task.
    let lines = test.logged(0, "ERROR 1045");
    assert!(lines < 20, "{lines}");
}

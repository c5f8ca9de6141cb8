//! TLS, against a server that requires it, and against one that has none.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use testkit::local::{DatabaseAuthority, MariaDb};

use super::super::super::connection::{Connection, SqlError, Timeouts};
use super::hostile::{handshake, packet, serve};
use crate::database::Database;
use crate::failure::chain;
use crate::settings::{ClientIdentity, DatabaseUrl, ServerUrl};

/// A server with the account that its URL names.
struct Scene {
    server: MariaDb,
    url: ServerUrl,
    folder: tempfile::TempDir,
}

impl Scene {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = MariaDb::start_with_tls(folder.path()).unwrap();
        server.create_database("efgs").unwrap();
        let url = server_url(&server.url("efgs"));
        Self {
            server,
            url,
            folder,
        }
    }

    fn authority(&self) -> &DatabaseAuthority {
        self.server.authority().unwrap()
    }

    fn changed(&self, change: impl FnOnce(&mut ServerUrl)) -> ServerUrl {
        let mut url = self.url.clone();
        change(&mut url);
        url
    }

    /// An authority that the server knows nothing of.
    fn stranger(&self, name: &str) -> DatabaseAuthority {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        DatabaseAuthority::make(&folder).unwrap()
    }
}

fn server_url(text: &str) -> ServerUrl {
    match text.parse().unwrap() {
        DatabaseUrl::Mysql(server) => *server,
        DatabaseUrl::Sqlite(_) => panic!("a server has no file"),
    }
}

fn ca_of(url: &mut ServerUrl) -> &mut PathBuf {
    &mut url.tls.as_mut().unwrap().ca
}

fn connect(url: &ServerUrl) -> Result<Box<dyn Connection>, SqlError> {
    Database::new(DatabaseUrl::Mysql(Box::new(url.clone()))).connect(Timeouts::Short)
}

fn works(url: &ServerUrl) {
    let cipher = cipher(connect(url).unwrap().as_mut());
    assert!(cipher.starts_with("TLS_"), "{cipher:?}");
}

fn cipher(connection: &mut dyn Connection) -> String {
    let row = connection.first("SHOW SESSION STATUS LIKE 'Ssl_cipher'", &[]);
    row.unwrap().unwrap().text(1).unwrap().to_owned()
}

/// The whole sentence of a start that is refused, with what to do.
#[track_caller]
fn refuses(url: &ServerUrl, says: &[&str]) {
    let database = Database::new(DatabaseUrl::Mysql(Box::new(url.clone())));
    let error = database.connect(Timeouts::Short).unwrap_err();
    let error = chain(&database.unreachable(error));
    for part in says {
        assert!(error.contains(part), "{part:?}: {error}");
    }
}

#[test]
fn a_server_that_requires_tls_is_used_only_if_its_certificate_is_right() {
    let scene = Scene::start();
    works(&scene.url);

    let plain = scene.changed(|url| url.tls = None);
    refuses(&plain, &["1045", "only with TLS", "[database] tls_ca"]);

    let stranger = scene.stranger("stranger");
    let other = scene.changed(|url| *ca_of(url) = stranger.ca());
    refuses(&other, &["UnknownIssuer", "[database] tls_ca must be"]);

    let name = server_url(&scene.server.url("efgs").replace("127.0.0.1", "localhost"));
    refuses(&name, &["not valid for name", "as [database] url names it"]);

    let missing = scene.changed(|url| *ca_of(url) = "/nowhere/ca.pem".into());
    refuses(&missing, &["No such file"]);

    scene.server.renew_certificate(&["127.0.0.1"], -1).unwrap();
    refuses(&scene.url, &["expired", "renew the server's certificate"]);
    scene.server.renew_certificate(&["127.0.0.1"], 1).unwrap();
    works(&scene.url);

    account_that_requires_a_certificate(&scene);
    unix_socket(&scene);
}

/// TLS is for what goes through a network. The socket may be one of several hosts.
fn unix_socket(scene: &Scene) {
    let path = |path: &Path| path.display().to_string().replace('/', "%2F");
    let socket = path(&scene.server.socket());
    let missing = path(&scene.folder.path().join("no-socket"));
    for hosts in [socket.clone(), format!("{missing},{socket}")] {
        let url = server_url(&format!("mysql://root@{hosts}/efgs?tls_ca=/nowhere/ca.pem"));
        assert_eq!(cipher(connect(&url).unwrap().as_mut()), "", "{hosts}");
    }
    let url = server_url(&format!("mysql://root@{missing}/efgs"));
    refuses(&url, &["No such file or directory", "[database] url"]);
}

fn account_that_requires_a_certificate(scene: &Scene) {
    scene
        .server
        .run(
            "CREATE USER 'certified'@'127.0.0.1' IDENTIFIED BY 'x' REQUIRE X509; \
             GRANT ALL ON efgs.* TO 'certified'@'127.0.0.1'",
        )
        .unwrap();
    let port = scene.server.port();
    let mut certified = server_url(&format!("mysql://certified:x@127.0.0.1:{port}/efgs"));
    certified.tls.clone_from(&scene.url.tls);
    refuses(
        &certified,
        &["1045", "[database] tls_certificate and tls_key"],
    );
    let with_identity = |authority: &DatabaseAuthority| {
        let files = authority.issue("gateway", &[], 1).unwrap();
        let mut url = certified.clone();
        url.tls.as_mut().unwrap().identity = Some(ClientIdentity {
            certificate: files.certificate,
            key: files.key,
        });
        url
    };
    works(&with_identity(scene.authority()));
    let stranger = with_identity(&scene.stranger("other"));
    refuses(&stranger, &["[database] tls_certificate"]);
}

/// Not even the name of the user is sent to a server without TLS, if TLS is asked for.
#[test]
fn a_server_that_says_it_has_no_tls_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = DatabaseAuthority::make(folder.path()).unwrap();
    let told = |_: usize, payload: &[u8]| {
        assert_eq!(payload, [1], "it was told more than that the client leaves");
        Some(Vec::new())
    };
    let address = serve(packet(0, &handshake()), Arc::new(told));
    let url = server_url(&format!("{address}?tls_ca={}", authority.ca().display()));
    refuses(
        &url,
        &[
            "TLS is asked for",
            "login was not begun",
            "[database] tls_ca",
        ],
    );
}

/// Else whoever answers in the server's place could offer a key of their own, and read the password.
#[test]
fn a_password_is_not_encrypted_for_a_key_that_nobody_vouches_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(&packet(0, &handshake())).unwrap();
        let login = read_packet(&mut connection).unwrap();
        let switch = [b"\xfecaching_sha2_password\0", &[b'x'; 20][..], b"\0"].concat();
        connection.write_all(&packet(2, &switch)).unwrap();
        let scrambled = read_packet(&mut connection).unwrap();
        // It does not know the password any more: the client is to send it whole.
        connection.write_all(&packet(4, &[1, 4])).unwrap();
        let rest = read_packet(&mut connection);
        (login, scrambled, rest)
    });
    let url = server_url(&format!("mysql://efgs:secret@{address}/efgs"));
    refuses(
        &url,
        &["caching_sha2_password", "[database] tls_ca", "Unix socket"],
    );
    let (login, scrambled, rest) = server.join().unwrap();
    assert!(login.windows(4).any(|text| text == b"efgs"));
    assert_eq!(scrambled.len(), 32, "a SHA-256 over the password");
    // That it leaves (1), and no request for the server's key (2).
    assert_eq!(rest, Some(vec![1]));
}

fn read_packet(connection: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 4];
    connection.read_exact(&mut head).ok()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    connection.read_exact(&mut payload).ok()?;
    Some(payload)
}

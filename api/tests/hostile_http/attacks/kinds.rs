//! The attacks.

use std::sync::Arc;
use std::time::Duration;

use efgs_client::Protocol;
use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::http2::{self, Frame, PREFACE, frame};
use super::scene::{Scene, send};
use super::{Attack, IDLE_RATIO_MAX, RATIO_MAX, Running};

/// Between two of the small things that keep something open.
const NOW_AND_THEN: Duration = Duration::from_millis(200);

const fn held(name: &'static str, run: fn(Arc<Scene>) -> Running, memory_mib_max: u64) -> Attack {
    Attack {
        name,
        run,
        memory_mib_max,
        ratio_max: RATIO_MAX,
    }
}

/// One of peers that ask nothing, or that nothing is owed to.
const fn idle(name: &'static str, run: fn(Arc<Scene>) -> Running, memory_mib_max: u64) -> Attack {
    Attack {
        ratio_max: IDLE_RATIO_MAX,
        ..held(name, run, memory_mib_max)
    }
}

/// All attacks. The memory that each may take is what its bounds add up to, and some for the
/// allocator.
pub(super) const TABLE: &[Attack] = &[
    held(
        "300 connections of a participant that rest",
        |scene| many(300, scene, rest),
        40,
    ),
    held(
        "300 connections that say nothing",
        |scene| many(300, scene, say_nothing),
        40,
    ),
    held(
        "100 half requests on the operations port",
        |scene| many(100, scene, half_a_health_check),
        20,
    ),
    held(
        "uploads of a participant on 16 connections",
        |scene| many(16, scene, upload),
        100,
    ),
    held(
        "signatures that are wrong, on 16 connections",
        |scene| many(16, scene, sign_wrongly),
        100,
    ),
    held(
        "uploads that trickle, on 100 connections",
        |scene| many(100, scene, trickle),
        100,
    ),
    idle(
        "requests without a certificate on 8 connections",
        |scene| many(8, scene, fill_the_log),
        40,
    ),
    held(
        "streams that are opened and reset",
        |scene| many(4, scene, reset),
        60,
    ),
    idle(
        "pings and settings without end",
        |scene| many(4, scene, ping),
        40,
    ),
    held(
        "header blocks without end",
        |scene| many(4, scene, continue_headers),
        40,
    ),
    held(
        "forged subject names of 16 kB",
        |scene| many(4, scene, name_badly),
        40,
    ),
    held(
        "half requests on the operations port, at once again",
        |scene| many(100, scene, displace_health_checks),
        20,
    ),
    held(
        "handshakes on 8 connections, at once again",
        |scene| many(8, scene, shake_hands),
        40,
    ),
    held(
        "audits on 60 connections",
        |scene| many(60, scene, audit),
        100,
    ),
    held(
        "lists of callbacks on 16 connections",
        |scene| many(16, scene, list_callbacks),
        60,
    ),
    held(
        "HEAD of downloads on 32 connections",
        |scene| many(32, scene, head),
        100,
    ),
    held(
        "downloads that are not read, on 40 connections",
        |scene| many(40, scene, read_nothing),
        100,
    ),
    held(
        "windows of zero, 12 downloads on 5 connections",
        |scene| many(5, scene, close_the_window),
        100,
    ),
];

/// The same on several connections, again and again.
fn many<F>(count: usize, scene: Arc<Scene>, attack: fn(Arc<Scene>) -> F) -> Running
where
    F: Future<Output = ()> + Send + 'static,
{
    Box::pin(async move {
        let mut running = JoinSet::new();
        for _ in 0..count {
            let scene = Arc::clone(&scene);
            running.spawn(async move {
                loop {
                    attack(Arc::clone(&scene)).await;
                    tokio::task::yield_now().await;
                }
            });
        }
        running.join_all().await;
    })
}

fn download(scene: &Scene) -> String {
    format!("/diagnosiskeys/download/{}", scene.today)
}

fn plain(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: g\r\n\r\n").into_bytes()
}

/// Keeps a connection, and does not care what comes.
async fn wait_for_end(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut buffer = vec![0; 16 << 10];
    while matches!(stream.read(&mut buffer).await, Ok(1..)) {}
}

/// Sends the same until it cannot; reads nothing.
async fn repeat(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    while stream.write_all(bytes).await.is_ok() {}
}

async fn rest(scene: Arc<Scene>) {
    if let Some(mut stream) = scene.tls("http/1.1", true).await {
        let _sent = stream.write_all(&plain("GET", &download(&scene))).await;
        wait_for_end(&mut stream).await;
    }
    tokio::time::sleep(NOW_AND_THEN).await;
}

async fn say_nothing(scene: Arc<Scene>) {
    if let Ok(mut stream) = TcpStream::connect(scene.address("public")).await {
        wait_for_end(&mut stream).await;
    }
    tokio::time::sleep(NOW_AND_THEN).await;
}

async fn half_a_health_check(scene: Arc<Scene>) {
    displace_health_checks(scene).await;
    tokio::time::sleep(NOW_AND_THEN).await;
}

/// At once again when it is closed.
async fn displace_health_checks(scene: Arc<Scene>) {
    if let Ok(mut stream) = TcpStream::connect(scene.address("operations")).await {
        let _sent = stream.write_all(b"GET /health HTTP/1.1\r\n").await;
        wait_for_end(&mut stream).await;
    }
}

async fn shake_hands(scene: Arc<Scene>) {
    drop(scene.tls("h2", true).await);
}

async fn upload(scene: Arc<Scene>) {
    let uploads = scene.attackers_uploads(4, 500);
    let mut connection = scene.attacker(Protocol::Http1);
    while send(&mut connection, &uploads[0]).await.is_some() {
        for upload in &uploads[1..] {
            send(&mut connection, upload).await;
        }
    }
}

async fn sign_wrongly(scene: Arc<Scene>) {
    let mut uploads = scene.attackers_uploads(2, 500);
    uploads[0].batch_signature = uploads[1].batch_signature.clone();
    let mut connection = scene.attacker(Protocol::Http1);
    while send(&mut connection, &uploads[0]).await.is_some() {}
}

async fn trickle(scene: Arc<Scene>) {
    let Some(mut stream) = scene.tls("http/1.1", true).await else {
        return;
    };
    let head = "POST /diagnosiskeys/upload HTTP/1.1\r\nHost: g\r\n\
                Content-Type: application/protobuf; version=1.0\r\nContent-Length: 1000000\r\n\
                batchTag: slow\r\nbatchSignature: MAo=\r\n\r\n";
    let _sent = stream.write_all(head.as_bytes()).await;
    while stream.write_all(b"\x0a").await.is_ok() && stream.flush().await.is_ok() {
        tokio::time::sleep(NOW_AND_THEN).await;
    }
}

async fn fill_the_log(scene: Arc<Scene>) {
    let Some(mut stream) = scene.tls("http/1.1", false).await else {
        return;
    };
    let filling = "\u{81}".repeat(1000);
    let request = format!("GET /diagnosiskeys HTTP/1.1\r\nHost: g\r\nAccept: {filling}\r\n\r\n");
    let (mut reading, mut writing) = tokio::io::split(&mut stream);
    tokio::join!(
        wait_for_end(&mut reading),
        repeat(&mut writing, request.as_bytes())
    );
}

/// An HTTP/2 connection of the attacker.
async fn connect(
    scene: &Scene,
    window: u32,
) -> Option<impl tokio::io::AsyncRead + AsyncWrite + Unpin> {
    let mut stream = scene.tls("h2", true).await?;
    let settings = http2::settings(&[(http2::INITIAL_WINDOW_SIZE, window)]);
    stream
        .write_all(&[PREFACE, &settings].concat())
        .await
        .ok()?;
    Some(stream)
}

async fn reset(scene: Arc<Scene>) {
    let Some(stream) = connect(&scene, 65_535).await else {
        return;
    };
    let (mut reading, mut writing) = tokio::io::split(stream);
    let path = download(&scene);
    let send = async {
        for stream in (1..).step_by(2) {
            let request = http2::request(stream, "GET", &path, &[], true);
            let reset = frame(Frame::Reset, 0, stream, &[0, 0, 0, 8]);
            if writing.write_all(&[request, reset].concat()).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(wait_for_end(&mut reading), send);
}

async fn ping(scene: Arc<Scene>) {
    if let Some(mut stream) = connect(&scene, 65_535).await {
        let both = [frame(Frame::Ping, 0, 0, &[0; 8]), http2::settings(&[])].concat();
        // The answers are not read.
        repeat(&mut stream, &both.repeat(100)).await;
    }
}

async fn continue_headers(scene: Arc<Scene>) {
    if let Some(mut stream) = connect(&scene, 65_535).await {
        let mut begin = http2::request(1, "GET", "/", &[], true);
        // Its block does not end.
        begin[4] = http2::END_STREAM;
        let more = [&[0, 1, b'a', 100][..], &[b'x'; 100]].concat();
        let _sent = stream.write_all(&begin).await;
        let more = frame(Frame::Continuation, 0, 1, &more);
        repeat(&mut stream, &more.repeat(100)).await;
    }
}

/// Behind a proxy that forwards what anybody has in a certificate.
async fn name_badly(scene: Arc<Scene>) {
    let Ok(mut stream) = TcpStream::connect(scene.address("proxy")).await else {
        return;
    };
    let (thumbprint, name) = (scene.thumbprint(), "\"=,".repeat(5000));
    let request = format!(
        "GET /diagnosiskeys/callback HTTP/1.1\r\nHost: g\r\nX-SSL-Client-SHA256: {thumbprint}\r\n\
         X-SSL-Client-DN: {name}\r\n\r\n"
    );
    let mut buffer = vec![0; 16 << 10];
    while stream.write_all(request.as_bytes()).await.is_ok()
        && matches!(stream.read(&mut buffer).await, Ok(1..))
    {}
}

/// Requests without a body, one after another.
async fn ask(scene: &Scene, method: Method, path: &str) {
    let mut connection = scene.attacker(Protocol::Http1);
    let accept = http::HeaderValue::from_static("*/*");
    let headers = [(http::header::ACCEPT, accept)];
    while connection
        .send(method.clone(), path, &headers, Default::default())
        .await
        .is_ok()
    {}
}

async fn audit(scene: Arc<Scene>) {
    let day = scene.today.to_string();
    let tag = day.replace('-', "");
    let path = format!("/diagnosiskeys/audit/download/{day}/{tag}-1");
    ask(&scene, Method::GET, &path).await;
}

async fn list_callbacks(scene: Arc<Scene>) {
    ask(&scene, Method::GET, "/diagnosiskeys/callback").await;
}

async fn head(scene: Arc<Scene>) {
    ask(&scene, Method::HEAD, &download(&scene)).await;
}

async fn read_nothing(scene: Arc<Scene>) {
    if let Some(mut stream) = scene.tls("http/1.1", true).await {
        let request = plain("GET", &download(&scene));
        let _sent = stream.write_all(&request.repeat(50)).await;
        // Until it is closed, which a write notices.
        while stream.write_all(b"\r\n").await.is_ok() && stream.flush().await.is_ok() {
            tokio::time::sleep(NOW_AND_THEN).await;
        }
    }
}

async fn close_the_window(scene: Arc<Scene>) {
    let Some(mut stream) = connect(&scene, 0).await else {
        return;
    };
    let path = download(&scene);
    for number in (1..25).step_by(2) {
        let request = http2::request(number, "GET", &path, &[], true);
        let _sent = stream.write_all(&request).await;
    }
    for number in (25..).step_by(2) {
        let small = http2::request(number, "GET", "/diagnosiskeys/callback", &[], true);
        if stream.write_all(&small).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        tokio::time::sleep(NOW_AND_THEN).await;
    }
}

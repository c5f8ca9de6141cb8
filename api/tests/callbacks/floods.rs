//! One participant's flood, against the real program: another participant's requests are answered, all
//! of them, and not much later than without the flood.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::callback_support::{Gateway, Pair, cut, date_of, until};
use crate::cli_support;
use crate::cli_support::Installation;

/// More than may wait.
const FLOOD: usize = 330;
/// How often the other participant asks.
const ASKED: usize = 21;
/// How much later its median answer may come: the flood's clients and the gateway share this machine's
/// cores, and each of the flood's answers takes as long as one of its own.
const RATIO_MAX: u32 = 100;
const SLACK: Duration = Duration::from_secs(1);

/// Asks once, on a connection of its own; returns the status.
async fn ask(address: SocketAddr, request: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A flood's connection may be displaced.
    let _ = stream.read_to_end(&mut answer).await;
    let status = answer.get(9..12).map(String::from_utf8_lossy);
    status.map_or(0, |status| status.parse().unwrap())
}

/// The median time of an answer, all of which must be good.
async fn median(address: SocketAddr, request: &str) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let begun = Instant::now();
        assert_eq!(ask(address, request).await, 200, "{request}");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[ASKED / 2]
}

fn request(installation: &Installation, path: &str, code: &str) -> String {
    let thumbprint = Pair::of(installation, &format!("{code}/authentication")).thumbprint();
    format!(
        "GET {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\
         X-SSL-Client-SHA256: {thumbprint}\r\nX-SSL-Client-DN: C={code}\r\n\r\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_one_participant_refuses_no_other_and_delays_it_little() {
    let installation = Installation::new("DE,FI");
    let gateway = Gateway::start(&installation).await;
    let tag = cut(&installation, &gateway.engine, 0).await;
    drop(gateway);
    let mut command = installation.serve();
    let command = command.env("EFGS__PROXY__LISTEN", "127.0.0.1:0");
    let (_running, ports) = cli_support::Gateway::start_with_log(command, Stdio::null());
    let proxy = ports.iter().find(|(role, _)| role == "proxy").unwrap().1;
    let audit = format!("/diagnosiskeys/audit/download/{}/{tag}", date_of(&tag));
    for path in [audit.as_str(), "/diagnosiskeys/callback"] {
        let of_de = request(&installation, path, "DE");
        let quiet = median(proxy, &of_de).await;
        let over = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicUsize::new(0));
        let mut flood = JoinSet::new();
        for _ in 0..FLOOD {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            let of_fi = request(&installation, path, "FI");
            flood.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    ask(proxy, &of_fi).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        until(async || answered.load(Ordering::Relaxed) > FLOOD).await;
        let flooded = median(proxy, &of_de).await;
        over.store(true, Ordering::Relaxed);
        while flood.join_next().await.is_some() {}
        eprintln!("{path}: {quiet:?} without a flood, {flooded:?} beside one");
        assert!(
            flooded < quiet * RATIO_MAX + SLACK,
            "{path}: {flooded:?} beside a flood, {quiet:?} without"
        );
    }
}

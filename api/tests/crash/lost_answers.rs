//! The database commits, but its answer is lost with the connection: the gateway has to find out
//! the outcome.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::crash_test::{CrashTest, Setup};
use crate::seed;

#[test]
fn finds_out_the_outcome_of_a_commit() {
    let runtime = Runtime::new().unwrap();
    let losing = watch::Sender::new(0);
    let mut test = CrashTest::start(&Setup {
        on_mariadb: true,
        errors_allowed: true,
        between: Some(&|server| runtime.block_on(stand_between(server, &losing))),
        ..Setup::new("answers lost")
    });
    test.put_under_load();
    for crash in 0..seed::crashes(8) * 2 {
        losing.send_replace(crash + 1);
        test.wait_for_a_random_instant(crash);
    }
    test.finish();
    let unresolved = test.unresolved_commits(0).unwrap();
    println!("answers lost: {unresolved} commits with an unknown outcome");
    // Each request loses an answer of each connection, the committing one's among them.
    assert!(unresolved > 0, "no commit had an unknown outcome");
    assert_eq!(
        test.world.history.counts().errors,
        0,
        "the database was never away: every upload can be answered"
    );
}

/// Forwards everything between gateways and their database, except for the answers that are to be
/// lost; returns the address to connect to.
async fn stand_between(server: SocketAddr, losing: &watch::Sender<u64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let losing = losing.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if let Ok(server) = TcpStream::connect(server).await {
                let losing = losing.subscribe();
                tokio::spawn(hand_on(client, server, losing));
            }
        }
    });
    address
}

/// Ends when either side closes or an answer is lost; then both connections are closed.
async fn hand_on(client: TcpStream, server: TcpStream, losing: watch::Receiver<u64>) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = hand_back(from_server, to_client, losing) => {}
    }
}

/// Forwards answers until one is to be lost: the next one after the request to lose one.
async fn hand_back(
    mut from_server: OwnedReadHalf,
    mut to_client: OwnedWriteHalf,
    losing: watch::Receiver<u64>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
        let is_lost = losing.has_changed().unwrap_or(true);
        if is_lost || to_client.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

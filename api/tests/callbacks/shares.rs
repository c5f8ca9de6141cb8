//! What one participant's receivers and names cost does not cost another one anything.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api::delivery::{Resolve, Resolving};
use engine::admin::Admin;
use engine::{Clock as _, SystemClock};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::callback_support::{Gateway, Pair, Receiver, TIMEOUT, cut, database, until};
use crate::cli_support::Installation;
use crate::{PUT, VERSION};

/// Far below the time for which the attacks of these tests would hold others up.
const SOON: Duration = Duration::from_secs(20);

/// Names in `silent.example` are never answered; all others at once, with the address that is set.
#[derive(Debug)]
struct SilentNames(IpAddr);

impl Resolve for SilentNames {
    fn resolve(&self, host: &str) -> Resolving {
        let (is_silent, address) = (host.ends_with("silent.example"), self.0);
        Box::pin(async move {
            if is_silent {
                std::future::pending::<()>().await;
            }
            Ok(vec![address])
        })
    }
}

/// Accepts connections and says nothing; returns its port, and how many it has accepted.
async fn silent_receiver() -> (u16, Arc<AtomicUsize>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok(connection) = socket.accept().await {
            open.push(connection);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    (port, accepted)
}

#[tokio::test]
async fn slow_receivers_of_four_participants_do_not_delay_a_healthy_one() {
    let installation = Installation::new("DE,ES,FI,FR,IT");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.deliveries_max = 16;
        server.callback.connect_timeout = TIMEOUT;
    })
    .await;
    let (port, accepted) = silent_receiver().await;
    for code in ["ES", "FI", "FR", "IT"] {
        for id in 0..16 {
            let url = format!("https://127.0.0.1:{port}/{id}");
            gateway.subscribe(code, &id.to_string(), &url).await;
        }
    }
    cut(&installation, &gateway.engine, 0).await;
    until(async || accepted.load(Ordering::SeqCst) == 16).await;
    gateway.subscribe("DE", "1", &receiver.url()).await;
    let begun = Instant::now();
    for number in 1..4 {
        let tag = cut(&installation, &gateway.engine, number).await;
        assert_eq!(receiver.told().await.tag(), tag);
    }
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(accepted.load(Ordering::SeqCst), 16, "four each, no more");
}

#[tokio::test]
async fn silent_names_of_one_participant_keep_nobody_else_from_subscribing() {
    let installation = Installation::new("DE,FI");
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.identity = None;
        server.callback.connect_timeout = TIMEOUT;
        server.resolver = Arc::new(SilentNames([93, 184, 216, 34].into()));
    })
    .await;
    let gateway = Arc::new(gateway);
    let de = Pair::of(&installation, "DE/authentication");
    let mut flood = JoinSet::new();
    for id in 0..20 {
        let (gateway, de) = (Arc::clone(&gateway), de.clone());
        let put = format!("{PUT}{id}?url=https://{id}.silent.example/{VERSION}");
        flood.spawn(async move { gateway.ask(&put, &de, "DE", "").await });
    }
    // Four lookups are its share; all others are refused.
    for _ in 4..20 {
        let refused = flood.join_next().await.unwrap().unwrap();
        assert_eq!(refused.status(), 503, "{}", refused.body);
        assert_eq!(refused.member("code"), "overloaded_callbacks");
    }
    let put = |host: &str| format!("{PUT}1?url=https://{host}/{VERSION}");
    let taken = gateway.ask(&put("93.184.216.34"), &de, "DE", "").await;
    assert_eq!(taken.status(), 200, "an address takes no lookup");
    let fi = Pair::of(&installation, "FI/authentication");
    for host in ["93.184.216.34", "receiver.example"] {
        let taken = gateway.ask(&put(host), &fi, "FI", "").await;
        assert_eq!(taken.status(), 200, "{host}: {}", taken.body);
    }
}

#[tokio::test]
async fn lookups_that_never_end_neither_delay_others_nor_count_as_failures_for_want_of_room() {
    let installation = Installation::new("DE,FI");
    let mut receiver = Receiver::start(&Pair::of(&installation, "FI/callback")).await;
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.connect_timeout = Duration::from_millis(500);
        server.callback.attempts_max = 2;
        server.resolver = Arc::new(SilentNames([127, 0, 0, 1].into()));
    })
    .await;
    for id in 0..16 {
        let url = format!("https://{id}.silent.example/");
        gateway.subscribe("DE", &id.to_string(), &url).await;
    }
    let url = format!("https://receiver.test:{}/x", receiver.address.port());
    gateway.subscribe("FI", "1", &url).await;
    for number in 0..8 {
        let tag = cut(&installation, &gateway.engine, number).await;
        assert_eq!(receiver.told().await.tag(), tag);
    }
    // Eight of its lookups were given up and continue; the others wait for them and have not failed.
    until(async || postponed(&installation) >= 8).await;
    assert_eq!(gateway.subscriptions("DE").await.len(), 16);
}

/// How many of DE's subscriptions wait without a failure.
pub(crate) fn postponed(installation: &Installation) -> usize {
    let mut admin = Admin::open(&database(installation)).unwrap();
    let states = admin.subscriptions(SystemClock.now().day(), 2).unwrap();
    let of_de = states.iter().filter(|state| state.country.as_str() == "DE");
    of_de
        .filter(|state| state.failed_attempts == 0 && state.next_attempt_at.0 > 0)
        .count()
}

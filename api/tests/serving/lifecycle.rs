//! Start, operations port and shutdown.

use api::server::ServeError;

use crate::support::{Gateway, get, signed_upload};
use crate::{CAPABILITIES, download_path};

#[tokio::test]
async fn finishes_requests_in_flight_before_shutdown() {
    let gateway = Gateway::start().await;
    let upload = signed_upload("DE", 0..3);
    let mut raw = gateway.proxy().await;
    raw.write(format!(
        "{}Expect: 100-continue\r\n\r\n",
        upload.head("DE", "t")
    ))
    .await;
    assert_eq!(raw.answer(true).await.status(), 100);
    let mut idle = gateway.proxy().await;
    assert_eq!(idle.get(CAPABILITIES).await.status(), 200);
    let address = gateway.addresses.proxy.unwrap();
    let running = gateway.stop();
    idle.until_closed().await;
    raw.write(&upload.body).await;
    assert_eq!(raw.answer(false).await.status(), 201);
    raw.until_closed().await;
    running.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn serves_health_status_and_metrics_to_operators() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.operations().await;
    let mut ask = async |path: &str| {
        raw.get(&format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n"))
            .await
    };
    assert_eq!(ask("/health").await.json()["status"], "up");
    assert_eq!(ask("/ready").await.json()["ready"], true);
    assert_eq!(ask("/status").await.json()["databaseAvailable"], true);
    let page = ask("/").await;
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let metrics = String::from_utf8(ask("/metrics").await.body).unwrap();
    assert!(metrics.contains("efgs_connections_open"), "{metrics}");
    assert_eq!(ask("/diagnosiskeys/upload").await.status(), 404);
}

/// A web page whose name was made to resolve to this port cannot read it, and no page can show it in a
/// frame.
#[tokio::test]
async fn keeps_web_pages_of_others_away_from_the_operations_port() {
    let gateway =
        Gateway::start_with(|_, server| server.operations_hosts = vec!["efgs.example".to_owned()])
            .await;
    let mut raw = gateway.operations().await;
    for (host, status) in [
        ("127.0.0.1:9090", 200),
        ("localhost", 200),
        ("efgs.example:9090", 200),
        ("rebound.example", 421),
        ("127.0.0.1.rebound.example", 421),
    ] {
        let answer = raw
            .get(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        assert_eq!(answer.status(), status, "{host}");
        assert_eq!(answer.header("X-Frame-Options"), Some("DENY"), "{answer:?}");
        assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self' 'sha256-"),
            "{policy}"
        );
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
    }
    // A load balancer may know the gateway by any name: it gets the status, and nobody the body.
    for path in ["/health", "/ready"] {
        for (host, has_body) in [("localhost", true), ("rebound.example", false)] {
            let answer = raw
                .get(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .await;
            assert_eq!(answer.status(), 200, "{path} {host}");
            assert_eq!(!answer.body.is_empty(), has_body, "{path} {host}");
        }
    }
}

#[tokio::test]
async fn names_the_port_that_is_in_use() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let error = Gateway::try_start(|_, server| server.operations_listen = Some(address)).await;
    let error = error.err().unwrap();
    assert!(
        matches!(
            error,
            ServeError::PortInUse {
                role: "operations",
                ..
            }
        ),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains("[operations] listen") && !text.contains('\n'),
        "{text}"
    );
}

#[tokio::test]
async fn refuses_to_trust_any_peer_as_a_proxy() {
    let open = Some("0.0.0.0:0".parse().unwrap());
    let error = Gateway::try_start(|_, server| {
        server.proxy.as_mut().unwrap().listen = open;
    })
    .await;
    let error = error.err().unwrap();
    assert!(matches!(error, ServeError::AnyoneTrusted(_)), "{error}");
    let gateway = Gateway::start_with(|_, server| {
        let proxy = server.proxy.as_mut().unwrap();
        proxy.trusted_peers = vec!["192.0.2.0/24".parse().unwrap()];
    })
    .await;
    let answer = gateway
        .proxy()
        .await
        .get(&get(&download_path(), "DE", ""))
        .await;
    assert_eq!(
        (answer.status(), answer.json()["code"].as_str()),
        (403, Some("untrusted_peer"))
    );
}

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
    let mut resting = gateway.proxy().await;
    assert_eq!(resting.get(CAPABILITIES).await.status(), 200);
    let address = gateway.addresses.proxy.unwrap();
    let running = gateway.stop();
    resting.until_closed().await;
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
    let open = "0.0.0.0:0".parse().unwrap();
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

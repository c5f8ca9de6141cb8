//! Permits of participants.

use std::time::{Duration, Instant};

use crate::support::{Gateway, signed_upload};

#[tokio::test]
async fn throttles_a_participant_that_takes_more_than_its_share() {
    let gateway =
        Gateway::start_with(|settings, _| settings.upload.batches_in_flight_max = 8).await;
    let upload = signed_upload("DE", 0..3);
    let mut held = Vec::new();
    // A quarter of 8 is 2: two bodies in transit fill the share.
    let refused = loop {
        let mut raw = gateway.proxy().await;
        raw.write(format!(
            "{}Expect: 100-continue\r\n\r\n",
            upload.head("DE", "t")
        ))
        .await;
        let answer = raw.answer(true).await;
        if answer.status() != 100 {
            break answer;
        }
        held.push(raw);
        assert!(held.len() < 8, "nothing is refused");
    };
    assert_eq!((refused.status(), held.len()), (429, 2), "{refused:?}");
    let date = refused.header("Retry-After").unwrap();
    assert!(date.starts_with("Tue, 01 Jun 2021 12:00:"), "{date}");
    assert_eq!(refused.header("Connection"), Some("close"));
    let mut other = gateway.proxy().await;
    let upload = signed_upload("IT", 0..3);
    assert_eq!(
        other
            .ask(&upload.head("IT", "t"), &upload.body)
            .await
            .status(),
        201
    );
}

#[tokio::test]
async fn holds_a_permit_for_the_received_bytes_of_a_body_of_unknown_length() {
    let gateway = Gateway::start().await;
    let lock = gateway.lock_database();
    let mut waiting = Vec::new();
    // Two of the largest bodies are a participant's share.
    let mut bytes = 0;
    for index in 0..4 {
        let upload = signed_upload("DE", index * 3..index * 3 + 3);
        let mut raw = gateway.proxy().await;
        raw.write(upload.chunked("DE", &format!("t-{index}"))).await;
        waiting.push(raw);
        bytes += upload.body.len();
        let deadline = Instant::now() + Duration::from_secs(2);
        while gateway.engine.admission().bytes_in_flight() != bytes {
            let held = gateway.engine.admission().bytes_in_flight();
            assert!(Instant::now() < deadline, "upload {index}: {held} bytes");
            tokio::task::yield_now().await;
        }
    }
    drop(lock);
    for raw in &mut waiting {
        let answer = raw.answer(false).await;
        assert_eq!(answer.status(), 201, "{answer:?}");
    }
    assert_eq!(gateway.engine.admission().bytes_in_flight(), 0);
}

//! Permits of participants.

use std::time::{Duration, Instant};

use crate::support::{Gateway, RawAnswer, Upload, get, signed_upload};

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

/// The answer to a dry run.
async fn rehearse(gateway: &Gateway, code: &str, tag: &str, upload: &Upload) -> RawAnswer {
    let mut raw = gateway.proxy().await;
    let head = upload.head(code, tag);
    let head = head.replacen("/upload ", "/upload?dryRun=true ", 1);
    let answer = raw.ask(&head, &upload.body).await;
    assert_eq!(answer.header("Dry-Run"), Some("true"), "{answer:?}");
    answer
}

/// The answer to an upload of a country under a tag.
async fn upload(gateway: &Gateway, code: &str, tag: &str, upload: &Upload) -> RawAnswer {
    let mut raw = gateway.proxy().await;
    raw.ask(&upload.head(code, tag), &upload.body).await
}

#[tokio::test]
async fn refuses_new_keys_beyond_the_quota_of_the_day_over_all_gateways_and_starts() {
    let quota = |settings: &mut engine::settings::Settings| {
        settings.quota.keys_per_day = 10;
        settings.quota.keys_per_day_of = vec!["IT=1000".parse().unwrap()];
    };
    let gateway = Gateway::start_with(|settings, _| quota(settings)).await;
    let first = signed_upload("DE", 0..6);
    let second = signed_upload("DE", 6..11);
    assert_eq!(upload(&gateway, "DE", "a", &first).await.status(), 201);
    // Dry runs store nothing, so they use nothing up; their answer is that of the upload.
    let fits = signed_upload("DE", 6..10);
    for _ in 0..2 {
        let answer = rehearse(&gateway, "DE", "dry", &fits).await;
        assert_eq!(answer.status(), 201, "{answer:?}");
    }
    assert_eq!(gateway.engine.quota_uses()[0].keys, 6);
    assert_eq!(gateway.engine.status().log_position, 1);
    assert_eq!(rehearse(&gateway, "DE", "dry", &second).await.status(), 429);
    let refused = upload(&gateway, "DE", "b", &second).await;
    assert_eq!(refused.status(), 429, "{refused:?}");
    assert_eq!(refused.json()["code"], "quota_keys_per_day");
    // The clock of these tests stands at noon.
    let tomorrow = refused.header("Retry-After").unwrap();
    assert_eq!(tomorrow, "Wed, 02 Jun 2021 00:00:00 GMT");
    // A repeat stores nothing, nor does an upload of known keys or of none.
    assert_eq!(upload(&gateway, "DE", "a", &first).await.status(), 201);
    assert_eq!(upload(&gateway, "DE", "c", &first).await.status(), 207);
    let none = signed_upload("DE", 0..0);
    assert_eq!(upload(&gateway, "DE", "d", &none).await.status(), 201);
    let others = signed_upload("IT", 0..20);
    assert_eq!(upload(&gateway, "IT", "a", &others).await.status(), 201);

    let another = gateway.another(quota).await;
    let refused = upload(&another, "DE", "b", &second).await;
    assert_eq!(refused.status(), 429, "it has read the log at its start");
    let rest = signed_upload("DE", 6..10);
    assert_eq!(upload(&another, "DE", "e", &rest).await.status(), 201);
    while gateway.engine.status().log_position < another.engine.status().log_position {
        tokio::task::yield_now().await;
    }
    let one = signed_upload("DE", 20..21);
    assert_eq!(upload(&gateway, "DE", "f", &one).await.status(), 429);
    let metrics = get_text(&gateway, "/metrics").await;
    for line in [
        "efgs_quota_keys_today{country=\"DE\"} 10",
        "efgs_quota_keys_per_day_max{country=\"IT\"} 1000",
        "efgs_participant_bound{bound=\"keys_per_day\"} 10",
        "efgs_participant_use_max{bound=\"keys_per_day\"} 20",
        "efgs_participant_bound{bound=\"cold_reads\"} 64",
        "efgs_participant_use_max{bound=\"connections\"} 0",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
}

async fn get_text(gateway: &Gateway, path: &str) -> String {
    let mut raw = gateway.operations().await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: g\r\n\r\n");
    String::from_utf8(raw.get(&request).await.body).unwrap()
}

#[tokio::test]
async fn refuses_new_keys_while_the_memory_is_used_up_and_serves_what_it_has() {
    let gateway = Gateway::start().await;
    let first = signed_upload("DE", 0..6);
    assert_eq!(upload(&gateway, "DE", "a", &first).await.status(), 201);
    // The empty set takes more than a byte. A start reads all that there is.
    let full = gateway
        .another(|settings| settings.memory.stored_bytes_max = 1)
        .await;
    assert_eq!(full.engine.status().identities, 6);
    let second = signed_upload("DE", 6..12);
    let refused = upload(&full, "DE", "b", &second).await;
    assert_eq!(refused.status(), 503, "{refused:?}");
    assert_eq!(refused.json()["code"], "overloaded_memory");
    assert_eq!(refused.header("Retry-After"), Some("300"));
    assert_eq!(upload(&full, "DE", "a", &first).await.status(), 201);
    let none = signed_upload("IT", 0..0);
    assert_eq!(upload(&full, "IT", "c", &none).await.status(), 201);
    let mut raw = full.operations().await;
    let ready = raw.get("GET /ready HTTP/1.1\r\nHost: g\r\n\r\n").await;
    // All gateways are alike in this: were it unready, a load balancer would have none for downloads.
    assert_eq!(ready.status(), 200, "{ready:?}");
    assert_eq!(ready.json()["memory"]["usedUp"], true);
    let refused = ready.json()["uploadsRefused"].to_string();
    assert!(refused.contains("stored_bytes_max"), "{refused}");
    let mut raw = full.proxy().await;
    let request = get("/diagnosiskeys/download/2021-06-01", "IT", "");
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let served = raw.get(&request).await;
        if served.status() == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "{served:?}");
    }
}

//! The client library against recorded answers of the reference server's shape.

use std::sync::Arc;
use std::time::Duration;

use loadgen::client::{
    Auditor, BatchSigner, Caller, Connection, Cursor, DiagnosisKey, Downloader, KeyOutcome,
    MemoryJournal, Pending, Protocol, Read, RsaScheme, Target, Unproven, UploadError, Uploader,
    encode,
};
use loadgen::protocol::signed_bytes;
use loadgen::signer::Encoding;
use loadgen::verify::SigningCertificate;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{Key, Pki, pki};

/// A request as the server saw it.
struct Seen {
    head: String,
    body: Vec<u8>,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Gives these answers, one per request; an empty one breaks the connection after the request was read.
/// Ends with the last, and returns the requests.
async fn server(answers: Vec<String>) -> (Target, JoinHandle<Vec<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let serve = async move {
        let (mut seen, mut answers) = (Vec::new(), answers.into_iter().peekable());
        while answers.peek().is_some() {
            let (mut stream, _) = listener.accept().await.unwrap();
            while let Some(answer) = answers.next() {
                seen.push(read_request(&mut stream).await);
                if answer.is_empty() {
                    break;
                }
                stream.write_all(answer.as_bytes()).await.unwrap();
                if answers.peek().is_none() {
                    break;
                }
            }
        }
        seen
    };
    (target, tokio::spawn(serve))
}

async fn read_request(stream: &mut TcpStream) -> Seen {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "{bytes:?}");
    };
    let mut seen = Seen {
        head: String::from_utf8(bytes[..end].to_vec()).unwrap(),
        body: bytes.split_off(end + 4),
    };
    let length = seen
        .header("content-length")
        .map_or(0, |text| text.parse().unwrap());
    while seen.body.len() < length {
        assert!(stream.read_buf(&mut seen.body).await.unwrap() > 0);
    }
    seen
}

/// An answer with header names in lower case, as many proxies write them.
fn answer(status: &str, headers: &[(&str, &str)], body: &str) -> String {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"));
    let lines: String = lines.collect();
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{lines}content-length: {length}\r\n\r\n{body}")
}

/// An error as the reference has it since 1.0.16.
fn problem(status: u16, title: &str) -> String {
    let body = json!({"type": "about:blank", "title": title, "status": status,
        "instance": "/diagnosiskeys/upload"});
    let headers = [("content-type", "application/problem+json")];
    answer(&format!("{status} {title}"), &headers, &body.to_string())
}

fn connection(pki: &Pki, target: Target) -> Connection {
    let own = pki.folder.path().join("DE");
    let caller = Caller::from_files(
        "DE",
        &own.join("authentication.pem"),
        &own.join("authentication.key"),
        &pki.folder.path().join("server-ca.pem"),
        Protocol::Http1,
    );
    let timeout = Duration::from_secs(30);
    Connection::new(Arc::new(caller.unwrap()), Arc::from([target]), 0, timeout)
}

fn uploader(pki: &Pki, target: Target) -> Uploader {
    let own = pki.folder.path().join("DE");
    let signer = BatchSigner::from_files(
        &own.join("signing.pem"),
        &own.join("signing.key"),
        RsaScheme::Pkcs1,
    );
    Uploader::new(connection(pki, target), signer.unwrap(), "DE")
}

fn keys(country: &str, numbers: std::ops::Range<u8>) -> Vec<DiagnosisKey> {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let key = |number| DiagnosisKey {
        key_data: vec![number; 16],
        rolling_start_interval_number: u32::try_from(now / 86_400 * 144 - 144).unwrap(),
        rolling_period: 144,
        transmission_risk_level: 3,
        visited_countries: vec!["FR".to_owned()],
        origin: country.to_owned(),
        report_type: 1,
        days_since_onset_of_symptoms: 2,
    };
    numbers.map(key).collect()
}

fn journal(pending: Pending) -> MemoryJournal {
    MemoryJournal {
        pending: vec![pending],
        ..MemoryJournal::default()
    }
}

fn stored(journal: &MemoryJournal) -> Vec<DiagnosisKey> {
    let outcomes = journal.outcomes.iter().map(|outcome| match outcome {
        KeyOutcome::Stored(key) | KeyOutcome::Known(key) => key.clone(),
        KeyOutcome::Refused { reason, .. } => panic!("{reason}"),
    });
    let mut keys: Vec<_> = outcomes.collect();
    keys.sort();
    keys
}

/// The answer to an upload is lost; the reference takes the repeat for another upload with that tag, and
/// then says of every key that it has it.
#[tokio::test]
async fn finds_out_what_a_lost_answer_stored() {
    let pki = pki(&[("DE", Key::P256)]);
    let known = answer(
        "207 Multi-Status",
        &[],
        r#"{"500":[],"201":[],"409":[0,1,2]}"#,
    );
    let busy = answer("503 Service Unavailable", &[("retry-after", "0")], "<html>");
    let (target, served) = server(vec![String::new(), busy, problem(409, "Conflict"), known]).await;
    let mut journal = journal(Pending::new("DE", keys("DE", 0..3)));
    uploader(&pki, target).drain(&mut journal, 5).await.unwrap();
    assert_eq!(stored(&journal), keys("DE", 0..3));
    let seen = served.await.unwrap();
    for again in &seen[1..3] {
        assert_eq!(again.header("batchTag"), seen[0].header("batchTag"));
        assert_eq!(again.body, seen[0].body);
    }
    assert_ne!(seen[3].header("batchTag"), seen[0].header("batchTag"));
    assert_eq!(seen[3].body, seen[0].body);
}

#[tokio::test]
async fn sends_again_what_a_207_has_not_stored() {
    let pki = pki(&[("DE", Key::P256)]);
    let partly = answer(
        "207 Multi-Status",
        &[],
        r#"{"500":[],"201":[0,2],"409":[1]}"#,
    );
    let created = answer("201 Created", &[("batchtag", "x")], "");
    let (target, served) = server(vec![partly, created]).await;
    let mut journal = journal(Pending::new("DE", keys("DE", 0..3)));
    uploader(&pki, target).drain(&mut journal, 5).await.unwrap();
    assert_eq!(stored(&journal), keys("DE", 0..3));
    let seen = served.await.unwrap();
    let rest = [keys("DE", 0..1), keys("DE", 2..3)].concat();
    assert_eq!(seen[1].body, encode(&rest));
    assert_ne!(
        seen[1].header("batchSignature"),
        seen[0].header("batchSignature")
    );
}

#[tokio::test]
async fn keeps_keys_that_are_not_at_fault() {
    let pki = pki(&[("DE", Key::P256)]);
    let (target, _served) = server(vec![problem(400, "Bad Request")]).await;
    let mut journal = journal(Pending::new("DE", keys("DE", 0..3)));
    let stopped = uploader(&pki, target).drain(&mut journal, 5).await;
    assert!(
        matches!(&stopped, Err(UploadError::Stopped(reason)) if reason.contains("Bad Request"))
    );
    assert_eq!(journal.pending[0].keys, keys("DE", 0..3));
}

fn batch(tag: &str, next: Option<&str>) -> String {
    let mut headers = vec![("batchtag", tag)];
    headers.extend(next.map(|next| ("nextbatchtag", next)));
    answer("200 OK", &headers, "")
}

/// Reads until there is nothing new; returns the tags, with `|` for a gap.
async fn read_all(downloader: &mut Downloader, cursor: &mut Cursor) -> Vec<String> {
    let mut tags = Vec::new();
    loop {
        // As after a restart.
        let text = serde_json::to_string(cursor).unwrap();
        match downloader
            .read(&serde_json::from_str(&text).unwrap())
            .await
            .unwrap()
        {
            Read::Batch(batch) => {
                tags.push(batch.tag);
                *cursor = batch.cursor;
            }
            Read::Gap(later) => {
                tags.push("|".to_owned());
                *cursor = later;
            }
            Read::UpToDate => return tags,
        }
    }
}

fn day(back: u64) -> (String, String) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let day = engine::domain::Day::from_unix_seconds(now - back * 86_400);
    (day.to_string(), day.compact_number().to_string())
}

#[tokio::test]
async fn follows_links_over_days_and_asks_for_the_last_one_again() {
    let pki = pki(&[("DE", Key::P256)]);
    let (yesterday, y) = day(1);
    let (_, t) = day(0);
    let (y1, y2, t1) = (format!("{y}-1"), format!("{y}-2"), format!("{t}-1"));
    let missing = || problem(404, "Not Found");
    let answers = vec![
        batch(&y1, Some(&y2)),
        batch(&y2, Some("null")),
        // Nothing yet: the last one has no link, and today has no batch.
        batch(&y2, None),
        missing(),
        // Later.
        batch(&y2, Some(&t1)),
        batch(&t1, Some("NULL")),
        batch(&t1, Some(&t1)),
    ];
    let (target, served) = server(answers).await;
    let mut downloader = Downloader::new(connection(&pki, target));
    let mut cursor = Cursor::since(&yesterday).unwrap();
    assert_eq!(read_all(&mut downloader, &mut cursor).await, [y1, y2]);
    assert_eq!(read_all(&mut downloader, &mut cursor).await, [t1]);
    let seen = served.await.unwrap();
    let asked: Vec<_> = seen
        .iter()
        .map(|seen| seen.head.split(' ').nth(1).unwrap())
        .collect();
    assert!(
        asked[0].ends_with(&yesterday) && asked[5].ends_with(&day(0).0),
        "{asked:?}"
    );
}

#[tokio::test]
async fn finds_the_next_day_where_links_end_at_midnight_and_tells_of_gaps() {
    let pki = pki(&[("DE", Key::P256)]);
    let (old, o) = day(2);
    let (y1, y2, t1) = (
        format!("{}-1", day(1).1),
        format!("{}-2", day(1).1),
        format!("{}-1", day(0).1),
    );
    let gone = || problem(410, "Gone");
    let answers = vec![
        batch(&format!("{o}-7"), Some(&format!("{o}-8"))),
        // The next one is gone, as is the day; yesterday's first batch is what comes next.
        gone(),
        gone(),
        batch(&y1, Some("null")),
        batch(&y1, Some("null")),
        // No link, but today has a batch; meanwhile yesterday has got another one.
        batch(&y1, None),
        batch(&t1, None),
        batch(&y1, Some(&y2)),
        batch(&y2, Some("null")),
        batch(&y2, None),
        batch(&t1, None),
        batch(&y2, None),
        batch(&t1, None),
    ];
    let (target, _served) = server(answers).await;
    let mut downloader = Downloader::new(connection(&pki, target));
    let mut cursor = Cursor::since(&old).unwrap();
    let tags = read_all(&mut downloader, &mut cursor).await;
    assert_eq!(tags, [format!("{o}-7"), "|".to_owned(), y1, y2, t1]);
}

/// An entry of an audit in the reference's shape.
fn entry(pki: &Pki, country: &str, keys: &[DiagnosisKey]) -> Value {
    let (uploader, uploader_signature) = pki.certificate(country, "authentication");
    let (signing, signing_signature) = pki.certificate(country, "signing");
    let participants = pki.participants.iter();
    let mut participants = participants.filter(|one| one.country.as_str() == country);
    let signer = &participants.next().unwrap().signer;
    let now = engine::Clock::now(&engine::SystemClock);
    let content = signed_bytes(&encode(keys)).unwrap();
    json!({
        "country": country, "uploadedTime": "2021-06-01T12:00:00.00Z", "amount": keys.len(),
        "uploaderCertificate": uploader, "uploaderThumbprint": thumbprint(&uploader),
        "uploaderOperatorSignature": uploader_signature,
        "signingCertificate": signing, "uploaderSigningThumbprint": thumbprint(&signing),
        "signingCertificateOperatorSignature": signing_signature,
        "batchSignature": signer.sign_base64(&content, now, Encoding::BerIndefinite),
    })
}

fn thumbprint(pem: &str) -> String {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject as _;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let hex: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    hex.trim_start_matches('0').to_owned()
}

#[test]
fn proves_interleaved_uploads_with_own_entries_anywhere() {
    let other = pki(&[("DE", Key::P256)]);
    let pki = pki(&[("DE", Key::P256), ("FR", Key::Rsa), ("IT", Key::P256)]);
    let anchor = |pki: &Pki| SigningCertificate::from_der(&pki.anchor()).unwrap();
    // As while the operator changes from one to the next, in either order.
    let auditor = Auditor::new(vec![anchor(&pki), anchor(&other)], "DE");
    let (fr, more, it) = (keys("FR", 0..2), keys("FR", 2..4), keys("IT", 4..6));
    let (first, own, second, third) = (
        entry(&pki, "FR", &fr),
        entry(&pki, "DE", &keys("DE", 7..9)),
        entry(&pki, "IT", &it),
        entry(&pki, "FR", &more),
    );
    let audit = json!([first, own, second, third]).to_string();
    let in_order = [fr.clone(), it.clone(), more.clone()].concat();
    let interleaved = [&fr[0], &it[0], &fr[1], &more[0], &it[1], &more[1]].map(Clone::clone);
    for batch in [&in_order[..], &interleaved] {
        let audited = auditor.verify(batch, audit.as_bytes()).unwrap();
        assert!(audited.is_proven(), "{:?}", audited.uploads);
        assert_eq!(audited.uploads[2].keys, more);
    }
    let next = Auditor::new(vec![anchor(&other), anchor(&pki)], "DE");
    assert!(
        next.verify(&in_order, audit.as_bytes())
            .unwrap()
            .is_proven()
    );
    let stranger = Auditor::new(vec![anchor(&other)], "DE");
    let unproven = stranger.verify(&in_order, audit.as_bytes()).unwrap();
    assert!(unproven.uploads.iter().all(|upload| upload.proof.is_err()));
    let forged = [&fr[..], &keys("IT", 8..10), &more].concat();
    let audited = auditor.verify(&forged, audit.as_bytes()).unwrap();
    let proofs: Vec<_> = audited
        .uploads
        .iter()
        .map(|upload| upload.proof.is_ok())
        .collect();
    assert_eq!(proofs, [true, false, true]);
    let short = auditor.verify(&in_order[..5], audit.as_bytes()).unwrap();
    assert!(!short.is_proven());
    let long = [&in_order[..], &keys("ES", 9..10)].concat();
    let long = auditor.verify(&long, audit.as_bytes()).unwrap();
    assert_eq!((long.is_proven(), long.unaccounted.len()), (false, 1));
    assert!(auditor.verify(&in_order, b"{}").is_err());

    let mut broken = entry(&pki, "FR", &fr);
    let reason = |entry: &Value| {
        let audit = json!([entry]).to_string();
        auditor.verify(&fr, audit.as_bytes()).unwrap().uploads[0].proof
    };
    assert_eq!(reason(&broken), Ok(()));
    broken["signingCertificate"] = Value::Null;
    assert_eq!(reason(&broken), Err(Unproven::Incomplete));
    broken = entry(&pki, "FR", &fr);
    broken["signingCertificate"] = pki.certificate("IT", "signing").0.into();
    let failed = reason(&broken).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "Signer: the thumbprint is that of another certificate"
    );
    broken["uploaderSigningThumbprint"] = thumbprint(&pki.certificate("IT", "signing").0).into();
    let failed = reason(&broken).unwrap_err();
    assert_eq!(
        failed.to_string(),
        "Signer: no valid signature of a trust anchor"
    );
}

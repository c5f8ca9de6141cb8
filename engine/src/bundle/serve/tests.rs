use bytes::Bytes;
use crossbeam::channel::{Receiver, TryRecvError, bounded};

use super::*;
use crate::bundle::BundledUpload;
use crate::bundle::cache::Cacheable as _;
use crate::clock::ManualClock;
use crate::domain::{Seq, Thumbprint, UnixMillis};
use crate::settings::DatabaseUrl;
use crate::store::{AuditEntry, migrate};

const TAG: &str = "20201006-1";

/// One batch that stays cold, because no reader processes the jobs.
fn cold() -> (Serve, tempfile::TempDir) {
    cold_with_cache(0)
}

fn cold_with_cache(bytes_max: usize) -> (Serve, tempfile::TempDir) {
    let clock = ManualClock::new(UnixMillis(1_601_942_400_000));
    let keys = Keys::parse(&Keys::generate_text()).unwrap();
    let fresh = Arc::new(FreshSegments::new(0));
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    migrate(&database).unwrap();
    let mut store = Store::open(&database).unwrap();
    let continuity =
        Arc::new(Continuity::start(&database, None, keys.chain(), &mut store).unwrap());
    let clock = Arc::new(clock);
    let serve = Serve::new(keys, clock, continuity, fresh, bytes_max, 2, Arc::default());
    let upload = BundledUpload {
        seq: Seq(1),
        country: Country::parse("IT").unwrap(),
        key_count: 1,
        is_withdrawn: false,
    };
    let batch = DownloadBatch {
        ordinal: 1,
        tag: BatchTag::parse(TAG).unwrap(),
        seqs: 1..=1,
        uploads: vec![upload],
        record: Default::default(),
    };
    serve.adopt(&[Arc::new(batch)]).unwrap();
    (serve, folder)
}

fn request(country: &str) -> DownloadRequest {
    DownloadRequest {
        country: Country::parse(country).unwrap(),
        date: BatchTag::parse(TAG).unwrap().day,
        tag: None,
        format: Format::Protobuf,
    }
}

#[test]
fn reads_nothing_cold_from_a_database_that_went_back() {
    // The database has no such batch any more.
    let (serve, folder) = cold();
    let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    let mut store = Store::open(&database).unwrap();
    let (sender, answers) = bounded(1);
    let reply = Box::new(move |answer| sender.send(answer).unwrap());
    serve.download(request("DE"), DownloadReply::Keys(reply));
    serve.run(serve.jobs.receive().unwrap(), &mut store);
    let answer = answers.try_recv().unwrap();
    let went_back = matches!(
        answer,
        Err(DownloadError::Failure(Failure::DatabaseWentBack))
    );
    assert!(went_back, "{answer:?}");
}

#[test]
fn audits_nothing_of_a_database_that_went_back() {
    let (serve, folder) = cold();
    let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    let mut store = Store::open(&database).unwrap();
    let (sender, answers) = bounded(1);
    let (country, date) = (request("DE").country, request("DE").date);
    let asked = AuditRequest {
        country,
        trust: Arc::new(Trust::default()),
        reply: Box::new(move |answer| sender.send(answer.map(drop)).unwrap()),
    };
    serve.audit(date, TAG, asked);
    serve.run(serve.jobs.receive().unwrap(), &mut store);
    let answer = answers.try_recv().unwrap();
    let went_back = matches!(
        answer,
        Err(DownloadError::Failure(Failure::DatabaseWentBack))
    );
    assert!(went_back, "{answer:?}");
}

#[test]
fn gives_the_head_of_a_cold_bundle_without_reading_it() {
    let (serve, _folder) = cold();
    let (sender, answers) = bounded(1);
    let reply = Box::new(move |head| sender.send(head).unwrap());
    serve.download(request("DE"), DownloadReply::Head(reply));
    // Another gateway may have deleted it: that is asked first.
    assert!(answers.try_recv().is_err());
    let jobs = serve.jobs.extract(|_| true);
    assert!(matches!(jobs[..], [Job::Head(..)]));
    assert_eq!(jobs[0].reading(), None, "no bundle is read");
}

/// Who asks, and the sentence that answers; in the order of the answers.
type Answers = Receiver<(Country, Option<OverloadBound>)>;

fn asking(serve: &Serve) -> (impl Fn(&str), Answers) {
    let (sender, answers) = bounded(1024);
    let ask = move |country: &str| {
        let (sender, request) = (sender.clone(), request(country));
        let country = request.country;
        let reply = Box::new(move |answer: Result<Download, DownloadError>| {
            let bound = match answer {
                Err(DownloadError::Overload(overload)) => Some(overload.bound),
                _ => None,
            };
            sender.send((country, bound)).unwrap();
        });
        serve.download(request, DownloadReply::Keys(reply));
    };
    (ask, answers)
}

#[test]
fn refuses_who_has_its_share_of_the_cold_reads_and_nobody_else() {
    let (serve, _folder) = cold();
    let (ask, answers) = asking(&serve);
    for _ in 0..limits::PARTICIPANT_COLD_READS_MAX {
        ask("DE");
    }
    assert!(answers.is_empty(), "all of them wait");
    ask("DE");
    let (country, bound) = answers.try_recv().expect("the next one is refused");
    assert_eq!(country.as_str(), "DE");
    assert_eq!(bound, Some(OverloadBound::ColdReads));
    ask("FR");
    assert!(answers.is_empty(), "another participant waits for its turn");
    // A participant's second job comes after the first of every other.
    assert_eq!(serve.jobs.receive().unwrap().country().as_str(), "DE");
    assert_eq!(serve.jobs.receive().unwrap().country().as_str(), "FR");
}

#[test]
fn reads_a_bundle_once_for_all_who_wait_for_it() {
    let (serve, _folder) = cold();
    let (ask, answers) = asking(&serve);
    for country in ["DE", "FR", "DE", "ES"] {
        ask(country);
    }
    let (first, second) = (serve.jobs.receive(), serve.jobs.receive());
    let (Some(Job::Read(first)), Some(Job::Read(second))) = (first, second) else {
        panic!("both wait for the bundle");
    };
    let (key, batch) = (first.key(), Arc::clone(&first.found.batch));
    assert!(serve.begin_or_join(first));
    assert!(!serve.begin_or_join(second), "one thread reads it");
    let bundle = Bundle {
        format: key.1,
        segments: Box::new([Bytes::new()]),
    };
    serve.hand_out(&batch, key.1, Ok(Arc::new(bundle)));
    assert_eq!(answers.len(), 4);
    assert!(serve.lock_reading().is_empty());
    assert!(serve.jobs.extract(|_| true).is_empty());
}

#[test]
fn refuses_answers_beyond_a_participants_share() {
    let (serve, _folder) = cold();
    let bytes = limits::answer_share_bytes_max(limits::in_use_bytes_max(0, Bundle::LARGEST_BYTES));
    let bundle = Bundle {
        format: Format::Protobuf,
        segments: Box::from([Bytes::from(vec![0; bytes])]),
    };
    let _in_memory = serve.cache.insert(1, Format::Protobuf, bundle);
    let ask = |code: &str| {
        let (sender, answers) = bounded(1);
        let reply = Box::new(move |answer| sender.send(answer).unwrap());
        serve.download(request(code), DownloadReply::Keys(reply));
        answers.try_recv().expect("it is warm")
    };
    let first = ask("DE").unwrap();
    let Err(DownloadError::Overload(overload)) = ask("DE") else {
        panic!("the next one is beyond the share");
    };
    assert_eq!(overload.bound, OverloadBound::AnswerShare);
    assert!(ask("ES").is_ok(), "another has its own share");
    drop(first);
    assert!(ask("DE").is_ok());
}

fn entry(batch_signature: Box<str>) -> AuditEntry {
    AuditEntry {
        seq: Seq(1),
        country: Country::parse("IT").unwrap(),
        uploaded_at: UnixMillis(0),
        uploader: Thumbprint([0; 32]),
        signer: Thumbprint([0; 32]),
        key_count: 1,
        batch_signature,
    }
}

/// The audit of the only batch, if it is there at once.
fn audit(
    serve: &Serve,
    code: &str,
    trust: &Arc<Trust>,
) -> Result<Result<Audit, DownloadError>, TryRecvError> {
    let (sender, answers) = bounded(1);
    let request = AuditRequest {
        country: Country::parse(code).unwrap(),
        trust: Arc::clone(trust),
        reply: Box::new(move |audit| sender.send(audit).unwrap()),
    };
    let batch = serve.catalog().newest().unwrap();
    serve.audit(batch.tag.day, TAG, request);
    answers.try_recv()
}

#[test]
fn refuses_audits_beyond_a_participants_share() {
    let (serve, _folder) = cold();
    let trust = Arc::new(Trust::default());
    let share = serve.answer_shares().audit_bytes;
    let signature = "A".repeat(share / 2 + 1).into();
    let entries = AuditEntries::new(&[entry(signature)], &trust);
    let batch = serve.catalog().newest().unwrap();
    let version = serve.audit_version(&trust);
    let _in_memory = serve.audits.insert(batch.ordinal, version, entries);
    let ask = |code| audit(&serve, code, &trust).expect("it is warm");
    let first = ask("DE").unwrap();
    let Err(DownloadError::Overload(overload)) = ask("DE") else {
        panic!("the next one is beyond the share");
    };
    assert_eq!(overload.bound, OverloadBound::AnswerShare);
    assert!(ask("ES").is_ok(), "another has its own share");
    drop(first);
    assert!(ask("DE").is_ok());
}

#[test]
fn keeps_an_audit_that_nobody_is_sent() {
    let (serve, _folder) = cold_with_cache(64 << 10);
    let trust = Arc::new(Trust::default());
    let batch = serve.catalog().newest().unwrap();
    let entries = AuditEntries::new(&[entry("".into())], &trust);
    let version = serve.audit_version(&trust);
    drop(serve.audits.insert(batch.ordinal, version, entries));
    for _ in 0..2 {
        assert!(audit(&serve, "DE", &trust).is_ok(), "at once");
    }
}

#[test]
fn makes_an_audit_once_for_all() {
    let (serve, _folder) = cold();
    let trust = Arc::new(Trust::default());
    let batch = serve.catalog().newest().unwrap();
    let entry = entry("".into());
    let ask = |trust: &Arc<Trust>| audit(&serve, "DE", trust);
    assert!(ask(&trust).is_err(), "it is cold");
    assert_eq!(serve.waiting_most(), 1);
    let entries = AuditEntries::new(&[entry], &trust);
    // The cache has no room for what nobody is sent.
    let version = serve.audit_version(&trust);
    let _sent = serve.audits.insert(batch.ordinal, version, entries);
    let audits = [&trust; 2].map(|trust| ask(trust).expect("at once").unwrap());
    let [one, other] = audits.map(|audit| audit.chunk(1).as_ptr());
    assert_eq!(one, other, "the same bytes");
    let renewed = Arc::new(Trust::default());
    assert!(ask(&renewed).is_err(), "another list is shown");
    assert_eq!(serve.waiting_most(), 2);
    let entries = AuditEntries::new(&[], &renewed);
    let version = serve.audit_version(&renewed);
    let _sent = serve.audits.insert(batch.ordinal, version, entries);
    assert!(ask(&renewed).is_ok());
    serve.withdrawn_to().number += 1;
    assert!(ask(&renewed).is_err(), "an upload was withdrawn");
}

//! Retention: what is too old is deleted, by whole download batches, and everything else stays; and
//! statistics. On both databases.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test; it names the case that fails"
)]

#[path = "retention/clocks.rs"]
mod clocks;
mod support;

use engine::admin::Admin;
use engine::bundle::{Download, DownloadError, DownloadHead, DownloadRefusal, DownloadRequest};
use engine::domain::{Country, Day, Format, UnixMillis};
use engine::statistics::{Cleanup, CountryDay, Statistics};
use engine::upload::Receipt;
use engine::{Clock as _, Engine, Rejection, SystemClock, UploadError};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::{Duration, Instant};
use support::{Installation, NOON, Participant, download, download_chain, participants, upload};
use testkit::local::MariaDb;

use clocks::{
    a_clock_that_is_ahead_deletes_nothing, a_day_that_lay_in_the_future_stops_nothing_later,
    a_gateway_that_was_off_for_three_weeks_waits_for_an_hour,
    a_jump_of_the_clock_deletes_forgets_and_names_nothing, an_operator_confirms_the_day,
    nothing_happens_when_the_clock_is_set_back,
    nothing_is_lost_or_stored_twice_whatever_the_clock_shows,
};

const HOUR_MS: u64 = 3_600_000;

const DAY_MS: u64 = 24 * HOUR_MS;

/// An installation from which keys can be downloaded for two days, with its participants.
struct RetentionTest {
    installation: Installation,
    participants: Vec<Participant>,
    gateways: usize,
}

struct Gateways(Vec<Engine>);

impl std::ops::Deref for Gateways {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.0[0]
    }
}

impl Gateways {
    fn shutdown_all(&self) {
        self.0.iter().for_each(Engine::shutdown);
    }
}

impl RetentionTest {
    fn new(mut installation: Installation, gateways: usize) -> Self {
        installation.settings.download.max_age_days = 2;
        Self {
            installation,
            participants: participants(),
            gateways,
        }
    }

    /// Starts all gateways; the first one is asked.
    fn start(&self) -> Gateways {
        Gateways(
            (0..self.gateways)
                .map(|_| self.installation.start())
                .collect(),
        )
    }

    fn today(&self) -> Day {
        self.installation.now().day()
    }

    /// Moves the clock to the same time on a later day.
    fn pass_days(&self, days: u64) {
        self.installation.clock.advance_millis(days * DAY_MS);
    }

    /// Uploads keys with these numbers that began `days` ago.
    fn upload_aged(
        &self,
        engine: &Engine,
        sender: usize,
        tag: &str,
        keys: std::ops::Range<u64>,
        days: u64,
    ) -> Result<Receipt, UploadError> {
        let sender = &self.participants[sender];
        let now = self.installation.now();
        let began = UnixMillis(now.0 - days * DAY_MS);
        let keys: Vec<_> = keys.map(|number| sender.key(number, began)).collect();
        upload(engine, sender.upload(tag, &keys, now))
    }

    /// Moves the clock by days, while no time passes.
    fn jump(&self, days: i64) {
        let now = self.installation.now().0;
        let millis = days.unsigned_abs() * DAY_MS;
        let then = if days < 0 { now - millis } else { now + millis };
        self.installation.clock.set(UnixMillis(then));
    }

    /// Restarts all gateways; each looks for what is too old as soon as it has started.
    fn restart(&self, engine: &mut Gateways) {
        engine.shutdown_all();
        *engine = self.start();
    }

    /// Downloads as PL, which uploads nothing.
    fn download(
        &self,
        engine: &Engine,
        date: Day,
        tag: Option<&str>,
    ) -> Result<Download, DownloadError> {
        download(engine, country("PL"), date, tag, Format::Protobuf)
    }

    /// The same without the keys.
    fn head(&self, engine: &Engine, date: Day, tag: &str) -> Result<DownloadHead, DownloadError> {
        let request = DownloadRequest {
            country: country("PL"),
            date,
            tag: Some(tag.into()),
            format: Format::Protobuf,
        };
        let (sender, receiver) = std::sync::mpsc::channel();
        engine.download_head(request, move |head| sender.send(head).unwrap());
        receiver.recv().unwrap()
    }

    /// How a key that was sent on `now` is answered.
    fn send_key(&self, engine: &Engine, tag: &str, key: u64, now: UnixMillis) -> Receipt {
        let sender = &self.participants[0];
        let keys = [sender.key(key, now)];
        upload(engine, sender.upload(tag, &keys, now)).unwrap()
    }

    fn upload(&self, engine: &Engine, sender: usize, tag: &str, keys: std::ops::Range<u64>) {
        let answer = self.upload_aged(engine, sender, tag, keys, 0);
        let receipt = answer.unwrap();
        assert!(
            matches!(
                receipt,
                Receipt::Stored {
                    replayed: false,
                    ..
                }
            ),
            "{tag}: {receipt:?}"
        );
    }

    fn statistics(&self) -> Statistics {
        let mut admin = Admin::open(&self.installation.settings.database).unwrap();
        let until = NOON.plus_millis(60 * DAY_MS).day();
        admin.statistics(NOON.day(), until).unwrap()
    }

    /// Waits until retention has done all its work of today.
    fn cleaned_up(&self, keys_deleted: u64) -> Cleanup {
        wait_for(|| {
            let cleanups = self.statistics().cleanups;
            let of_today = |cleanup: &Cleanup| cleanup.day == self.today();
            let found = cleanups.into_iter().find(of_today)?;
            (found.keys_deleted >= keys_deleted).then_some(found)
        })
    }

    /// The chain from today's point of view has this many keys for PL, which uploads nothing.
    fn wait_until_downloadable(&self, engine: &Engine, keys: u64) -> Vec<String> {
        let oldest = self.today().minus_days(2);
        let chain = download_chain(engine, country("PL"), oldest, keys);
        chain
            .iter()
            .map(|found| found.batch.tag.to_string())
            .collect()
    }
}

fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it does not happen");
        std::thread::yield_now();
    }
}

type Case = fn(RetentionTest);

/// The cases, which run on both databases.
const CASES: [(&str, Case); 16] = [
    ("again", a_key_is_refused_for_as_long_as_it_could_come_again),
    ("whole", whole_batches_are_deleted_by_their_day),
    ("memory", uploads_are_forgotten_in_every_memory),
    ("silence", the_newest_batch_stays_through_a_long_silence),
    ("back", nothing_happens_when_the_clock_is_set_back),
    ("ahead", a_clock_that_is_ahead_deletes_nothing),
    ("middle", a_gateway_continues_where_another_stopped),
    ("downloads", answered_downloads_are_counted),
    (
        "jump",
        a_jump_of_the_clock_deletes_forgets_and_names_nothing,
    ),
    (
        "off",
        a_gateway_that_was_off_for_three_weeks_waits_for_an_hour,
    ),
    ("confirmed", an_operator_confirms_the_day),
    ("future", a_day_that_lay_in_the_future_stops_nothing_later),
    (
        "raised",
        what_is_gone_stays_gone_when_its_age_is_allowed_again,
    ),
    ("practice", batches_of_a_practice_gateway_go_within_the_day),
    ("elsewhere", what_another_gateway_has_deleted_is_gone_here),
    (
        "walk",
        nothing_is_lost_or_stored_twice_whatever_the_clock_shows,
    ),
];

#[test]
fn keeps_its_promises_on_sqlite() {
    for (name, run) in CASES {
        println!("test {name}");
        run(RetentionTest::new(Installation::on_sqlite(), 1));
    }
}

#[test]
fn keeps_its_promises_on_mariadb_with_three_gateways() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    for (name, run) in CASES {
        println!("test {name}");
        let installation = Installation::on_mysql(&server, name);
        run(RetentionTest::new(installation, 3));
    }
}

fn a_key_is_refused_for_as_long_as_it_could_come_again(test: RetentionTest) {
    let mut engine = test.start();
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    for (days, deleted) in [(4, 3), (7, 0), (15, 0)] {
        test.pass_days(days - (test.installation.now().0 - NOON.0) / DAY_MS);
        test.cleaned_up(deleted);
        let again = test.upload_aged(&engine, 0, &format!("b{days}"), 2..4, days);
        let refused = Receipt::Refused {
            key_count: 2,
            duplicates: vec![0],
        };
        assert_eq!(again.unwrap(), refused, "after {days} days");
        // The same when the set comes from the database.
        engine.shutdown_all();
        engine = test.start();
        let again = test.upload_aged(&engine, 0, "c", 2..4, days).unwrap();
        assert_eq!(again, refused, "after {days} days and a restart");
    }
    test.pass_days(1);
    let answer = test.upload_aged(&engine, 0, "d", 2..3, 16);
    assert!(matches!(
        answer,
        Err(UploadError::Rejection(Rejection::InvalidKey {
            index: 0,
            ..
        }))
    ));
}

fn whole_batches_are_deleted_by_their_day(test: RetentionTest) {
    let engine = test.start();
    // More uploads than one transaction takes, in several download batches.
    for at in 0..40 {
        test.upload(&engine, 0, &format!("old{at}"), at * 2..at * 2 + 2);
    }
    test.wait_until_downloadable(&engine, 80);
    test.pass_days(1);
    test.upload(&engine, 1, "new", 100..107);
    let tags = test.wait_until_downloadable(&engine, 87);
    let newest = tags.last().unwrap().clone();
    assert_eq!(newest, "20210602-1");

    test.pass_days(2);
    let cleanup = test.cleaned_up(80);
    let counted = (
        cleanup.keys_before,
        cleanup.keys_deleted,
        cleanup.keys_after,
    );
    assert_eq!(counted, (87, 80, 7));
    // Without a cut, the catalog has dropped what is gone; the rest is whole.
    let batch = download(
        &engine,
        country("DE"),
        test.today().minus_days(2),
        None,
        Format::Protobuf,
    );
    let batch = batch.unwrap();
    assert_eq!(
        (batch.batch.tag.to_string(), batch.key_count()),
        (newest.clone(), 7)
    );
    let old = download(
        &engine,
        country("PL"),
        test.today().minus_days(2),
        Some(&tags[0]),
        Format::Protobuf,
    );
    assert!(matches!(
        old,
        Err(DownloadError::Refused(
            DownloadRefusal::UnknownBatchTag | DownloadRefusal::BatchBeforeDate
        ))
    ));
    // Read back, not from memory.
    engine.shutdown_all();
    let engine = test.start();
    assert_eq!(test.wait_until_downloadable(&engine, 7), [newest]);
}

fn uploads_are_forgotten_in_every_memory(test: RetentionTest) {
    let engine = test.start();
    test.upload(&engine, 0, "a", 0..20);
    test.upload(&engine, 1, "a", 0..5);
    test.wait_until_downloadable(&engine, 25);
    test.pass_days(1);
    test.upload(&engine, 0, "b", 20..23);
    test.wait_until_downloadable(&engine, 28);
    test.pass_days(17);
    test.cleaned_up(28);
    for engine in &engine.0 {
        // The last row of the log stays.
        wait_for(|| (engine.status().identities == 3).then_some(()));
    }
    // The tag is free again, and its use is counted on two days.
    test.upload(&engine, 0, "a", 50..51);
    let days = test.statistics().days;
    let uploads: Vec<_> = days
        .iter()
        .filter(|day| day.uploads > 0)
        .map(uploads_of)
        .collect();
    let expected = [
        ("2021-06-01 DE".to_owned(), 1, 20),
        ("2021-06-01 IT".to_owned(), 1, 5),
        ("2021-06-02 DE".to_owned(), 1, 3),
        ("2021-06-19 DE".to_owned(), 1, 1),
    ];
    assert_eq!(uploads, expected);
    // The chain continues, and a gateway that starts now agrees.
    assert_eq!(test.wait_until_downloadable(&engine, 1), ["20210619-1"]);
    engine.shutdown_all();
    let engine = test.start();
    assert_eq!(engine.status().log_position, 4);
    assert_eq!(test.wait_until_downloadable(&engine, 1), ["20210619-1"]);
}

fn uploads_of(day: &CountryDay) -> (String, u64, u64) {
    (
        format!("{} {}", day.day, day.country),
        day.uploads,
        day.uploaded_keys,
    )
}

fn the_newest_batch_stays_through_a_long_silence(test: RetentionTest) {
    let engine = test.start();
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    test.pass_days(30);
    test.cleaned_up(3);
    engine.shutdown_all();
    let engine = test.start();
    assert_eq!(engine.status().log_position, 1);
    // Not yet known for sure to be in the past: some other row must take its place first.
    test.upload(&engine, 0, "b", 10..12);
    assert_eq!(test.wait_until_downloadable(&engine, 2), ["20210701-1"]);
    assert_eq!(engine.status().log_position, 2);
}

fn a_gateway_continues_where_another_stopped(test: RetentionTest) {
    let engine = test.start();
    for at in 0..200 {
        test.upload(&engine, 0, &format!("{at}"), at..at + 1);
    }
    test.wait_until_downloadable(&engine, 200);
    test.pass_days(3);
    // Stopped as soon as a first step has been taken; again and again.
    let mut engine = engine;
    for _ in 0..3 {
        test.cleaned_up(0);
        engine.shutdown_all();
        engine = test.start();
    }
    let cleanup = test.cleaned_up(200);
    let counted = (
        cleanup.keys_before,
        cleanup.keys_deleted,
        cleanup.keys_after,
    );
    assert_eq!(counted, (200, 200, 0));
}

fn answered_downloads_are_counted(test: RetentionTest) {
    let engine = test.start();
    test.upload(&engine, 0, "a", 0..3);
    test.upload(&engine, 1, "a", 0..2);
    test.wait_until_downloadable(&engine, 5);
    let ask = |code, tag: Option<&str>| {
        let today = test.today();
        download(&engine, country(code), today, tag, Format::Protobuf)
    };
    // What the wait has asked for is not known in number: another country counts.
    let mut keys = 0;
    let mut tag = None;
    while let Ok(found) = ask("DE", tag.as_deref()) {
        keys += u64::from(found.key_count());
        tag = found.next.map(|tag| tag.to_string());
        if tag.is_none() {
            break;
        }
    }
    assert_eq!(keys, 2);
    ask("IT", None).unwrap();
    ask("IT", None).unwrap();
    ask("ES", Some("20210601-99")).unwrap_err();
    ask("ES", None).unwrap();
    engine.shutdown_all();
    let days = test.statistics().days;
    let of = |code| {
        *days
            .iter()
            .find(|day| day.country == country(code))
            .unwrap()
    };
    let (de, it, es) = (of("DE"), of("IT"), of("ES"));
    assert_eq!(
        (de.uploads, de.uploaded_keys, de.downloaded_keys),
        (1, 3, 2)
    );
    assert_eq!(de.downloads, de.batches);
    assert_eq!((it.downloads, it.batches, it.uploaded_keys), (2, 1, 2));
    assert_eq!((es.downloads, es.batches, es.uploads), (1, 1, 0));

    // Another gateway, or the next run, adds to the same rows.
    let engine = test.start();
    let answer = download(&engine, country("IT"), test.today(), None, Format::Json);
    answer.unwrap();
    engine.shutdown_all();
    let days = test.statistics().days;
    let it = days
        .iter()
        .find(|day| day.country == country("IT"))
        .unwrap();
    assert_eq!((it.downloads, it.batches), (3, 1));
}

fn is_refused(answer: &Result<Download, DownloadError>, refusal: DownloadRefusal) -> bool {
    matches!(answer, Err(DownloadError::Refused(found)) if *found == refusal)
}

fn is_stored(receipt: &Receipt) -> bool {
    matches!(
        receipt,
        Receipt::Stored {
            replayed: false,
            ..
        }
    )
}

fn what_is_gone_stays_gone_when_its_age_is_allowed_again(mut test: RetentionTest) {
    let mut engine = test.start();
    let first = test.today();
    test.upload(&engine, 0, "a", 0..3);
    let gone = test.wait_until_downloadable(&engine, 3).remove(0);
    test.pass_days(1);
    test.upload(&engine, 0, "b", 3..5);
    test.wait_until_downloadable(&engine, 5);
    test.pass_days(2);
    test.cleaned_up(3);
    test.installation.settings.download.max_age_days = 6;
    test.restart(&mut engine);
    check_gone(&test, &engine, first, &gone);
    // A clock that goes back for long enough does not bring it back, either.
    test.jump(-2);
    test.installation.clock.advance_millis(HOUR_MS);
    test.installation.clock.advance_millis(HOUR_MS);
    check_gone(&test, &engine, first, &gone);
}

fn batches_of_a_practice_gateway_go_within_the_day(mut test: RetentionTest) {
    test.installation.settings.download.kept = Some(Duration::from_millis(HOUR_MS));
    let mut engine = test.start();
    let today = test.today();
    test.upload(&engine, 0, "a", 0..3);
    let first = test.wait_until_downloadable(&engine, 3).remove(0);
    test.installation.clock.advance_millis(HOUR_MS / 2);
    test.upload(&engine, 0, "b", 3..5);
    test.wait_until_downloadable(&engine, 5);
    test.restart(&mut engine);
    test.wait_until_downloadable(&engine, 5);
    test.installation.clock.advance_millis(HOUR_MS / 2 + 1);
    test.restart(&mut engine);
    wait_for(|| {
        let answer = test.download(&engine, today, Some(&first));
        is_refused(&answer, DownloadRefusal::UnknownBatchTag).then_some(())
    });
    check_gone(&test, &engine, today, &first);
    // Its keys are known for as long as anywhere.
    let again = test.send_key(&engine, "c", 0, NOON);
    assert!(!is_stored(&again), "{again:?}");
}

/// A batch of this day and this tag is gone, and the next has two keys.
fn check_gone(test: &RetentionTest, engine: &Engine, day: Day, tag: &str) {
    let answer = test.download(engine, day, Some(tag));
    assert!(
        is_refused(&answer, DownloadRefusal::UnknownBatchTag),
        "{answer:?}"
    );
    assert_eq!(test.download(engine, day, None).unwrap().key_count(), 2);
    check_no_audit(engine, day, tag);
}

fn check_no_audit(engine: &Engine, day: Day, tag: &str) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let reply = move |answer| sender.send(answer).unwrap();
    engine.audit(country("DE"), day, tag, reply);
    let answer = receiver.recv().unwrap();
    let refusal = DownloadError::Refused(DownloadRefusal::UnknownBatchTag).to_string();
    assert_eq!(answer.unwrap_err().to_string(), refusal);
}

/// A gateway that allows a greater age has the batch in its catalog, but not in its cache.
fn what_another_gateway_has_deleted_is_gone_here(mut test: RetentionTest) {
    let engine = test.start();
    let first = test.today();
    test.upload(&engine, 0, "a", 0..3);
    let gone = test.wait_until_downloadable(&engine, 3).remove(0);
    test.pass_days(1);
    test.upload(&engine, 0, "b", 3..5);
    test.wait_until_downloadable(&engine, 5);
    engine.shutdown_all();
    test.installation.settings.download.max_age_days = 6;
    let patient = test.installation.start();
    test.installation.settings.download.max_age_days = 2;
    let engine = test.start();
    test.pass_days(2);
    test.cleaned_up(3);
    // Before a download or an audit has told it.
    let head = test.head(&patient, first, &gone);
    assert!(
        matches!(
            head,
            Err(DownloadError::Refused(DownloadRefusal::UnknownBatchTag))
        ),
        "{head:?}"
    );
    check_gone(&test, &patient, first, &gone);
    engine.shutdown_all();
}

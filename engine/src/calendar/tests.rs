use super::*;
use crate::clock::{ManualClock, SystemClock};
use crate::database::{Database, Timeouts};
use crate::settings::DatabaseUrl;
use crate::store::migrate;

const SKEW_MAX: Option<Duration> = Some(limits::CLOCK_SKEW_MAX);

fn store(folder: &std::path::Path) -> Store {
    let database = Database::new(DatabaseUrl::Sqlite(folder.join("db")));
    migrate(&database).unwrap();
    Store::open(&database).unwrap()
}

/// A gateway whose clock is some days off the database's, which is the machine's.
fn gateway(store: &mut Store, days_off: u64) -> (Calendar, Arc<ManualClock>) {
    let now = SystemClock.now().plus_millis(days_off * Day::MILLIS);
    let clock = Arc::new(ManualClock::new(now));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let calendar = Calendar::start(shared, SKEW_MAX, store).unwrap();
    (calendar, clock)
}

#[test]
fn a_gateway_whose_clock_is_not_the_databases_moves_no_day_and_says_so_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path());
    // The first, on an empty database, does not decide by its clock, either.
    let (wrong, clock) = gateway(&mut store, 2);
    let today = wrong.status().day;
    assert!(today <= SystemClock.now().day());
    let (right, _) = gateway(&mut store, 0);
    assert!(right.may_cut() && right.status().cutting_stopped.is_none());
    let mut lines = 0;
    for _ in 0..240 {
        clock.advance_millis(750);
        wrong.observe();
        wrong.follow(&mut store).unwrap();
        lines += u32::from(wrong.report(clock.read(), None));
    }
    // Three minutes: `follow` has told most of it.
    assert_eq!(lines, 0);
    for _ in 0..240 {
        clock.advance_millis(750);
        lines += u32::from(wrong.report(clock.read(), None));
    }
    assert_eq!(lines, 3);
    for _ in 0..10 {
        clock.advance_millis(Day::MILLIS);
        wrong.observe();
        wrong.follow(&mut store).unwrap();
    }
    let status = wrong.status();
    assert_eq!(status.day, today);
    let stopped = status.cutting_stopped.expect("it says so");
    assert!(stopped.contains("ahead of the database's"), "{stopped}");
    assert!(
        !wrong.may_cut() && status.ahead_of_database_ms > 2 * Day::MILLIS.cast_signed() - 60_000
    );
    assert_eq!(store.known_days().unwrap().unwrap().current, today);
}

#[test]
fn a_day_that_one_gateway_or_an_operator_has_moved_is_everybodys() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path());
    let noon = UnixMillis(1_622_548_800_000);
    let start = |store: &mut Store| {
        let clock = Arc::new(ManualClock::new(noon));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let calendar = Calendar::start(shared, None, store).unwrap();
        (calendar, clock)
    };
    let ((first, clock), (second, _)) = (start(&mut store), start(&mut store));
    clock.advance_millis(Day::MILLIS);
    assert!(first.observe());
    first.follow(&mut store).unwrap();
    let tomorrow = noon.day().next();
    assert_eq!(first.agreed_now(), noon.plus_millis(Day::MILLIS));
    assert_eq!(second.status().day, noon.day());
    second.follow(&mut store).unwrap();
    assert_eq!(second.status().day, tomorrow);
    // Its own clock is not there yet: the day has just begun.
    let midnight = UnixMillis(tomorrow.start().0);
    assert_eq!((second.agreed_now(), second.now()), (midnight, midnight));
    assert_eq!(second.naming_day(), Some(tomorrow));
    store.confirm_day(noon.day(), false).unwrap();
    second.follow(&mut store).unwrap();
    assert_eq!(second.agreed_now(), noon);
}

#[test]
fn a_database_without_a_recorded_day_tells_it_by_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path());
    let noon = UnixMillis(1_622_548_800_000);
    let insert = "INSERT INTO download_batch (ordinal, day, number, first_seq, last_seq, \
         key_count, created_at_ms, digest) VALUES (1, 20210510, 1, 1, 1, 1, 0, '')";
    let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
    let mut connection = database.connect(Timeouts::Short).unwrap();
    connection.script(insert).unwrap();
    let clock = Arc::new(ManualClock::new(noon));
    let calendar = Calendar::start(clock, None, &mut store).unwrap();
    let status = calendar.status();
    assert_eq!(status.day, Day::parse_iso("2021-05-10").unwrap());
    assert!(status.implausibility.is_some());
    // Uploads go by the clock, and their keys by the known day.
    let uploads = Arc::new(calendar).for_uploads();
    assert_eq!((uploads.now(), uploads.day()), (noon, status.day));
    assert_eq!(uploads.latest(), noon);
}

#[test]
fn a_clock_that_is_not_believed_refuses_no_key_of_the_known_day() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path());
    let noon = UnixMillis(1_622_548_800_000);
    let last = UnixMillis(noon.day().start().0 + Day::MILLIS - 1);
    let clock = Arc::new(ManualClock::new(noon));
    let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
    let calendar = Calendar::start(shared, None, &mut store).unwrap();
    let ran = Arc::new(calendar).for_uploads();
    assert_eq!((ran.day(), ran.latest()), (noon.day(), noon));
    // One that was started again cannot tell whether the known day is over.
    for (shows, latest) in [
        (noon.0 - 9 * Day::MILLIS, last.0),
        (noon.0 + 9 * Day::MILLIS, noon.0 + 9 * Day::MILLIS),
    ] {
        clock.set(UnixMillis(shows));
        assert_eq!((ran.day(), ran.latest()), (noon.day(), last));
        let started = Arc::new(ManualClock::new(UnixMillis(shows)));
        let calendar = Calendar::start(started, None, &mut store).unwrap();
        let uploads = Arc::new(calendar).for_uploads();
        assert_eq!(
            (uploads.day(), uploads.latest()),
            (noon.day(), UnixMillis(latest))
        );
    }
}

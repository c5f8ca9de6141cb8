//! Clocks that jump, are ahead, or were off for weeks.

use super::*;

pub(super) fn nothing_happens_when_the_clock_is_set_back(test: RetentionTest) {
    let engine = test.start();
    test.pass_days(10);
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    test.cleaned_up(0);
    let known = test.today();
    test.installation.clock.set(NOON);
    test.upload(&engine, 0, "b", 3..5);
    // Who knows what day it is can download.
    download_chain(&engine, country("PL"), known, 5);
    test.pass_days(10);
    assert_eq!(test.cleaned_up(0).keys_deleted, 0);
    let again = test.upload_aged(&engine, 0, "c", 3..4, 10).unwrap();
    assert!(matches!(again, Receipt::Refused { .. }));
}

/// The database's clock is right: it is the machine's.
pub(super) fn a_clock_that_is_ahead_deletes_nothing(test: RetentionTest) {
    test.installation.clock.set(SystemClock.now());
    let engine = test.start();
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    engine.shutdown_all();
    test.pass_days(30);
    // A gateway looks for what is too old before it ends.
    test.start().shutdown_all();
    test.installation
        .clock
        .set(UnixMillis(test.installation.now().0 - 30 * DAY_MS));
    let engine = test.start();
    test.wait_until_downloadable(&engine, 3);
    let again = test.upload_aged(&engine, 0, "b", 2..4, 0).unwrap();
    assert!(matches!(again, Receipt::Refused { .. }));
}

/// Both clocks jump: the gateway's and, as on one machine, the database's.
pub(super) fn a_jump_of_the_clock_deletes_forgets_and_names_nothing(test: RetentionTest) {
    let mut engine = test.start();
    let today = test.today();
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    test.jump(40);
    // Keys of the true day are taken, and named after it.
    assert!(is_stored(&test.send_key(&engine, "b", 10, NOON)));
    download_chain(&engine, country("PL"), today, 4);
    let doubt = engine.status().day.implausibility.expect("it says so");
    assert!(doubt.contains("the clock shows 2021-07-11"), "{doubt}");
    test.restart(&mut engine);
    test.restart(&mut engine);
    assert!(engine.status().day.implausibility.is_some());
    test.jump(-40);
    test.restart(&mut engine);
    assert_eq!(engine.status().day.implausibility, None);
    let chain = download_chain(&engine, country("PL"), today, 4);
    let days = chain.iter().map(|found| found.batch.tag.day);
    assert!(days.into_iter().all(|day| day == today));
    let again = test.send_key(&engine, "c", 1, NOON);
    assert!(matches!(again, Receipt::Refused { .. }), "{again:?}");
    assert!(
        test.statistics()
            .cleanups
            .iter()
            .all(|cleanup| cleanup.keys_deleted == 0)
    );
}

pub(super) fn a_gateway_that_was_off_for_three_weeks_waits_for_an_hour(test: RetentionTest) {
    let engine = test.start();
    let before = test.today();
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    engine.shutdown_all();
    test.pass_days(21);
    let engine = test.start();
    let today = test.today();
    // Uploads are stored, but the name of a download batch would be wrong whatever it is.
    test.upload(&engine, 0, "b", 10..12);
    let status = engine.status();
    assert_eq!(status.day.day, before);
    assert!(
        status
            .day
            .implausibility
            .is_some_and(|doubt| doubt.contains("are cut"))
    );
    // Nothing was deleted, and there is nothing of today.
    assert_eq!(test.download(&engine, before, None).unwrap().key_count(), 3);
    let answer = test.download(&engine, today, None);
    assert!(is_refused(&answer, DownloadRefusal::NoBatchOnDate));
    test.installation.clock.advance_millis(HOUR_MS - 1);
    test.upload(&engine, 0, "c", 12..13);
    let answer = test.download(&engine, today, None);
    assert!(is_refused(&answer, DownloadRefusal::NoBatchOnDate));
    test.installation.clock.advance_millis(1);
    assert_eq!(test.wait_until_downloadable(&engine, 3), ["20210622-1"]);
    test.cleaned_up(3);
    let answer = test.download(&engine, before, None);
    assert!(is_refused(&answer, DownloadRefusal::DateTooOld));
}

pub(super) fn an_operator_confirms_the_day(test: RetentionTest) {
    let engine = test.start();
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    engine.shutdown_all();
    test.pass_days(21);
    let engine = test.start();
    test.upload(&engine, 0, "b", 10..12);
    let mut admin = Admin::open(&test.installation.settings.database).unwrap();
    let before = admin.confirm_day(test.today(), false).unwrap();
    assert_eq!(before, Some(NOON.day()));
    for gateway in &engine.0 {
        wait_for(|| (gateway.status().day.day == test.today()).then_some(()));
        assert_eq!(gateway.status().day.implausibility, None);
    }
    assert_eq!(test.wait_until_downloadable(&engine, 2), ["20210622-1"]);
    test.cleaned_up(3);
}

/// The clock was 40 days ahead for so long that it was believed.
pub(super) fn a_day_that_lay_in_the_future_stops_nothing_later(test: RetentionTest) {
    let mut engine = test.start();
    let today = test.today();
    test.upload(&engine, 0, "a", 0..3);
    test.wait_until_downloadable(&engine, 3);
    test.jump(40);
    // All gateways look at the clock, then an hour passes.
    test.restart(&mut engine);
    test.installation.clock.advance_millis(HOUR_MS);
    test.cleaned_up(3);
    test.jump(-40);
    test.restart(&mut engine);
    test.installation.clock.advance_millis(HOUR_MS);
    wait_for(|| (engine.status().day.day == today).then_some(()));
    // Later keys of that day are there, and those before them are no failure.
    test.upload(&engine, 0, "b", 10..12);
    assert_eq!(test.wait_until_downloadable(&engine, 2), ["20210601-2"]);
    // What is stored now is remembered.
    test.restart(&mut engine);
    let again = test.send_key(&engine, "c", 10, NOON);
    assert!(matches!(again, Receipt::Refused { .. }), "{again:?}");
    // And retention continues, long before the day that lay in the future.
    test.upload(&engine, 0, "d", 20..21);
    test.wait_until_downloadable(&engine, 3);
    test.pass_days(3);
    test.cleaned_up(3);
}

/// Twenty days forward and back, across the end of a year, with restarts, always for less than an
/// hour: what was uploaded is downloaded, and what is known is refused.
pub(super) fn nothing_is_lost_or_stored_twice_whatever_the_clock_shows(test: RetentionTest) {
    let seed = std::env::var("EFGS_SEED")
        .map_or_else(|_| rand::rng().random(), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // 2021-12-29T12:00:00Z.
    let mut truth = UnixMillis(1_640_779_200_000);
    test.installation.clock.set(truth);
    let mut engine = test.start();
    let mut sent: Vec<(u64, UnixMillis)> = Vec::new();
    for key in 0..20 {
        let days = random.random_range(-20..=20_i64);
        test.jump(days);
        let passes_ms = random.random_range(0..HOUR_MS / 2);
        test.installation.clock.advance_millis(passes_ms);
        if random.random_bool(0.3) {
            test.restart(&mut engine);
        }
        if let Some(&(known, then)) = sent.last() {
            let again = test.send_key(&engine, &format!("again{key}"), known, then);
            assert!(
                matches!(again, Receipt::Refused { .. }),
                "{days} days off: {again:?}"
            );
        }
        truth = truth.plus_millis(passes_ms);
        test.installation.clock.set(truth);
        let receipt = test.send_key(&engine, &format!("{key}"), key, truth);
        assert!(is_stored(&receipt), "{receipt:?}");
        sent.push((key, truth));
        // Time passes while the clock is right; somebody looks at it meanwhile.
        for _ in 0..random.random_range(0..8) {
            test.installation.clock.advance_millis(HOUR_MS);
            truth = truth.plus_millis(HOUR_MS);
        }
        // A jump by one day is believed: the oldest day may be gone a day early.
        let oldest = truth.day().minus_days(1);
        let expected = sent.iter().filter(|(_, at)| at.day() >= oldest);
        let expected = expected.count() as u64;
        let tags = download_chain(&engine, country("PL"), oldest, expected);
        let tags = tags.iter().map(|found| found.batch.tag.to_string());
        let tags: Vec<_> = tags.collect();
        assert!(
            tags.iter().all(|tag| tag.as_str() <= "20220131"),
            "{tags:?}"
        );
    }
}

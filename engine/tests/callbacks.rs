//! Callback subscriptions and claims, on both databases, with as many gateways as there may be.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use engine::admin::Admin;
use engine::callbacks::{
    Attempt, CallbackError, CallbackId, Delivery, Recorded, Subscribed, Subscription,
};
use engine::domain::Country;
use engine::{Clock as _, Engine, limits};
use support::{Installation, download_chain, participants, upload};
use testkit::local::MariaDb;

/// A time-to-live that outlasts any test.
const LONG: Duration = Duration::from_secs(600);
/// A time-to-live that has expired before anything else happens.
const NO_TIME: Duration = Duration::ZERO;
const NOW: Attempt = Attempt::Failed {
    wait: Duration::ZERO,
    attempts_max: 6,
    reason: Cow::Borrowed("the receiver answers 500"),
};

/// Runs a check on SQLite, and on a database of a MariaDB server.
fn on_both(check: impl Fn(&Installation)) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    check(&Installation::on_sqlite());
    let name = format!("callbacks_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    check(&Installation::on_mysql(&server(), &name));
}

/// The server that concurrent tests share; it ends with the last of them.
fn server() -> Arc<MariaDb> {
    static SHARED: Mutex<Weak<MariaDb>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let started = Arc::new(MariaDb::start(parent).unwrap());
        *shared = Arc::downgrade(&started);
        started
    })
}

fn de() -> Country {
    Country::parse("DE").unwrap()
}

fn es() -> Country {
    Country::parse("ES").unwrap()
}

fn id(text: &str) -> CallbackId {
    CallbackId::parse(text).unwrap()
}

/// Waits for the one answer.
fn answer<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, CallbackError>) + Send>),
) -> T {
    let (sender, receiver) = channel();
    ask(Box::new(move |answer| sender.send(answer).unwrap()));
    receiver
        .recv()
        .expect("every question is answered")
        .unwrap()
}

fn subscribe(engine: &Engine, country: Country, name: &str, url: &str) -> Subscribed {
    answer(|reply| {
        engine
            .callbacks()
            .subscribe(country, id(name), url.into(), reply);
    })
}

fn unsubscribe(engine: &Engine, country: Country, name: &str) -> bool {
    answer(|reply| engine.callbacks().unsubscribe(country, id(name), reply))
}

fn list(engine: &Engine, country: Country) -> Vec<Subscription> {
    answer(|reply| engine.callbacks().list(country, reply))
}

fn claim(engine: &Engine, count_max: usize, ttl: Duration) -> Vec<Delivery> {
    let mut left = count_max;
    let admit = move |_| {
        left = left.checked_sub(1)?;
        Some(())
    };
    let claimed = answer(|reply| engine.callbacks().claim(ttl, admit, reply));
    claimed.into_iter().map(|(delivery, ())| delivery).collect()
}

fn claim_one(engine: &Engine) -> Delivery {
    let mut claimed = claim(engine, 10, LONG);
    assert_eq!(claimed.len(), 1, "{claimed:?}");
    claimed.remove(0)
}

fn record(engine: &Engine, delivery: &Delivery, attempt: Attempt) -> Recorded {
    answer(|reply| engine.callbacks().record(delivery, attempt, reply))
}

/// Delivers everything that is due; returns the tags in the order of their delivery.
fn tell_all(engine: &Engine) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let claimed = claim(engine, 10, LONG);
        if claimed.is_empty() {
            return told;
        }
        for delivery in claimed {
            told.push(delivery.batch().to_string());
            let recorded = record(engine, &delivery, Attempt::Delivered);
            assert_eq!(recorded, Recorded::Noted);
        }
    }
}

/// Makes one download batch per number.
fn cut(installation: &Installation, engine: &Engine, numbers: std::ops::Range<u64>) {
    let participants = participants();
    let now = installation.now();
    for number in numbers {
        let key = participants[0].key(number, now);
        upload(
            engine,
            participants[0].upload(&format!("t{number}"), &[key], now),
        )
        .unwrap();
        download_chain(engine, es(), now.day().minus_days(14), number + 1);
    }
}

#[test]
fn keeps_the_subscriptions_of_countries_apart() {
    on_both(|installation| {
        let engine = installation.start();
        assert!(list(&engine, de()).is_empty());
        subscribe(&engine, de(), "1", "https://de/1");
        subscribe(&engine, es(), "1", "https://es/1");
        subscribe(&engine, de(), "0", "https://de/0");
        subscribe(&engine, de(), "1", "https://de/2");
        let of = |country| {
            let shown = list(&engine, country).into_iter();
            let shown = shown.map(|one| format!("{} {}", one.callback_id, one.url));
            shown.collect::<Vec<_>>()
        };
        assert_eq!(of(de()), ["0 https://de/0", "1 https://de/2"]);
        assert_eq!(of(es()), ["1 https://es/1"]);
        assert!(unsubscribe(&engine, de(), "1"));
        assert!(!unsubscribe(&engine, de(), "1"));
        assert_eq!(of(es()), ["1 https://es/1"]);
    });
}

#[test]
fn bounds_the_subscriptions_of_a_country() {
    let installation = Installation::on_sqlite();
    let engine = installation.start();
    for number in 0..limits::CALLBACKS_PER_COUNTRY_MAX {
        let taken = subscribe(&engine, de(), &number.to_string(), "https://de");
        assert_eq!(taken, Subscribed::Taken);
    }
    assert_eq!(
        subscribe(&engine, de(), "more", "https://de"),
        Subscribed::TooMany
    );
    assert_eq!(
        subscribe(&engine, de(), "0", "https://other"),
        Subscribed::Taken
    );
    assert_eq!(
        subscribe(&engine, es(), "more", "https://es"),
        Subscribed::Taken
    );
}

#[test]
fn merges_simultaneous_first_subscriptions() {
    on_both(|installation| {
        let gateways = [installation.start(), installation.start()];
        std::thread::scope(|scope| {
            for gateway in &gateways {
                scope.spawn(|| {
                    for number in 0..8 {
                        subscribe(gateway, de(), &number.to_string(), "https://de");
                    }
                });
            }
        });
        assert_eq!(list(&gateways[0], de()).len(), 8);
    });
}

#[test]
fn delivers_new_batches_in_order_one_at_a_time() {
    on_both(|installation| {
        let engine = installation.start();
        cut(installation, &engine, 0..2);
        subscribe(&engine, de(), "1", "https://de");
        assert!(claim(&engine, 10, LONG).is_empty());
        cut(installation, &engine, 2..5);
        let first = claim_one(&engine);
        assert_eq!(first.batch().to_string(), "20210601-3");
        assert_eq!((first.country(), first.url()), (de(), "https://de"));
        assert!(claim(&engine, 10, LONG).is_empty(), "one at a time");
        record(&engine, &first, Attempt::Delivered);
        assert_eq!(tell_all(&engine), ["20210601-4", "20210601-5"]);
        // DE subscribes again at every start: nothing is delivered twice.
        subscribe(&engine, de(), "1", "https://de");
        assert!(claim(&engine, 10, LONG).is_empty());
        assert_eq!(engine.callbacks().summary().batches_behind_max, 0);
    });
}

#[test]
fn gives_each_delivery_to_one_gateway() {
    on_both(|installation| {
        let gateways = [
            installation.start(),
            installation.start(),
            installation.start(),
        ];
        let names: Vec<String> = (0..8).map(|number| number.to_string()).collect();
        for name in &names {
            subscribe(&gateways[0], de(), name, "https://de");
        }
        cut(installation, &gateways[0], 0..4);
        let told = std::thread::scope(|scope| {
            let tellers: Vec<_> = gateways
                .iter()
                .map(|gateway| {
                    scope.spawn(|| {
                        let mut told = Vec::new();
                        loop {
                            for delivery in claim(gateway, 2, LONG) {
                                let recorded = record(gateway, &delivery, Attempt::Delivered);
                                assert_eq!(recorded, Recorded::Noted);
                                told.push((delivery.callback_id().clone(), delivery.batch()));
                            }
                            // As of the previous claim.
                            if gateway.callbacks().summary().batches_behind_max == 0 {
                                break;
                            }
                        }
                        told
                    })
                })
                .collect();
            let told = tellers.into_iter().map(|teller| teller.join().unwrap());
            told.collect::<Vec<_>>().concat()
        });
        let different: BTreeSet<_> = told
            .iter()
            .map(|(id, tag)| (id.clone(), tag.number))
            .collect();
        assert_eq!((told.len(), different.len()), (32, 32));
    });
}

#[test]
fn lets_another_gateway_take_over_and_ignores_the_slow_one() {
    on_both(|installation| {
        let (dead, alive) = (installation.start(), installation.start());
        subscribe(&dead, de(), "1", "https://de");
        cut(installation, &dead, 0..2);
        let lost = claim(&dead, 10, NO_TIME).remove(0);
        // The claim has expired once the database's clock has moved.
        let taken = loop {
            if let Some(taken) = claim(&alive, 10, LONG).pop() {
                break taken;
            }
        };
        assert_eq!(lost.batch(), taken.batch());
        assert_eq!(record(&dead, &lost, NOW), Recorded::ClaimLost);
        assert_eq!(record(&alive, &taken, Attempt::Delivered), Recorded::Noted);
        assert_eq!(
            record(&dead, &lost, Attempt::Delivered),
            Recorded::ClaimLost
        );
        assert_eq!(
            record(&alive, &taken, Attempt::Delivered),
            Recorded::ClaimLost,
            "once"
        );
        assert_eq!(tell_all(&alive), ["20210601-2"]);
    });
}

#[test]
fn disables_after_the_last_attempt_and_continues_when_subscribed_again() {
    on_both(|installation| {
        let engine = installation.start();
        subscribe(&engine, de(), "1", "https://de");
        cut(installation, &engine, 0..2);
        for failed in 0..6 {
            let delivery = claim_one(&engine);
            assert_eq!(delivery.failed_attempts(), failed);
            let expected = match failed {
                5 => Recorded::Disabled,
                _ => Recorded::Noted,
            };
            assert_eq!(record(&engine, &delivery, NOW), expected);
        }
        assert!(claim(&engine, 10, LONG).is_empty());
        assert!(list(&engine, de()).is_empty());
        assert_eq!(engine.callbacks().summary().disabled, 1);
        cut(installation, &engine, 2..3);
        subscribe(&engine, de(), "1", "https://de");
        assert_eq!(list(&engine, de()).len(), 1);
        cut(installation, &engine, 3..4);
        let missed = ["20210601-1", "20210601-2", "20210601-3", "20210601-4"];
        assert_eq!(tell_all(&engine), missed);
    });
}

#[test]
fn hides_a_disabled_subscription_from_its_owner() {
    on_both(|installation| {
        let engine = installation.start();
        let mut admin = Admin::open(&installation.settings.database).unwrap();
        let today = installation.now().day();
        for number in 0..limits::CALLBACKS_PER_COUNTRY_MAX {
            subscribe(&engine, de(), &number.to_string(), "https://de");
        }
        for number in ["3", "1", "2"] {
            assert!(admin.disable_subscription(de(), &id(number)).unwrap());
        }
        // Removing it deletes what the owner does not see, and returns that there was none.
        assert!(!unsubscribe(&engine, de(), "3"));
        assert_eq!(admin.subscriptions(today, 2).unwrap().len(), 15);
        // There are 15, and twice one is replaced: the owner cannot remove what it does not see.
        for more in ["a", "b", "c"] {
            assert_eq!(
                subscribe(&engine, de(), more, "https://de"),
                Subscribed::Taken
            );
        }
        assert_eq!(admin.subscriptions(today, 2).unwrap().len(), 16);
        assert_eq!(
            subscribe(&engine, de(), "d", "https://de"),
            Subscribed::TooMany
        );
    });
}

#[test]
fn shows_operators_the_state_of_subscriptions_and_follows_their_commands() {
    on_both(|installation| {
        let engine = installation.start();
        let mut admin = Admin::open(&installation.settings.database).unwrap();
        let today = installation.now().day();
        subscribe(&engine, es(), "1", "https://es");
        subscribe(&engine, de(), "b", "https://de/b");
        assert!(unsubscribe(&engine, de(), "b"));
        subscribe(&engine, de(), "1", "https://de");
        cut(installation, &engine, 0..2);
        // ES is notified of both, DE of neither.
        for attempt in 0..6 {
            for delivery in claim(&engine, 10, LONG) {
                let told = delivery.country() == es();
                record(
                    &engine,
                    &delivery,
                    if told { Attempt::Delivered } else { NOW },
                );
            }
            let states = admin.subscriptions(today, 2).unwrap();
            assert_eq!(states[0].failed_attempts, attempt + 1);
            assert_eq!(states[0].disabled_at.is_some(), attempt == 5);
        }
        let states = admin.subscriptions(today, 2).unwrap();
        let shown: Vec<_> = states
            .iter()
            .map(|state| {
                let next = state.next_batch.map(|tag| tag.to_string());
                (state.country, next, state.batches_behind)
            })
            .collect();
        let expected = [(de(), Some("20210601-1".to_owned()), 2), (es(), None, 0)];
        assert_eq!(shown, expected);
        let failure = states[0].last_failure.as_ref().unwrap();
        assert_eq!(&*failure.reason, "the receiver answers 500");
        assert_eq!(
            Some(failure.at.0 / 60_000),
            states[0].disabled_at.map(|at| at.0 / 60_000)
        );
        assert!(states[1].last_failure.is_none());
        let later = today.next().next().next();
        let mut behind = |max_age_days| {
            let states = admin.subscriptions(later, max_age_days).unwrap();
            states[0].batches_behind
        };
        assert_eq!((behind(2), behind(3)), (0, 2));

        assert!(claim(&engine, 10, LONG).is_empty());
        assert!(admin.enable_subscription(de(), &id("1")).unwrap());
        let enabled = &admin.subscriptions(today, 2).unwrap()[0];
        assert_eq!((enabled.failed_attempts, enabled.disabled_at), (0, None));
        assert!(enabled.last_failure.is_none(), "it is over");
        let delivery = claim_one(&engine);
        assert_eq!(delivery.batch().to_string(), "20210601-1");
        assert!(admin.disable_subscription(de(), &id("1")).unwrap());
        let late = record(&engine, &delivery, Attempt::Delivered);
        assert_eq!(
            late,
            Recorded::ClaimLost,
            "a delivery under way is taken back"
        );
        assert!(list(&engine, de()).is_empty());
        assert!(claim(&engine, 10, LONG).is_empty());
        assert!(admin.disable_subscription(de(), &id("1")).unwrap(), "twice");
        assert!(admin.enable_subscription(de(), &id("1")).unwrap());
        assert_eq!(tell_all(&engine), ["20210601-1", "20210601-2"]);
        assert!(admin.remove_subscription(de(), &id("1")).unwrap());
        assert!(!admin.remove_subscription(de(), &id("1")).unwrap());
        assert!(!admin.enable_subscription(de(), &id("1")).unwrap());
        assert!(!admin.disable_subscription(de(), &id("1")).unwrap());
        assert!(list(&engine, de()).is_empty());
    });
}

#[test]
fn keeps_what_was_wrong_in_200_characters_of_any_alphabet() {
    on_both(|installation| {
        let engine = installation.start();
        subscribe(&engine, de(), "1", "https://de");
        cut(installation, &engine, 0..1);
        let reason = "\u{10348}'\n".repeat(500);
        let failed = Attempt::Failed {
            wait: Duration::ZERO,
            attempts_max: 6,
            reason: reason.clone().into(),
        };
        record(&engine, &claim_one(&engine), failed);
        let mut admin = Admin::open(&installation.settings.database).unwrap();
        let states = admin.subscriptions(installation.now().day(), 2).unwrap();
        let kept = &states[0].last_failure.as_ref().unwrap().reason;
        assert_eq!(kept.chars().count(), 200);
        assert!(reason.starts_with(&**kept));
    });
}

#[test]
fn counts_only_failures_in_a_row_and_waits_between_them() {
    on_both(|installation| {
        let engine = installation.start();
        subscribe(&engine, de(), "1", "https://de");
        cut(installation, &engine, 0..2);
        for _ in 0..5 {
            record(&engine, &claim_one(&engine), NOW);
        }
        record(&engine, &claim_one(&engine), Attempt::Delivered);
        let second = claim_one(&engine);
        assert_eq!(second.failed_attempts(), 0);
        let wait = LONG;
        let attempts_max = 6;
        record(
            &engine,
            &second,
            Attempt::Failed {
                wait,
                attempts_max,
                reason: "x".into(),
            },
        );
        assert!(claim(&engine, 10, LONG).is_empty(), "not yet");
        subscribe(&engine, de(), "1", "https://de");
        let again = claim(&engine, 10, LONG);
        assert!(again.is_empty(), "the same URL changes nothing");
        subscribe(&engine, de(), "1", "https://de/other");
        assert_eq!(claim_one(&engine).failed_attempts(), 0);
    });
}

#[test]
fn skips_batches_that_cannot_be_downloaded_any_more() {
    on_both(|installation| {
        let engine = installation.start();
        subscribe(&engine, de(), "1", "https://de");
        cut(installation, &engine, 0..2);
        installation.clock.advance_millis(15 * 24 * 3600 * 1000);
        assert!(claim(&engine, 10, LONG).is_empty());
        cut_later(installation, &engine);
        assert_eq!(tell_all(&engine), ["20210616-1"]);
    });
}

fn cut_later(installation: &Installation, engine: &Engine) {
    let now = installation.clock.now();
    let participants = participants();
    let key = participants[1].key(7, now);
    upload(engine, participants[1].upload("later", &[key], now)).unwrap();
    download_chain(engine, es(), now.day(), 1);
}

#[test]
fn delivers_to_a_new_receiver_what_the_old_one_is_being_sent() {
    on_both(|installation| {
        let engine = installation.start();
        subscribe(&engine, de(), "1", "https://old");
        cut(installation, &engine, 0..1);
        let old = claim_one(&engine);
        subscribe(&engine, de(), "1", "https://old");
        assert!(claim(&engine, 10, LONG).is_empty(), "nothing has changed");
        subscribe(&engine, de(), "1", "https://new");
        let new = claim_one(&engine);
        assert_eq!((new.url(), new.batch()), ("https://new", old.batch()));
        assert_eq!(
            record(&engine, &old, Attempt::Delivered),
            Recorded::ClaimLost
        );
        assert_eq!(record(&engine, &new, Attempt::Delivered), Recorded::Noted);
    });
}

#[test]
fn forgets_a_delivery_with_its_subscription() {
    let installation = Installation::on_sqlite();
    let engine = installation.start();
    subscribe(&engine, de(), "1", "https://de");
    cut(&installation, &engine, 0..1);
    let delivery = claim_one(&engine);
    unsubscribe(&engine, de(), "1");
    subscribe(&engine, de(), "1", "https://de");
    assert_eq!(record(&engine, &delivery, NOW), Recorded::ClaimLost);
    assert!(claim(&engine, 10, LONG).is_empty());
}

#[test]
fn serves_those_that_waited_longest_first() {
    let installation = Installation::on_sqlite();
    let engine = installation.start();
    for name in ["a", "b", "c"] {
        subscribe(&engine, de(), name, "https://de");
    }
    cut(&installation, &engine, 0..2);
    let mut told = Vec::new();
    for _ in 0..6 {
        let delivery = claim(&engine, 1, LONG).remove(0);
        record(&engine, &delivery, Attempt::Delivered);
        told.push(delivery.callback_id().to_string());
    }
    assert_eq!(told, ["a", "b", "c", "a", "b", "c"]);
}

#[test]
fn claims_for_all_participants_in_turn() {
    on_both(|installation| {
        let engine = installation.start();
        for name in ["a", "b", "c"] {
            subscribe(&engine, de(), name, "https://de");
        }
        subscribe(&engine, es(), "1", "https://es");
        cut(installation, &engine, 0..1);
        let two: Vec<_> = claim(&engine, 2, LONG)
            .iter()
            .map(Delivery::country)
            .collect();
        assert_eq!(two, [de(), es()]);
        let admit = |country| (country == es()).then_some(());
        let claimed = answer(|reply| engine.callbacks().claim(LONG, admit, reply));
        assert!(claimed.is_empty(), "DE's others are not admitted");
        assert_eq!(claim(&engine, 10, LONG).len(), 2);
    });
}

#[test]
fn counts_no_failure_when_the_receiver_was_not_asked() {
    on_both(|installation| {
        let engine = installation.start();
        subscribe(&engine, de(), "1", "https://de");
        cut(installation, &engine, 0..1);
        for wait in [Duration::ZERO; 10] {
            let delivery = claim_one(&engine);
            assert_eq!(delivery.failed_attempts(), 0);
            let recorded = record(&engine, &delivery, Attempt::Postponed { wait });
            assert_eq!(recorded, Recorded::Noted);
        }
        let wait = Duration::from_secs(600);
        let delivery = claim_one(&engine);
        record(&engine, &delivery, Attempt::Postponed { wait });
        assert!(claim(&engine, 10, LONG).is_empty(), "it waits");
        assert_eq!(list(&engine, de()).len(), 1);
        let late = record(&engine, &delivery, Attempt::Postponed { wait });
        assert_eq!(late, Recorded::ClaimLost);
    });
}

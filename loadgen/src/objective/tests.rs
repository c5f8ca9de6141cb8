use super::*;
use crate::profiles::Profiles;
use crate::results::{LatencySummary, PhaseSummary};
use crate::scenario::{ConstantRate, Scenario};

fn objective(text: &str) -> Objective {
    text.parse().unwrap()
}

/// 200 requests became due, 4 were answered otherwise than expected, 100 uploads with 500 keys were
/// stored in 10 s, and the slowest hundredth took 2 s.
fn figures() -> Figures {
    Figures {
        seconds: 10.0,
        due: 200,
        unexpected: 4,
        uploads: 100,
        upload_keys: 500,
        upload_keys_per_second: 50.0,
        upload: Some(LatencySummary {
            corrected: Percentiles {
                p50: 10_000,
                p99: 2_000_000,
                max: 3_000_000,
                ..Percentiles::default()
            },
            service: Percentiles::default(),
        }),
        ..Figures::default()
    }
}

fn summary(figures: Figures) -> Summary {
    Summary {
        phases: vec![PhaseSummary {
            name: "steady".to_owned(),
            all: Figures {
                unexpected: 0,
                ..figures.clone()
            },
            ..PhaseSummary::default()
        }],
        total: figures,
        ..Summary::default()
    }
}

#[test]
fn reads_a_name_and_a_limit_without_quotes_or_with_a_comparison() {
    for (text, measure, limit) in [
        ("upload_p99=2s", Measure::Upload(Quantile::P99), 2.0),
        ("p99.9=250ms", Measure::Upload(Quantile::P999), 0.25),
        ("download_max<1min", Measure::Download(Quantile::Max), 60.0),
        ("upload_p50 <= 20ms", Measure::Upload(Quantile::P50), 0.02),
        ("delay_p99=5s", Measure::Delay(Quantile::P99), 5.0),
        ("errors=0.1%", Measure::Errors, 0.001),
        ("errors=0", Measure::Errors, 0.0),
        ("rate=50", Measure::Rate, 50.0),
        ("key_rate>=250k", Measure::KeyRate, 250_000.0),
        ("delivery_rate>1M", Measure::DeliveryRate, 1_000_000.0),
    ] {
        let read = objective(text);
        assert_eq!(read.measure(), measure, "{text}");
        assert!((read.limit() - limit).abs() < 1e-9, "{text}");
        assert_eq!(read.to_string(), text);
    }
    assert_eq!(objective("warm-up/errors=1%").phase(), Some("warm-up"));
}

#[test]
fn says_what_to_write_instead() {
    for (text, expected) in [
        ("upload_p99", "an objective is NAME=LIMIT"),
        ("=2s", "an objective is NAME=LIMIT"),
        ("errors=", "an objective is NAME=LIMIT"),
        (
            "upload_p98=2s",
            "no objective is called upload_p98; there are upload_p99",
        ),
        ("latency=2s", "no objective is called latency"),
        (
            "upload_p99=2",
            "upload_p99 needs a time of more than 0, as 250ms, 2s",
        ),
        ("upload_p99=0s", "upload_p99 needs a time"),
        ("errors=101%", "errors needs a share of 0 to 1, as 0.1%"),
        ("rate=0", "rate needs a number per second of more than 0"),
        (
            "upload_p99>2s",
            "upload_p99 has a highest value: write upload_p99=2s",
        ),
        ("rate<50", "rate has a lowest value: write rate=50"),
    ] {
        let said = text.parse::<Objective>().unwrap_err().to_string();
        assert!(said.starts_with(expected), "{text}: {said}");
    }
}

#[test]
fn compares_what_was_measured_with_the_limit() {
    let summary = summary(figures());
    for (text, ok, measured) in [
        ("upload_p99=2s", true, 2.0),
        ("upload_p99<2s", false, 2.0),
        ("upload_max=2.9s", false, 3.0),
        ("errors=2%", true, 0.02),
        ("errors=1.9%", false, 0.02),
        ("steady/errors=0", true, 0.0),
        ("rate=10", true, 10.0),
        ("rate>10", false, 10.0),
        ("key_rate=51", false, 50.0),
    ] {
        let outcome = objective(text).outcome(&summary);
        assert_eq!(outcome.ok, ok, "{outcome:?}");
        assert!(
            (outcome.measured.unwrap() - measured).abs() < 1e-9,
            "{outcome:?}"
        );
        assert_eq!(outcome.objective, text);
    }
}

#[test]
fn misses_what_was_not_measured() {
    let nothing = objective("download_p50=1s").outcome(&summary(figures()));
    assert_eq!((nothing.ok, nothing.measured), (false, None));
    let idle = objective("errors=1%").outcome(&summary(Figures::default()));
    assert!(!idle.ok, "{idle:?}");
}

#[test]
fn takes_a_delay_from_what_the_gateway_counted() {
    let bucket = |at_most_seconds, uploads| crate::results::DelayBucket {
        at_most_seconds,
        uploads,
    };
    let seen = |uploads| Summary {
        delay: Some(crate::results::Delay {
            uploads,
            buckets: vec![bucket(0.5, 50), bucket(2.0, 99)],
        }),
        ..summary(figures())
    };
    let outcome = objective("delay_p99=2s").outcome(&seen(100));
    assert_eq!((outcome.ok, outcome.measured), (true, Some(2.0)));
    assert!(!objective("delay_p99=1s").outcome(&seen(100)).ok);
    let waiting = objective("delay_p99=2s").outcome(&seen(101));
    assert_eq!(
        (waiting.ok, waiting.measured),
        (false, None),
        "two still wait"
    );
    assert!(
        !objective("delay_p50=2s").outcome(&summary(figures())).ok,
        "not asked"
    );
}

/// Requests that were never sent are in no latency: without this, a gateway that takes nothing from one
/// of its participants looks fast.
#[test]
fn counts_requests_that_were_never_sent_as_slower_than_any_limit() {
    let dropped = |dropped| {
        summary(Figures {
            dropped,
            ..figures()
        })
    };
    let p99 = objective("upload_p99=1min");
    assert!(
        p99.outcome(&dropped(2)).ok,
        "one in a hundred may be slower"
    );
    let outcome = p99.outcome(&dropped(3));
    assert!(!outcome.ok, "{outcome:?}");
    assert_eq!(outcome.omitted_share, Some(0.015));
    assert!(!objective("upload_max=1min").outcome(&dropped(1)).ok);
    let errors = objective("errors=2%").outcome(&dropped(1));
    assert!(!errors.ok, "4 and 1 of 200: {errors:?}");
}

#[test]
fn tells_before_a_run_what_it_cannot_measure() {
    let profile = Profiles::shipped().unwrap().find("smoke").unwrap();
    let load = ConstantRate {
        per_second: 1.0,
        seconds: 1.0,
        connections: 1,
        retry_seconds: 0,
    };
    let phases = Scenario::constant_rate(&profile, &load).unwrap().phases;
    let check = |text: &str| {
        objective(text)
            .check(&phases)
            .map_err(|error| error.to_string())
    };
    for fine in [
        "upload_p99=1s",
        "errors=0",
        "rate=1",
        "constant-rate/p50=1s",
    ] {
        assert_eq!(check(fine), Ok(()));
    }
    assert_eq!(
        check("download_p99=1s").unwrap_err(),
        "download_p99=1s cannot be measured: nothing downloads in this run"
    );
    assert_eq!(
        check("warm-up/errors=0").unwrap_err(),
        "warm-up/errors=0: there is no phase warm-up; there are constant-rate"
    );
}

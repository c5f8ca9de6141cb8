use super::find::SHIPPED;
use super::*;
use crate::hostile::Kind;

fn refusal(text: &str) -> String {
    engine::chain(&Scenario::parse("mine", text).unwrap_err())
}

const STREAM: &str = "[[phases]]\nname = \"p\"\nseconds = 1\n[[phases.streams]]\nname = \"s\"\n\
    does = \"upload\"\narrivals = \"poisson\"\nper_second = 2\n";

#[test]
fn ships_scenarios_that_can_be_read() {
    for (name, _) in SHIPPED {
        let scenario = Scenario::find(name).unwrap();
        assert_eq!(scenario.name, name);
        assert!(!scenario.phases.is_empty());
    }
    assert!(Scenario::shipped().all(|(_, description)| !description.is_empty()));
}

#[test]
fn sends_the_volumes_that_the_scenarios_are_named_for() {
    let worst_day = Scenario::find("worst-day").unwrap();
    let Operation::Upload { keys, .. } = &worst_day.phases[0].streams[0].does else {
        panic!("worst-day uploads first");
    };
    assert_eq!(*keys, Some(16_100_000));
    let growth = Scenario::find("growth").unwrap();
    let keys: u64 = growth
        .phases
        .iter()
        .flat_map(|phase| &phase.streams)
        .map(|stream| match stream.does {
            Operation::Upload { keys, .. } => keys.unwrap(),
            _ => 0,
        })
        .sum();
    assert_eq!(keys, 100_000_000);
    let Operation::Hostile(kinds) =
        &Scenario::find("hostile-mix").unwrap().phases[0].streams[1].does
    else {
        panic!("the second stream is hostile");
    };
    assert_eq!(kinds.as_slice(), Kind::ALL, "every kind, in order");
}

#[test]
fn reads_an_operators_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    std::fs::write(
        &path,
        STREAM.replace("name = \"p\"", "name = \"p\"\nrepeat = 2"),
    )
    .unwrap();
    let scenario = Scenario::find(path.to_str().unwrap()).unwrap();
    assert_eq!(scenario.name, "mine");
    let names: Vec<_> = scenario.phases.iter().map(|phase| &phase.name).collect();
    assert_eq!(names, ["p-1", "p-2"]);
    let stream = &scenario.phases[1].streams[0];
    let rate = Rate {
        per_second: 2.0,
        burst: None,
    };
    assert_eq!(stream.arrivals, Arrivals::Poisson(rate));
    assert_eq!(stream.connections, 1);
}

#[test]
fn says_what_there_is_when_there_is_no_such_scenario() {
    let error = Scenario::find("stedy").unwrap_err().to_string();
    assert!(error.contains("no scenario is called stedy"), "{error}");
    for (name, _) in SHIPPED {
        assert!(error.contains(name), "{name} in {error}");
    }
}

#[test]
fn refuses_what_it_does_not_know() {
    let error = refusal(&STREAM.replace("per_second", "per_minute"));
    assert!(
        error.contains("per_minute") && error.contains("keys_per_second"),
        "{error}"
    );
    let error = refusal(&STREAM.replace("poisson", "weekly"));
    assert!(
        error.contains("weekly") && error.contains("closed"),
        "{error}"
    );
    let error = refusal(&STREAM.replace("upload", "uplaod"));
    assert!(error.contains("hostile"), "{error}");
}

#[test]
fn refuses_what_makes_no_sense() {
    for (from, to, expected) in [
        ("seconds = 1", "", "needs seconds, or a stream"),
        ("seconds = 1", "seconds = 0", "seconds must be more than 0"),
        ("seconds = 1", "seconds = 1\nrepeat = 0", "repeat must be"),
        ("per_second = 2", "", "arrivals need a rate"),
        ("per_second = 2", "per_second = -2", "arrivals need a rate"),
        ("poisson", "closed", "closed arrivals have neither"),
        (
            "per_second = 2",
            "per_second = 2\nduplicates = 0.5",
            "there is none",
        ),
        (
            "per_second = 2",
            "per_second = 2\nskip = 27",
            "more participants",
        ),
        (
            "per_second = 2",
            "per_second = 2\nconnections = 0",
            "connections must",
        ),
        (
            "per_second = 2",
            "per_second = 2\nkinds = []",
            "hostile streams list",
        ),
        (
            "per_second = 2",
            "per_second = 2\nburst = { every_seconds = 1, lasts_seconds = 1, share = 0.5 }",
            "a burst is shorter",
        ),
    ] {
        let said = refusal(&STREAM.replace(from, to));
        assert!(said.contains(expected), "{to}: {said}");
        assert!(said.starts_with("scenario mine, p"), "{said}");
    }
}

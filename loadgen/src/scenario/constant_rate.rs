//! A scenario without a file: uploads at a constant rate, as wrk2 sends requests.

use std::fmt::Write as _;

use super::find::{Scenario, ScenarioError};
use crate::profiles::{Distribution, Profile};

/// Uploads that become due at equal distances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConstantRate {
    /// Uploads per second of all participants together.
    pub per_second: f64,
    /// How long they become due.
    pub seconds: f64,
    /// Connections per participant, each with one upload in flight.
    pub connections: usize,
    /// How long an upload is retried after 429, 503 and broken connections, in seconds.
    pub retry_seconds: u64,
}

impl Scenario {
    /// A scenario of one phase, `constant-rate`, with the participants and the uploads of a profile. Its
    /// text can be kept as a file.
    ///
    /// # Errors
    /// When the profile has too many participants, or the rate or the duration is out of bounds.
    pub fn constant_rate(profile: &Profile, load: &ConstantRate) -> Result<Self, ScenarioError> {
        let distribution = match profile.distribution {
            Distribution::Population => "population",
            Distribution::Even => "even",
        };
        let mut text = String::new();
        let written = write!(
            text,
            "description = \"uploads as in profile {}, at a constant rate\"\n\
             participants = {}\ndistribution = \"{distribution}\"\n\n\
             [[phases]]\nname = \"constant-rate\"\nseconds = {:?}\n\
             [[phases.streams]]\nname = \"uploads\"\ndoes = \"upload\"\narrivals = \"fixed\"\n\
             per_second = {:?}\nupload_keys = {}\nconnections = {}\nretry_seconds = {}\n",
            profile.name.escape_default(),
            profile.participants,
            load.seconds,
            load.per_second,
            profile.upload_keys,
            load.connections,
            load.retry_seconds,
        );
        written.expect("a text takes whatever is written");
        Self::parse(&profile.name, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profiles::Profiles;
    use crate::scenario::{Arrivals, Operation, Rate};

    #[test]
    fn sends_the_uploads_of_a_profile_at_equal_distances() {
        let profile = Profiles::shipped().unwrap().find("worst-day").unwrap();
        let load = ConstantRate {
            per_second: 2.5,
            seconds: 90.0,
            connections: 3,
            retry_seconds: 0,
        };
        let scenario = Scenario::constant_rate(&profile, &load).unwrap();
        assert_eq!(scenario.participants, profile.participants);
        assert_eq!(scenario.distribution, profile.distribution);
        let [phase] = scenario.phases.as_slice() else {
            panic!("one phase: {scenario:?}");
        };
        assert_eq!(
            (phase.name.as_str(), phase.seconds),
            ("constant-rate", Some(90.0))
        );
        let stream = &phase.streams[0];
        let rate = Rate {
            per_second: 2.5,
            burst: None,
        };
        assert_eq!(stream.arrivals, Arrivals::Fixed(rate));
        assert_eq!(stream.connections, 3);
        let Operation::Upload {
            upload_keys, keys, ..
        } = stream.does
        else {
            panic!("it uploads: {stream:?}");
        };
        assert_eq!((upload_keys, keys), (profile.upload_keys, None));
        let again = Scenario::parse("worst-day", &scenario.text).unwrap();
        assert_eq!(again, scenario, "its text is the scenario");
    }
}

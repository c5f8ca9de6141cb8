//! Named volumes: how many keys per day, and how they spread over the participants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::domain::Country;
use serde::Deserialize;

/// The built-in profiles.
const SHIPPED: &str = include_str!("../profiles/profiles.toml");

/// People in a participant's country when the table does not list it.
const POPULATION_UNLISTED: u64 = 5_000_000;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is malformed.
    #[error("profiles")]
    Syntax(#[from] toml::de::Error),
    /// There is no profile of that name.
    #[error("no profile is called {name}; there are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The known names.
        known: String,
    },
    /// A profile with empty uploads.
    #[error("profile {0}: upload_keys and participants must be at least 1")]
    Zero(String),
}

/// How keys spread over participants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// In proportion to the people in each country.
    Population,
    /// Evenly.
    Even,
}

/// One day's volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name; not part of the table in the file.
    #[serde(skip)]
    pub name: String,
    /// Keys of all participants together.
    pub keys: u64,
    /// At most so many participants take part, the most populous first.
    pub participants: usize,
    /// Keys in a full upload.
    pub upload_keys: u32,
    /// How the keys spread.
    pub distribution: Distribution,
}

/// A file of profiles.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profiles {
    profiles: BTreeMap<String, Profile>,
    #[serde(default)]
    population: BTreeMap<String, u64>,
}

impl Profiles {
    /// The built-in profiles.
    ///
    /// # Errors
    /// None for the shipped text; a test reads it.
    pub fn shipped() -> Result<Self, ProfileError> {
        Ok(toml::from_str(SHIPPED)?)
    }

    /// Reads an operator's own file.
    ///
    /// # Errors
    /// When it cannot be read or has another shape.
    pub fn read(path: &Path) -> Result<Self, ProfileError> {
        let text = std::fs::read_to_string(path).map_err(|source| ProfileError::Read {
            path: path.to_owned(),
            source,
        })?;
        Ok(toml::from_str(&text)?)
    }

    /// The profile of that name.
    ///
    /// # Errors
    /// When there is no such profile, or its uploads would be empty.
    pub fn find(&self, name: &str) -> Result<Profile, ProfileError> {
        let known = || self.profiles.keys().cloned().collect::<Vec<_>>().join(", ");
        let found = self.profiles.get(name);
        let found = found.ok_or_else(|| ProfileError::Unknown {
            name: name.to_owned(),
            known: known(),
        })?;
        if found.upload_keys == 0 || found.participants == 0 {
            return Err(ProfileError::Zero(name.to_owned()));
        }
        Ok(Profile {
            name: name.to_owned(),
            ..found.clone()
        })
    }

    /// How many people live in a country, by the table; 5 million when it does not list it.
    pub fn people(&self, country: Country) -> u64 {
        let listed = self.population.get(country.as_str()).copied();
        listed.unwrap_or(POPULATION_UNLISTED)
    }

    /// How many keys each participant uploads: the sum is exactly `profile.keys`. Ordered by
    /// country; the same for the same countries in any order.
    pub fn share(&self, profile: &Profile, countries: &[Country]) -> Vec<(Country, u64)> {
        let people = |country: &Country| self.people(*country);
        let mut taking_part = countries.to_vec();
        taking_part.sort_by_key(|country| (std::cmp::Reverse(people(country)), *country));
        taking_part.truncate(profile.participants);
        taking_part.sort();
        let weights: Vec<u64> = match profile.distribution {
            Distribution::Population => taking_part.iter().map(people).collect(),
            Distribution::Even => vec![1; taking_part.len()],
        };
        taking_part
            .into_iter()
            .zip(apportion(profile.keys, &weights))
            .collect()
    }
}

/// Splits `total` in proportion to `weights` by the largest remainders; the earlier wins a tie.
fn apportion(total: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|&weight| u128::from(weight)).sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: u64| u128::from(total) * u128::from(weight);
    let mut shares: Vec<u64> = weights
        .iter()
        .map(|&weight| u64::try_from(exact(weight) / sum).expect("a share is at most the total"))
        .collect();
    let mut by_remainder: Vec<usize> = (0..weights.len()).collect();
    by_remainder.sort_by_key(|&i| std::cmp::Reverse(exact(weights[i]) % sum));
    let missing = total - shares.iter().sum::<u64>();
    for (_, i) in (0..missing).zip(by_remainder) {
        shares[i] += 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    const EU: [&str; 27] = [
        "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE",
        "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
    ];

    fn countries(codes: &[&str]) -> Vec<Country> {
        codes
            .iter()
            .map(|code| Country::parse(code).unwrap())
            .collect()
    }

    #[test]
    fn ships_the_volumes_of_the_sizing() {
        let profiles = Profiles::shipped().unwrap();
        for (name, keys) in [
            ("planning-2020", 151_000),
            ("peak-2022", 3_500_000),
            ("worst-day", 16_100_000),
        ] {
            let profile = profiles.find(name).unwrap();
            assert_eq!((profile.keys, profile.participants), (keys, 27), "{name}");
            assert_eq!(profile.upload_keys, 5000, "{name}");
        }
        // Eurostat: the Union had 446.7 million inhabitants on 1 January 2022.
        let people: u64 = EU.iter().map(|code| profiles.population[*code]).sum();
        assert_eq!(people / 100_000, 4_467);
    }

    #[test]
    fn shares_every_key_in_proportion_to_the_people() {
        let profiles = Profiles::shipped().unwrap();
        for name in ["planning-2020", "peak-2022", "worst-day", "smoke"] {
            let profile = profiles.find(name).unwrap();
            let shares = profiles.share(&profile, &countries(&EU));
            assert_eq!(shares.len(), 27);
            assert_eq!(
                shares.iter().map(|share| share.1).sum::<u64>(),
                profile.keys
            );
            let mut backwards = countries(&EU);
            backwards.reverse();
            assert_eq!(profiles.share(&profile, &backwards), shares, "in any order");
        }
        let planning = profiles.find("planning-2020").unwrap();
        let shares = profiles.share(&planning, &countries(&EU));
        let germany = shares
            .iter()
            .find(|share| share.0.as_str() == "DE")
            .unwrap();
        // 151000 x 83237124 / 446735291 by hand.
        assert_eq!(germany.1, 28_135);
    }

    #[test]
    fn takes_the_most_populous_when_there_are_more_participants_than_the_profile_has() {
        let profiles = Profiles::shipped().unwrap();
        let profile = Profile {
            participants: 2,
            ..profiles.find("smoke").unwrap()
        };
        let shares = profiles.share(&profile, &countries(&["MT", "XX", "FR", "DE"]));
        assert_eq!(
            shares,
            [(countries(&["DE"])[0], 2700), (countries(&["FR"])[0], 2700)]
        );
    }

    #[test]
    fn splits_by_the_largest_remainders() {
        // Hamilton's method by hand: 3.33 3.33 3.33, then 2.6 2.6 7.8.
        assert_eq!(apportion(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(apportion(13, &[1, 1, 3]), [3, 2, 8]);
        assert_eq!(apportion(2, &[5, 4, 3]), [1, 1, 0]);
        assert_eq!(apportion(5, &[]), [] as [u64; 0]);
    }

    #[test]
    fn names_the_profiles_there_are() {
        let error = Profiles::shipped()
            .unwrap()
            .find("planing")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "no profile is called planing; there are peak-2022, planning-2020, smoke, worst-day"
        );
    }
}

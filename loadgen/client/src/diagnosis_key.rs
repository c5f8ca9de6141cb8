//! Diagnosis keys as a national backend holds them, in JSON and in protobuf.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use testkit::protocol;

pub use testkit::protocol::Malformed;

/// Seconds of one interval of `rolling_start_interval_number`.
const INTERVAL_SECONDS: u64 = 600;
/// Intervals of a day.
const INTERVALS_PER_DAY: u64 = 144;
/// Days for which a key can be uploaded (wire §8.3).
const DAYS_MAX: u64 = 15;
/// Most characters of all visited countries: what the reference can store.
const VISITED_CHARACTERS_MAX: usize = 287;
/// The risk level that means "not given".
const NOT_GIVEN: i32 = i32::MAX;

/// Names of `report_type`, by number.
const REPORT_TYPES: [&str; 6] = [
    "UNKNOWN",
    "CONFIRMED_TEST",
    "CONFIRMED_CLINICAL_DIAGNOSIS",
    "SELF_REPORT",
    "RECURSIVE",
    "REVOKED",
];

/// One diagnosis key. In JSON it has the member names of the protocol (wire §6).
///
/// ```
/// use efgs_client::DiagnosisKey;
///
/// let key: DiagnosisKey = serde_json::from_str(
///     r#"{"keyData": "ABEiM0RVZneImaq7zN3u/w==", "rollingStartIntervalNumber": 2668032,
///         "rollingPeriod": 144, "transmissionRiskLevel": 4, "visitedCountries": ["FR", "IT"],
///         "origin": "DE", "reportType": "CONFIRMED_TEST", "days_since_onset_of_symptoms": 3}"#,
/// )?;
/// assert_eq!(
///     key.canonical_text(),
///     "ABEiM0RVZneImaq7zN3u/w==.ACi2AA==.AAAAkA==.AAAABA==.RlIsSVQ=.REU=.AAAAAQ==.AAAAAw==."
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DiagnosisKey {
    /// `keyData`: 16 bytes; base64 in JSON.
    #[serde(serialize_with = "write_base64", deserialize_with = "read_base64")]
    pub key_data: Vec<u8>,
    /// `rollingStartIntervalNumber`: when the key begins, in units of 600 s since 1970.
    pub rolling_start_interval_number: u32,
    /// `rollingPeriod`: for how many units of 600 s it was in use, 1 to 144.
    pub rolling_period: u32,
    /// `transmissionRiskLevel`: 0 to 8, or 2147483647 for "not given".
    #[serde(default)]
    pub transmission_risk_level: i32,
    /// `visitedCountries`, in the order in which they are signed.
    #[serde(default)]
    pub visited_countries: Vec<String>,
    /// `origin`: the country that uploads it, two capital letters.
    pub origin: String,
    /// `reportType`: its number; in JSON its name.
    #[serde(
        default,
        serialize_with = "write_report_type",
        deserialize_with = "read_report_type"
    )]
    pub report_type: i32,
    /// `days_since_onset_of_symptoms`: as the countries have agreed to encode it; the gateway does not
    /// check it.
    #[serde(
        default,
        rename = "days_since_onset_of_symptoms",
        alias = "daysSinceOnsetOfSymptoms"
    )]
    pub days_since_onset_of_symptoms: i32,
}

/// Why no gateway takes a key, whatever else is in its batch (wire §8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// `keyData` does not have 16 bytes.
    #[error("keyData does not have 16 bytes")]
    KeyData,
    /// The key begins earlier than midnight UTC 15 days ago, or later than the next interval.
    #[error("rollingStartIntervalNumber is not within the last 15 days")]
    RollingStart,
    /// `rollingPeriod` is not 1 to 144.
    #[error("rollingPeriod is not 1 to 144")]
    RollingPeriod,
    /// `transmissionRiskLevel` is neither 0 to 8 nor 2147483647.
    #[error("transmissionRiskLevel is neither 0 to 8 nor 2147483647")]
    RiskLevel,
    /// `reportType` has no name.
    #[error("reportType is not one of the enumeration")]
    ReportType,
    /// A visited country has a comma, a control character or letters outside ASCII, or all of them have
    /// more than 287 characters with the commas between them (decision 14).
    #[error("visitedCountries are not plain ASCII without commas, 287 characters at most")]
    VisitedCountry,
    /// `origin` is not the country that uploads.
    #[error("origin is not the uploading country")]
    Origin,
}

impl DiagnosisKey {
    /// Checks the rules that a key must obey at that time, in seconds since 1970, when `country`
    /// uploads it.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, country: &str, now_seconds: u64) -> Result<(), KeyFault> {
        let today = now_seconds / (INTERVAL_SECONDS * INTERVALS_PER_DAY);
        let oldest = today.saturating_sub(DAYS_MAX) * INTERVALS_PER_DAY;
        let starts = oldest..=now_seconds / INTERVAL_SECONDS + 1;
        let is_plain = |character: char| matches!(character, ' '..='~');
        let visited = self.visited_countries.join(",");
        let commas = self.visited_countries.len().saturating_sub(1);
        let is_visited_valid = visited.chars().all(is_plain)
            && visited.matches(',').count() == commas
            && visited.len() <= VISITED_CHARACTERS_MAX;
        let risk = self.transmission_risk_level;
        let rules = [
            (self.key_data.len() == 16, KeyFault::KeyData),
            (
                starts.contains(&u64::from(self.rolling_start_interval_number)),
                KeyFault::RollingStart,
            ),
            (
                (1..=144).contains(&self.rolling_period),
                KeyFault::RollingPeriod,
            ),
            (
                (0..=8).contains(&risk) || risk == NOT_GIVEN,
                KeyFault::RiskLevel,
            ),
            (
                report_type_name(self.report_type).is_some(),
                KeyFault::ReportType,
            ),
            (is_visited_valid, KeyFault::VisitedCountry),
            (self.origin == country, KeyFault::Origin),
        ];
        let broken = rules.into_iter().find(|(holds, _)| !holds);
        broken.map_or(Ok(()), |(_, fault)| Err(fault))
    }

    /// The text that is signed of this key (wire §9); two keys are the same when their texts are.
    pub fn canonical_text(&self) -> String {
        let texts = protocol::canonical_texts(&encode(std::slice::from_ref(self)));
        texts.unwrap_or_default().pop().unwrap_or_default()
    }

    fn write(&self, out: &mut Vec<u8>) {
        write_bytes(out, 1, &self.key_data);
        write_number(out, 2, u64::from(self.rolling_start_interval_number));
        write_number(out, 3, u64::from(self.rolling_period));
        // Negative numbers take ten bytes in protobuf.
        let sign_extended = |number: i32| i64::from(number).cast_unsigned();
        write_number(out, 4, sign_extended(self.transmission_risk_level));
        for country in &self.visited_countries {
            write_bytes(out, 5, country.as_bytes());
        }
        write_bytes(out, 6, self.origin.as_bytes());
        write_number(out, 7, sign_extended(self.report_type));
        let days = self.days_since_onset_of_symptoms;
        let zigzag = (days << 1) ^ (days >> 31);
        write_number(out, 8, u64::from(zigzag.cast_unsigned()));
    }
}

/// Does not show the key's data.
impl fmt::Debug for DiagnosisKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiagnosisKey")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

impl From<protocol::DiagnosisKey<'_>> for DiagnosisKey {
    fn from(key: protocol::DiagnosisKey<'_>) -> Self {
        let visited = key.visited_countries.into_iter();
        Self {
            key_data: key.key_data.to_vec(),
            rolling_start_interval_number: key.rolling_start,
            rolling_period: key.rolling_period,
            transmission_risk_level: key.risk_level,
            visited_countries: visited.map(str::to_owned).collect(),
            origin: key.origin.to_owned(),
            report_type: key.report_type,
            days_since_onset_of_symptoms: key.days_since_onset,
        }
    }
}

/// A batch in protobuf (`eu.interop.DiagnosisKeyBatch`, wire §7), with the keys in that order.
pub fn encode(keys: &[DiagnosisKey]) -> Vec<u8> {
    let (mut out, mut message) = (Vec::new(), Vec::new());
    for key in keys {
        message.clear();
        key.write(&mut message);
        out.push(1 << 3 | 2);
        write_varint(&mut out, message.len() as u64);
        out.extend_from_slice(&message);
    }
    out
}

/// The keys of a batch in protobuf.
///
/// # Errors
/// [`Malformed`].
pub fn decode(body: &[u8]) -> Result<Vec<DiagnosisKey>, Malformed> {
    let keys = protocol::keys(body)?.into_iter();
    Ok(keys.map(DiagnosisKey::from).collect())
}

fn write_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        write_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn write_number(out: &mut Vec<u8>, field: u8, number: u64) {
    if number != 0 {
        out.push(field << 3);
        write_varint(out, number);
    }
}

fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn write_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn read_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

fn report_type_name(number: i32) -> Option<&'static str> {
    let index = usize::try_from(number).ok()?;
    REPORT_TYPES.get(index).copied()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
fn write_report_type<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
    match report_type_name(*number) {
        Some(name) => serializer.serialize_str(name),
        None => serializer.serialize_i32(*number),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrNumber {
    Name(String),
    Number(i32),
}

fn read_report_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    match NameOrNumber::deserialize(deserializer)? {
        NameOrNumber::Number(number) => Ok(number),
        NameOrNumber::Name(name) => {
            let index = REPORT_TYPES.iter().position(|known| *known == name);
            let index = index.and_then(|index| i32::try_from(index).ok());
            index.ok_or_else(|| serde::de::Error::custom(format!("no reportType {name:?}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> DiagnosisKey {
        DiagnosisKey {
            key_data: vec![7; 16],
            rolling_start_interval_number: 2_668_032,
            rolling_period: 144,
            transmission_risk_level: NOT_GIVEN,
            visited_countries: vec!["FR".to_owned(), "PL".to_owned()],
            origin: "DE".to_owned(),
            report_type: 5,
            days_since_onset_of_symptoms: -3,
        }
    }

    type Change = fn(&mut DiagnosisKey);

    #[test]
    fn survives_protobuf_and_json() {
        let plain = DiagnosisKey {
            rolling_period: 1,
            visited_countries: Vec::new(),
            transmission_risk_level: -1,
            ..key()
        };
        let keys = [key(), plain];
        assert_eq!(decode(&encode(&keys)).unwrap(), keys);
        for key in &keys {
            let json = serde_json::to_string(key).unwrap();
            assert_eq!(serde_json::from_str::<DiagnosisKey>(&json).unwrap(), *key);
        }
        assert!(decode(&encode(&keys)[1..]).is_err());
    }

    #[test]
    fn knows_the_rules_of_keys() {
        // The day on which the key begins: 2020-09-23.
        let midnight = 2_668_032 * INTERVAL_SECONDS;
        assert_eq!(key().check("DE", midnight), Ok(()));
        let last = midnight + 16 * 86_400;
        assert_eq!(key().check("DE", last - 1), Ok(()));
        assert_eq!(key().check("DE", last), Err(KeyFault::RollingStart));
        assert_eq!(key().check("DE", midnight - 600), Ok(()));
        assert_eq!(
            key().check("DE", midnight - 601),
            Err(KeyFault::RollingStart)
        );
        assert_eq!(key().check("IT", midnight), Err(KeyFault::Origin));
        let broken: [(Change, KeyFault); 6] = [
            (
                |key| key.visited_countries = vec!["x".repeat(288)],
                KeyFault::VisitedCountry,
            ),
            (|key| key.key_data.truncate(15), KeyFault::KeyData),
            (|key| key.rolling_period = 145, KeyFault::RollingPeriod),
            (|key| key.transmission_risk_level = 9, KeyFault::RiskLevel),
            (|key| key.report_type = 6, KeyFault::ReportType),
            (
                |key| key.visited_countries.push("A,B".to_owned()),
                KeyFault::VisitedCountry,
            ),
        ];
        for (change, fault) in broken {
            let mut key = key();
            change(&mut key);
            assert_eq!(key.check("DE", midnight), Err(fault));
        }
    }
}

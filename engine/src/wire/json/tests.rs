use proptest::prelude::*;

use super::*;
use crate::wire::protobuf::{KeyMessages, read_key};

/// A key with its countries, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    key_data: Vec<u8>,
    rolling_start: u32,
    rolling_period: u32,
    risk_level: i32,
    countries: Vec<String>,
    origin: String,
    report_type: i32,
    days_since_onset: i32,
}

fn keys_of(protobuf: &[u8]) -> Vec<Key> {
    let mut messages = KeyMessages::new(protobuf);
    let mut keys = Vec::new();
    while let Some(message) = messages.next_message().unwrap() {
        let mut countries = Vec::new();
        let fields = read_key(message, |country| countries.push(country.to_owned())).unwrap();
        keys.push(Key {
            key_data: fields.key_data.to_vec(),
            rolling_start: fields.rolling_start,
            rolling_period: fields.rolling_period,
            risk_level: fields.risk_level,
            countries,
            origin: fields.origin.to_owned(),
            report_type: fields.report_type,
            days_since_onset: fields.days_since_onset,
        });
    }
    keys
}

fn write(key: &Key) -> Vec<u8> {
    let mut out = Vec::new();
    let fields = KeyFields {
        key_data: &key.key_data,
        rolling_start: key.rolling_start,
        rolling_period: key.rolling_period,
        risk_level: key.risk_level,
        origin: &key.origin,
        report_type: key.report_type,
        days_since_onset: key.days_since_onset,
    };
    write_key(&mut out, &fields, key.countries.iter().map(String::as_str));
    out
}

const NOTHING: Key = Key {
    key_data: Vec::new(),
    rolling_start: 0,
    rolling_period: 0,
    risk_level: 0,
    countries: Vec::new(),
    origin: String::new(),
    report_type: 0,
    days_since_onset: 0,
};

/// Reads a body with the members of one key.
fn read(members: &str) -> Result<Key, BodyError> {
    let body = format!(r#"{{"keys":[{{{members}}}]}}"#);
    let protobuf = to_protobuf(body.as_bytes(), 1)?;
    let mut keys = keys_of(&protobuf);
    assert_eq!(keys.len(), 1, "{members}");
    Ok(keys.remove(0))
}

fn accepts(members: &str, expected: Key) {
    assert_eq!(read(members), Ok(expected), "{members}");
}

fn refuses(members: &str, reason: MalformedBatch) {
    assert_eq!(read(members), Err(reason.into()), "{members}");
}

fn countries(list: &[&str]) -> Vec<String> {
    list.iter().map(|&country| country.to_owned()).collect()
}

#[test]
fn reads_the_example_of_the_protocol() {
    // The text is the reference's output (wire §6.1) but for the key data.
    accepts(
        r#""keyData": "q83vq83vq83vq83vq83vqw==","rollingStartIntervalNumber": 2668000,"rollingPeriod": 144,"transmissionRiskLevel": 3,"visitedCountries": ["DE","FR"],"origin": "IT","reportType": "CONFIRMED_TEST","days_since_onset_of_symptoms": -3"#,
        Key {
            key_data: [0xab, 0xcd, 0xef].into_iter().cycle().take(16).collect(),
            rolling_start: 2_668_000,
            rolling_period: 144,
            risk_level: 3,
            countries: countries(&["DE", "FR"]),
            origin: "IT".to_owned(),
            report_type: 1,
            days_since_onset: -3,
        },
    );
}

#[test]
fn takes_absent_members_and_null_for_defaults() {
    accepts("", NOTHING);
    accepts(
        r#""keyData":null,"rollingStartIntervalNumber":null,"rollingPeriod":null,
           "transmissionRiskLevel":null,"visitedCountries":null,"origin":null,
           "reportType":null,"days_since_onset_of_symptoms":null"#,
        NOTHING,
    );
}

#[test]
fn accepts_either_name_of_the_last_member() {
    for name in ["days_since_onset_of_symptoms", "daysSinceOnsetOfSymptoms"] {
        accepts(
            &format!(r#""{name}":-2147483648"#),
            Key {
                days_since_onset: i32::MIN,
                ..NOTHING
            },
        );
    }
}

#[test]
fn skips_unknown_members_of_any_shape() {
    accepts(
        r#""a":{},"b":[],"c":[{"d":[null,true,1e999,"\ud834\udd1e"]}],"KeyData":"!","6":"DE","origin":"IT""#,
        Key {
            origin: "IT".to_owned(),
            ..NOTHING
        },
    );
    let body = br#" { "version" : [ { } ] , "keys" : [ ] , "more" : null } "#;
    assert_eq!(to_protobuf(body, 1), Ok(vec![]));
}

#[test]
fn takes_numbers_plain_or_quoted_within_their_range() {
    for (text, expected) in [
        ("0", 0),
        ("144", 144),
        ("\"144\"", 144),
        ("4294967295", u32::MAX),
        ("\"4294967295\"", u32::MAX),
    ] {
        accepts(
            &format!(r#""rollingPeriod":{text},"rollingStartIntervalNumber":{text}"#),
            Key {
                rolling_period: expected,
                rolling_start: expected,
                ..NOTHING
            },
        );
    }
    accepts(
        r#""transmissionRiskLevel":"-2147483648""#,
        Key {
            risk_level: i32::MIN,
            ..NOTHING
        },
    );
    for text in [
        "-1",
        "4294967296",
        "\"4294967296\"",
        "1.0",
        "1e2",
        "\"1e2\"",
        "\"0x90\"",
        "\"0144\"",
        "\"+1\"",
        "\"\"",
        "\"-\"",
        "\" 1\"",
        "true",
        "[]",
        "{}",
        "1e999",
        "18446744073709551616",
        "\"99999999999999999999\"",
    ] {
        refuses(&format!(r#""rollingPeriod":{text}"#), MalformedBatch::Json);
    }
    for text in ["2147483648", "-2147483649"] {
        for name in [
            "transmissionRiskLevel",
            "days_since_onset_of_symptoms",
            "reportType",
        ] {
            refuses(&format!(r#""{name}":{text}"#), MalformedBatch::Json);
        }
    }
}

#[test]
fn takes_report_types_by_name_or_number() {
    for (text, report_type) in [
        ("\"UNKNOWN\"", 0),
        ("\"CONFIRMED_TEST\"", 1),
        ("\"CONFIRMED_CLINICAL_DIAGNOSIS\"", 2),
        ("\"SELF_REPORT\"", 3),
        ("\"RECURSIVE\"", 4),
        ("\"REVOKED\"", 5),
        ("\"R\\u0045VOKED\"", 5),
        ("3", 3),
        ("9", 9),
        ("-1", -1),
    ] {
        accepts(
            &format!(r#""reportType":{text}"#),
            Key {
                report_type,
                ..NOTHING
            },
        );
    }
    for text in ["\"confirmed_test\"", "\"1\"", "\"\"", "\"X\"", "1.5", "[1]"] {
        refuses(&format!(r#""reportType":{text}"#), MalformedBatch::Json);
    }
}

#[test]
fn takes_standard_base64_with_or_without_padding() {
    for text in ["/+8=", "/+8", r"\/+8=", r"\u002f+8"] {
        accepts(
            &format!(r#""keyData":"{text}""#),
            Key {
                key_data: vec![0xff, 0xef],
                ..NOTHING
            },
        );
    }
    for text in [
        "_-8=", "/+8\\n", "/+8==", "/+8=AAAA", "/", "/+9=", " /+8=", "é",
    ] {
        refuses(&format!(r#""keyData":"{text}""#), MalformedBatch::Base64);
    }
    for text in ["1", "[]", "{}", "true"] {
        refuses(&format!(r#""keyData":{text}"#), MalformedBatch::Json);
    }
}

#[test]
fn keeps_the_last_scalar_and_all_countries_of_repeated_members() {
    accepts(
        r#""origin":"DE","keyData":"AAAA","visitedCountries":["FR",""],"rollingPeriod":1,
           "rollingPeriod":2,"visitedCountries":["IT"],"keyData":"AQ==","origin":"AT""#,
        Key {
            key_data: vec![1],
            rolling_period: 2,
            countries: countries(&["FR", "", "IT"]),
            origin: "AT".to_owned(),
            ..NOTHING
        },
    );
    let body = br#"{"keys":[{"origin":"A"}],"keys":null,"keys":[{"origin":"B"}]}"#;
    let origins: Vec<_> = keys_of(&to_protobuf(body, 2).unwrap())
        .into_iter()
        .map(|key| key.origin)
        .collect();
    assert_eq!(origins, ["A", "B"]);
}

#[test]
fn refuses_countries_and_origins_that_are_no_text() {
    for members in [
        r#""visitedCountries":"DE""#,
        r#""visitedCountries":[1]"#,
        r#""visitedCountries":[null]"#,
        r#""visitedCountries":[["DE"]]"#,
        r#""visitedCountries":{}"#,
        r#""origin":1"#,
        r#""origin":["DE"]"#,
        r#""origin":"\ud834""#,
    ] {
        refuses(members, MalformedBatch::Json);
    }
}

#[test]
fn refuses_what_is_no_json_or_no_object() {
    let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
    for body in [
        "",
        " ",
        "null",
        "[]",
        "\"\"",
        "1",
        "{",
        "{}}",
        "{} x",
        "{}{}",
        "{'keys':[]}",
        "{keys:[]}",
        r#"{"keys":[],}"#,
        r#"{"keys":[{},]}"#,
        r#"{"keys":[{} {}]}"#,
        r#"{"keys":[null]}"#,
        r#"{"keys":[1]}"#,
        r#"{"keys":[[]]}"#,
        r#"{"keys":{}}"#,
        r#"{"keys":"x"}"#,
        r#"{"keys":[{}]"#,
        r##"{"keys":[]} # x"##,
        "\u{feff}{}",
        r#"{"a":01}"#,
        r#"{"a":"\x"}"#,
        "{\"a\":\"\n\"}",
        &deep,
    ] {
        let refused = to_protobuf(body.as_bytes(), 5);
        assert_eq!(refused, Err(MalformedBatch::Json.into()), "{:.40}", body);
    }
    assert_eq!(
        to_protobuf(b"{\"a\":\"\xff\"}", 5),
        Err(MalformedBatch::NotUtf8.into())
    );
}

#[test]
fn reads_an_empty_object_as_an_empty_batch() {
    for body in ["{}", r#"{"keys":[]}"#, r#"{"keys":null}"#, "\t{\r\n}\n"] {
        assert_eq!(to_protobuf(body.as_bytes(), 0), Ok(vec![]), "{body}");
    }
}

#[test]
fn stops_at_the_first_key_too_many() {
    let body = br#"{"keys":[{},{},{"keyData":"!"#;
    let refused = BodyError::TooManyKeys { max: 2 };
    assert_eq!(to_protobuf(body, 2), Err(refused));
}

#[test]
fn stops_at_a_key_with_too_many_visited_countries() {
    // What follows is not looked at: it is not JSON.
    let list = |count: usize| vec![r#""FR""#; count].join(",");
    let body = format!(r#"{{"keys":[{{}},{{"visitedCountries":[{},!"#, list(97));
    let keys = keys_of(&to_protobuf(body.as_bytes(), 5).unwrap());
    assert_eq!(keys.len(), 2);
    assert_eq!(keys[1].countries.len(), 97);
    accepts(
        &format!(r#""visitedCountries":[{}]"#, list(96)),
        Key {
            countries: countries(&["FR"; 96]),
            ..NOTHING
        },
    );
}

#[test]
fn writes_all_members_always() {
    let mut out = Vec::new();
    write_segment(&mut out, &write(&NOTHING));
    let expected = r#"{"keyData":"","rollingStartIntervalNumber":0,"rollingPeriod":0,"transmissionRiskLevel":0,"visitedCountries":[],"origin":"","reportType":"UNKNOWN","days_since_onset_of_symptoms":0}"#;
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn writes_nothing_for_a_segment_without_keys() {
    let mut out = Vec::new();
    write_segment(&mut out, b"");
    assert!(out.is_empty());
}

fn key() -> impl Strategy<Value = Key> {
    let numbers = (any::<u32>(), any::<u32>(), any::<i32>(), any::<i32>());
    let texts = (prop::collection::vec(".{0,3}", 0..4), ".{0,4}");
    let data = prop::collection::vec(any::<u8>(), 0..20);
    let report_type = prop_oneof![4 => 0i32..6, 1 => any::<i32>()];
    (data, numbers, texts, report_type).prop_map(|(key_data, numbers, texts, report_type)| Key {
        key_data,
        rolling_start: numbers.0,
        rolling_period: numbers.1,
        risk_level: numbers.2,
        countries: texts.0,
        origin: texts.1,
        report_type,
        days_since_onset: numbers.3,
    })
}

proptest! {
    #[test]
    fn reads_back_what_it_wrote(keys in prop::collection::vec(key(), 0..6)) {
        let segment: Vec<u8> = keys.iter().flat_map(write).collect();
        let mut body = OPENING.to_vec();
        write_segment(&mut body, &segment);
        body.extend_from_slice(CLOSING);
        let parsed: serde_json::Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(parsed["keys"].as_array().unwrap().len(), keys.len());
        prop_assert_eq!(to_protobuf(&body, 6), Ok(segment));
    }

    #[test]
    fn survives_any_text(body in ".{0,200}") {
        let _outcome = to_protobuf(body.as_bytes(), 3);
    }

    /// Cutting or changing a byte never panics, and never lets the reader stop early.
    #[test]
    fn survives_mutations(at in 0usize..150, byte: u8) {
        let mut body = br#"{"keys":[{"keyData":"AAAA","visitedCountries":["DE"],"origin":"\u0041","reportType":"REVOKED","days_since_onset_of_symptoms":-1,"x":[{}]},{}]}"#.to_vec();
        let at = at.min(body.len().saturating_sub(1));
        prop_assert_eq!(to_protobuf(&body[..at], 3), Err(MalformedBatch::Json.into()));
        body[at] = byte;
        let _outcome = to_protobuf(&body, 3);
    }
}

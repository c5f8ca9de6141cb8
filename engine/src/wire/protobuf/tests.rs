use proptest::prelude::*;

use super::*;

/// Key `k000` of the test vectors in a batch, and a lone zero byte after it.
const ONE_KEY: &[u8] = &[
    0x0a, 0x2a, 0x0a, 0x10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0x10, 0xa0, 0x85,
    0xa5, 0x01, 0x18, 0x90, 0x01, 0x20, 0x03, 0x2a, 0x02, 0x46, 0x52, 0x2a, 0x02, 0x49, 0x54, 0x32,
    0x02, 0x44, 0x45, 0x38, 0x01, 0x00,
];

fn read_all(body: &[u8]) -> Result<Vec<(KeyFields<'_>, Vec<&str>)>, MalformedBatch> {
    let mut messages = KeyMessages::new(body);
    let mut keys = Vec::new();
    while let Some(message) = messages.next_message()? {
        let mut countries = Vec::new();
        keys.push((
            read_key(message, |country| countries.push(country))?,
            countries,
        ));
    }
    Ok(keys)
}

#[test]
fn reads_a_vector_and_writes_the_same() {
    let body = &ONE_KEY[..ONE_KEY.len() - 1];
    let keys = read_all(body).unwrap();
    let (key, countries) = &keys[0];
    assert_eq!(key.rolling_start, 2_704_032);
    assert_eq!(
        (key.rolling_period, key.risk_level, key.report_type),
        (144, 3, 1)
    );
    assert_eq!((key.days_since_onset, key.origin), (0, "DE"));
    assert_eq!(countries, &["FR", "IT"]);
    let mut out = Vec::new();
    write_key(&mut out, key, countries.iter().copied());
    assert_eq!(out, body);
}

#[test]
fn writes_extreme_days_since_onset_in_five_bytes() {
    // The protobuf encoding guide: -2147483648 is 4294967295, 2147483647 is 4294967294.
    for (days, expected) in [
        (i32::MIN, [0xff, 0xff, 0xff, 0xff, 0x0f]),
        (i32::MAX, [0xfe, 0xff, 0xff, 0xff, 0x0f]),
    ] {
        let key = KeyFields {
            days_since_onset: days,
            ..KeyFields::default()
        };
        let mut out = Vec::new();
        write_key(&mut out, &key, std::iter::empty());
        assert_eq!(out, [&[0x0a, 6, 0x40], expected.as_slice()].concat());
    }
}

#[test]
fn refuses_field_number_zero_and_truncation() {
    assert_eq!(
        read_all(ONE_KEY),
        Err(MalformedBatch::Field),
        "a lone zero byte"
    );
    assert_eq!(read_all(&[0, 0]), Err(MalformedBatch::Field));
    for end in 1..ONE_KEY.len() - 1 {
        assert!(read_all(&ONE_KEY[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn skips_unknown_fields_and_groups() {
    // Field 15 as varint, field 16 as a group with a nested field, then no key.
    assert_eq!(
        read_all(&[0x78, 0x01, 0x83, 0x01, 0x08, 0x01, 0x84, 0x01]),
        Ok(vec![])
    );
    assert!(
        read_all(&[0x83, 0x01, 0x08, 0x01]).is_err(),
        "a group without end"
    );
    assert!(read_all(&[0x84, 0x01]).is_err(), "an end without group");
    assert!(
        read_all(&[0x0b; 4000]).is_err(),
        "groups nested without bound"
    );
}

proptest! {
    #[test]
    fn reads_back_what_it_wrote(
        key_data in prop::collection::vec(any::<u8>(), 0..40),
        rolling_start: u32, rolling_period: u32, risk_level: i32, report_type: i32,
        days_since_onset: i32, origin in ".{0,4}",
        countries in prop::collection::vec(".{0,3}", 0..40),
    ) {
        let key = KeyFields {
            key_data: &key_data, rolling_start, rolling_period, risk_level,
            origin: &origin, report_type, days_since_onset,
        };
        let mut out = Vec::new();
        write_key(&mut out, &key, countries.iter().map(String::as_str));
        let keys = read_all(&out).unwrap();
        prop_assert_eq!(keys.len(), 1);
        prop_assert_eq!(&keys[0].0, &key);
        prop_assert_eq!(&keys[0].1, &countries);
    }

    #[test]
    fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _outcome = read_all(&bytes);
    }
}

//! Diagnosis keys from a seed, written directly into protobuf bodies. The same seed gives the same
//! keys on any machine, in any order.
//!
//! A person shares the keys of the last 14 days (sizing §1), each from midnight to midnight.
//! Half of the people visited up to three countries, half four to fourteen: 60 bytes per key on
//! average, as sizing §1 assumes.

use engine::domain::{Country, Day};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Keys that one person shares: one per day.
pub const KEYS_PER_PERSON: u32 = 14;

/// Bytes that one key takes in a body, on average.
const KEY_BYTES: usize = 64;
/// Seconds in a ten-minute interval.
const INTERVAL_SECONDS: u64 = 600;
/// Intervals in a day: the rolling period of every key.
const INTERVALS_PER_DAY: u32 = 144;

/// Everything that keys are derived from, apart from country and upload. A different value of any
/// field gives entirely different keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    /// The seed given on the command line.
    pub number: u64,
    /// Keys of the whole run.
    pub keys_total: u64,
    /// Keys in a full upload.
    pub upload_keys: u32,
    /// The day on which the keys are shared.
    pub day: Day,
}

/// Generates the bodies of uploads.
#[derive(Debug)]
pub struct KeyGenerator {
    seed: [u8; 32],
    today: u32,
    countries: Vec<Country>,
}

impl KeyGenerator {
    /// A generator for people who travel between `countries`.
    pub fn new(seed: Seed, countries: &[Country]) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.number.to_le_bytes());
        bytes[8..16].copy_from_slice(&seed.keys_total.to_le_bytes());
        bytes[16..20].copy_from_slice(&seed.upload_keys.to_le_bytes());
        bytes[20..24].copy_from_slice(&seed.day.compact_number().to_le_bytes());
        let today = seed.day.start_unix_seconds() / INTERVAL_SECONDS;
        Self {
            seed: bytes,
            today: u32::try_from(today).unwrap_or(u32::MAX),
            countries: countries.to_vec(),
        }
    }

    /// The protobuf body of one upload: `key_count` keys that originate in `country`.
    pub fn body(&self, country: Country, upload_index: u32, key_count: u32) -> Vec<u8> {
        let mut random = self.stream(country, upload_index);
        let mut body = Vec::with_capacity(key_count as usize * KEY_BYTES);
        let mut left = key_count;
        while left > 0 {
            let keys = left.min(KEYS_PER_PERSON);
            self.write_person(&mut body, &mut random, country, keys);
            left -= keys;
        }
        body
    }

    fn stream(&self, country: Country, upload_index: u32) -> ChaCha8Rng {
        let mut random = ChaCha8Rng::from_seed(self.seed);
        let [a, b] = [
            country.as_str().as_bytes()[0],
            country.as_str().as_bytes()[1],
        ];
        let [i, j, k, l] = upload_index.to_be_bytes();
        random.set_stream(u64::from_be_bytes([0, 0, a, b, i, j, k, l]));
        random
    }

    fn write_person(
        &self,
        body: &mut Vec<u8>,
        random: &mut ChaCha8Rng,
        country: Country,
        keys: u32,
    ) {
        let person = self.person(random, country);
        for (days_ago, day) in (1..=keys).zip(1_i32..) {
            let mut key_data = [0; 16];
            random.fill_bytes(&mut key_data);
            let rolling_start = self.today.saturating_sub(days_ago * INTERVALS_PER_DAY);
            person.write_key(body, &key_data, rolling_start, person.onset_days_ago - day);
        }
    }

    /// The fields that all keys of a person share.
    fn person(&self, random: &mut ChaCha8Rng, country: Country) -> Person {
        let (first, count) = self.visited_range(random);
        let mut common = ArrayWriter::default();
        let (before, from) = self.countries.split_at(first.min(self.countries.len()));
        for visited in from.iter().chain(before).take(count) {
            if *visited != country {
                common.text(VISITED_COUNTRIES, visited.as_str());
            }
        }
        common.text(ORIGIN, country.as_str());
        let onset_days_ago = random.random_range(0..8_i32);
        let report_type = if random.random_ratio(19, 20) { 1 } else { 2 };
        common.bytes(&[REPORT_TYPE, report_type]);
        Person {
            common,
            onset_days_ago,
        }
    }

    /// The first visited country, as an index into the list, and the number of countries.
    fn visited_range(&self, random: &mut ChaCha8Rng) -> (usize, usize) {
        let longest = self.countries.len();
        let count = match random.random_range(0..2_u32) {
            0 => random.random_range(0..=3_usize),
            _ => random.random_range(4..=14_usize),
        };
        (random.random_range(0..longest.max(1)), longest.min(count))
    }
}

/// Tags of the fields of a key, in the order of the standard's message; the number of a batch's
/// `keys` field is that of `keyData`.
const KEYS: u8 = 1 << 3 | LENGTH;
const KEY_DATA: u8 = 1 << 3 | LENGTH;
const ROLLING_START: u8 = 2 << 3;
const ROLLING_PERIOD: u8 = 3 << 3;
const RISK_LEVEL: u8 = 4 << 3;
const VISITED_COUNTRIES: u8 = 5 << 3 | LENGTH;
const ORIGIN: u8 = 6 << 3 | LENGTH;
const REPORT_TYPE: u8 = 7 << 3;
const DAYS_SINCE_ONSET: u8 = 8 << 3;
/// Wire type of length-delimited fields; varints have 0.
const LENGTH: u8 = 2;
/// Longest message of a key that is written here: 14 visited countries take 56 bytes, all else 40.
const MESSAGE_BYTES_MAX: usize = 127;

/// The encoded fields that a person's keys share: visited countries, origin, report type.
struct Person {
    common: ArrayWriter,
    onset_days_ago: i32,
}

impl Person {
    /// Writes one key as [`engine::wire::protobuf::write_key`] does; a test compares them. Most of
    /// a key is copied, which is what makes a day of Europe quick to prepare.
    fn write_key(&self, body: &mut Vec<u8>, key_data: &[u8; 16], rolling_start: u32, onset: i32) {
        let mut head = ArrayWriter::default();
        head.bytes(&[KEY_DATA, 16]);
        head.bytes(key_data);
        if rolling_start != 0 {
            head.bytes(&[ROLLING_START]);
            head.varint(rolling_start);
        }
        head.bytes(&[ROLLING_PERIOD]);
        head.varint(INTERVALS_PER_DAY);
        head.bytes(&[RISK_LEVEL, risk_level(onset)]);
        let mut tail = ArrayWriter::default();
        if onset != 0 {
            tail.bytes(&[DAYS_SINCE_ONSET, zig_zag(onset)]);
        }
        let parts = [head.written(), self.common.written(), tail.written()];
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let length = u8::try_from(length).unwrap_or(u8::MAX);
        debug_assert!(
            usize::from(length) <= MESSAGE_BYTES_MAX,
            "one byte of length"
        );
        body.extend_from_slice(&[KEYS, length]);
        parts.iter().for_each(|part| body.extend_from_slice(part));
    }
}

/// The few bytes of a message, on the stack.
struct ArrayWriter {
    bytes: [u8; MESSAGE_BYTES_MAX],
    used: usize,
}

impl Default for ArrayWriter {
    fn default() -> Self {
        Self {
            bytes: [0; MESSAGE_BYTES_MAX],
            used: 0,
        }
    }
}

impl ArrayWriter {
    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.used..][..bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// A field with a text of two letters.
    fn text(&mut self, tag: u8, text: &str) {
        self.bytes(&[tag, 2]);
        self.bytes(text.as_bytes());
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes(&[value.to_le_bytes()[0] | 0x80]);
            value >>= 7;
        }
        self.bytes(&[value.to_le_bytes()[0]]);
    }

    fn written(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// Protobuf's sint32, of a number of days.
fn zig_zag(days: i32) -> u8 {
    let doubled = 2 * days.unsigned_abs() - u32::from(days < 0);
    u8::try_from(doubled).unwrap_or(u8::MAX).min(127)
}

/// Highest around the onset of symptoms, lowest far from it.
fn risk_level(days_since_onset: i32) -> u8 {
    let days = u8::try_from(days_since_onset.unsigned_abs()).unwrap_or(u8::MAX);
    8_u8.saturating_sub(days).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use engine::UploadError;
    use engine::clock::{Clock, SystemClock};
    use engine::decode::decode;
    use engine::domain::UnixMillis;
    use engine::validate::{check_origins, validate};
    use engine::wire::protobuf::{KeyMessages, read_key, write_key};

    use super::*;

    const NOON: UnixMillis = UnixMillis(1_622_548_800_000);

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    fn generator(number: u64) -> KeyGenerator {
        let seed = Seed {
            number,
            keys_total: 5000,
            upload_keys: 5000,
            day: NOON.day(),
        };
        KeyGenerator::new(seed, &["DE", "ES", "FR", "IT"].map(country))
    }

    fn key_data(body: &[u8]) -> Vec<[u8; 16]> {
        let mut messages = KeyMessages::new(body);
        let mut all = Vec::new();
        while let Some(message) = messages.next_message().unwrap() {
            all.push(
                read_key(message, |_| ())
                    .unwrap()
                    .key_data
                    .try_into()
                    .unwrap(),
            );
        }
        all
    }

    #[test]
    fn gives_the_same_keys_for_the_same_seed() {
        let body = generator(7).body(country("DE"), 3, 5000);
        assert_eq!(body, generator(7).body(country("DE"), 3, 5000));
        let mut all: HashSet<_> = key_data(&body).into_iter().collect();
        assert_eq!(all.len(), 5000, "no key comes twice");
        for (number, code, index) in [(8, "DE", 3), (7, "FR", 3), (7, "DE", 4)] {
            let other = generator(number).body(country(code), index, 5000);
            all.extend(key_data(&other));
        }
        assert_eq!(
            all.len(),
            20_000,
            "other seeds, countries and uploads have other keys"
        );
    }

    #[test]
    fn makes_keys_that_every_rule_of_the_protocol_allows() -> Result<(), UploadError> {
        let body = generator(1).body(country("DE"), 0, 5000);
        let batch = decode(&body, 5000).unwrap();
        assert_eq!(batch.key_count(), 5000);
        check_origins(&batch, country("DE")).unwrap();
        // All day, and for an hour of the next.
        let midnight = NOON.day().start_unix_seconds() * 1000;
        for at in [midnight, midnight + 86_399_999, midnight + 90_000_000] {
            validate(decode(&body, 5000).unwrap(), UnixMillis(at)).unwrap();
        }
        assert!(
            validate(batch, SystemClock.now()).is_err(),
            "years later they are too old"
        );
        Ok(())
    }

    #[test]
    fn encodes_keys_as_the_engine_does() {
        let all: Vec<_> = ('A'..='Z').map(|c| country(&format!("A{c}"))).collect();
        let seed = Seed {
            number: 3,
            keys_total: 1,
            upload_keys: 1,
            day: NOON.day(),
        };
        for countries in [&all[..], &all[..1], &[]] {
            let body = KeyGenerator::new(seed, countries).body(country("AC"), 0, 1000);
            let mut messages = KeyMessages::new(&body);
            let mut again = Vec::new();
            while let Some(message) = messages.next_message().unwrap() {
                let mut visited = Vec::new();
                let key = read_key(message, |country| visited.push(country)).unwrap();
                write_key(&mut again, &key, visited.into_iter());
            }
            assert!(again == body, "{} countries", countries.len());
        }
    }

    #[test]
    fn keeps_the_keys_that_a_seed_has_given() {
        // Keys can be generated again years later only if this never changes: taken from the first
        // version of the generator, which wrote through `write_key`.
        let body = generator(7).body(country("DE"), 3, 5000);
        let digest = crate::digest::sha256(&body);
        let hex: String = digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, "d372d28bd6e7061b");
    }

    #[test]
    fn fills_uploads_of_any_size_with_60_bytes_a_key() {
        for key_count in [0, 1, 13, 14, 15, 5000] {
            let body = generator(1).body(country("FR"), 0, key_count);
            assert_eq!(key_data(&body).len(), key_count as usize);
        }
        let all: Vec<_> = ('A'..='Z').map(|c| country(&format!("A{c}"))).collect();
        let seed = Seed {
            number: 1,
            keys_total: 5000,
            upload_keys: 5000,
            day: NOON.day(),
        };
        let bytes = KeyGenerator::new(seed, &all)
            .body(country("AB"), 0, 5000)
            .len();
        assert!((55 * 5000..65 * 5000).contains(&bytes), "{bytes} bytes");
    }
}

//! Human-readable numbers: three digits and a fitting unit.

/// Prefixes of decimal units, with what they stand for.
const PREFIXES: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];

/// Three significant digits: `0.123`, `1.23`, `12.3`, `123`, and whole numbers beyond.
pub fn digits(value: f64) -> String {
    let size = value.abs();
    let places = match size {
        _ if size == 0.0 || size >= 99.95 => 0,
        _ if size >= 9.995 => 1,
        _ if size >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') {
        let text = text.trim_end_matches('0').trim_end_matches('.');
        return text.to_owned();
    }
    text
}

/// A number with a decimal prefix: `16.1 M`, `965 M`, `12.5 k`; four digits have none: `5000`.
pub fn scaled(value: f64) -> String {
    if value.abs() < 9999.5 {
        return digits(value);
    }
    for (size, prefix) in PREFIXES {
        // 999.6 k is shown as 1 M.
        if value.abs() >= size * 0.9995 {
            return format!("{} {prefix}", digits(value / size));
        }
    }
    digits(value)
}

/// Decimal bytes: `965 MB`.
pub fn bytes(value: f64) -> String {
    for (size, prefix) in PREFIXES {
        if value.abs() >= size * 0.9995 {
            return format!("{} {prefix}B", digits(value / size));
        }
    }
    format!("{} B", digits(value))
}

/// Memory, in units of 1024: `8.05 GiB`.
pub fn memory(value: f64) -> String {
    for (size, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        let size = f64::from(1u32 << size);
        if value.abs() >= size * 0.9995 {
            return format!("{} {unit}", digits(value / size));
        }
    }
    format!("{} B", digits(value))
}

/// Seconds, as `350 µs`, `12.5 ms`, `4.2 s`, `3.1 min`.
pub fn seconds(value: f64) -> String {
    match value {
        _ if value >= 120.0 => format!("{} min", digits(value / 60.0)),
        _ if value >= 0.9995 => format!("{} s", digits(value)),
        _ if value >= 0.000_999_5 => format!("{} ms", digits(value * 1e3)),
        _ => format!("{} µs", digits(value * 1e6)),
    }
}

/// Units of time, with their seconds.
const TIMES: [(&str, f64); 6] = [
    ("us", 1e-6),
    ("ms", 1e-3),
    ("min", 60.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("s", 1.0),
];

/// Seconds out of a number with a unit: `350us`, `250ms`, `1.5s`, `5m` or `5min`, `1h`; at least 0.
pub fn read_seconds(text: &str) -> Option<f64> {
    let (number, seconds) = TIMES
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))?;
    read_number(number).map(|number| number * seconds)
}

/// A number with or without a decimal prefix: `16.1M`, `250k`, `50`; at least 0.
pub fn read_scaled(text: &str) -> Option<f64> {
    let prefixed = PREFIXES
        .iter()
        .find_map(|(size, prefix)| Some((text.strip_suffix(prefix)?, *size)));
    let (number, size) = prefixed.unwrap_or((text, 1.0));
    read_number(number).map(|number| number * size)
}

/// A share out of `0.1%` or `0.001`, 0 to 1.
pub fn read_share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => read_number(percent)? / 100.0,
        None => read_number(text)?,
    };
    (share <= 1.0).then_some(share)
}

/// Digits and a point alone: no sign, no exponent, nothing infinite.
fn read_number(text: &str) -> Option<f64> {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| plain)
}

/// The smallest of 1, 2, 5, 10, 20, 50, … that is not less.
pub fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 0.0;
    }
    let decade = 10f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
    steps
        .into_iter()
        .find(|step| *step >= value)
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_three_digits_and_a_unit_that_fits() {
        for (shown, expected) in [
            (digits(0.0), "0"),
            (digits(0.1234), "0.123"),
            (digits(1.0), "1"),
            (digits(9.999), "10"),
            (digits(12.34), "12.3"),
            (digits(1234.5), "1234"),
            (scaled(16_100_000.0), "16.1 M"),
            (scaled(999_700.0), "1 M"),
            (scaled(134.2), "134"),
            (scaled(5000.0), "5000"),
            (scaled(12_500.0), "12.5 k"),
            (bytes(5000.0), "5 kB"),
            (bytes(965e6), "965 MB"),
            (bytes(26e9), "26 GB"),
            (bytes(60.0), "60 B"),
            (memory(16.0 * 1_073_741_824.0), "16 GiB"),
            (memory(1_572_864.0), "1.5 MiB"),
            (seconds(0.0125), "12.5 ms"),
            (seconds(350e-6), "350 µs"),
            (seconds(4.25), "4.25 s"),
            (seconds(186.0), "3.1 min"),
        ] {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn reads_numbers_with_units() {
        let close = |read: Option<f64>, expected: f64| {
            assert!((read.unwrap() - expected).abs() < 1e-9, "{expected}");
        };
        for (text, expected) in [
            ("350us", 350e-6),
            ("250ms", 0.25),
            ("1.5s", 1.5),
            ("5m", 300.0),
            ("5min", 300.0),
            ("1h", 3600.0),
        ] {
            close(read_seconds(text), expected);
        }
        close(read_scaled("16M"), 16_000_000.0);
        close(read_scaled("250k"), 250_000.0);
        close(read_scaled("0.5"), 0.5);
        close(read_share("0.1%"), 0.001);
        close(read_share("0.25"), 0.25);
        for text in ["", "s", "-1s", "1e3s", "infs", "5", "5 s", "xms"] {
            assert_eq!(read_seconds(text), None, "{text}");
        }
        for text in ["", "k", "-1", "nan", "inf"] {
            assert_eq!(read_scaled(text), None, "{text}");
        }
        assert_eq!(read_share("101%"), None);
    }

    #[test]
    fn rounds_up_to_sizes_that_are_sold() {
        for (value, expected) in [
            (0.0, 0.0),
            (1.0, 1.0),
            (1.1, 2.0),
            (30.0, 50.0),
            (501.0, 1000.0),
        ] {
            assert!((rounded_up(value) - expected).abs() < 1e-9, "{value}");
        }
    }
}

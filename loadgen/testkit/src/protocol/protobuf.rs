//! Reads `eu.interop.DiagnosisKeyBatch` in protobuf (wire §7).

/// The bytes are not a protobuf batch of diagnosis keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a batch of diagnosis keys in protobuf")]
pub struct Malformed;

/// One diagnosis key, as it stands in a body; what is absent has the default of proto3.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DiagnosisKey<'a> {
    /// `keyData`.
    pub key_data: &'a [u8],
    /// `rollingStartIntervalNumber`.
    pub rolling_start: u32,
    /// `rollingPeriod`.
    pub rolling_period: u32,
    /// `transmissionRiskLevel`.
    pub risk_level: i32,
    /// `visitedCountries`, in the order in which they were sent.
    pub visited_countries: Vec<&'a str>,
    /// `origin`.
    pub origin: &'a str,
    /// `reportType`, as a number.
    pub report_type: i32,
    /// `days_since_onset_of_symptoms`.
    pub days_since_onset: i32,
}

impl<'a> DiagnosisKey<'a> {
    /// Reads an encoded key.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(message: &'a [u8]) -> Result<Self, Malformed> {
        let mut key = Self::default();
        for field in Fields(message) {
            match field? {
                (1, Value::Bytes(bytes)) => key.key_data = bytes,
                (2, Value::Varint(number)) => key.rolling_start = low_32(number),
                (3, Value::Varint(number)) => key.rolling_period = low_32(number),
                (4, Value::Varint(number)) => key.risk_level = low_32(number).cast_signed(),
                (5, Value::Bytes(bytes)) => key.visited_countries.push(text(bytes)?),
                (6, Value::Bytes(bytes)) => key.origin = text(bytes)?,
                (7, Value::Varint(number)) => key.report_type = low_32(number).cast_signed(),
                (8, Value::Varint(number)) => key.days_since_onset = zigzag(low_32(number)),
                _ => {}
            }
        }
        Ok(key)
    }
}

/// The encoded keys of a body, in order. Ends behind the first error.
pub fn messages(body: &[u8]) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(body).filter_map(|field| match field {
        Ok((1, Value::Bytes(message))) => Some(Ok(message)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// The keys of a body, in order.
///
/// # Errors
/// [`Malformed`].
pub fn keys(body: &[u8]) -> Result<Vec<DiagnosisKey<'_>>, Malformed> {
    messages(body)
        .map(|message| DiagnosisKey::read(message?))
        .collect()
}

/// A field's value, as far as its number of bytes needs to be known.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message: number and value. Ends behind the first error.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).map_err(|_| Malformed)?)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            // Groups are obsolete: no backend sends them, and the gateway never returns any.
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            0 => Err(Malformed),
            number => Ok((number, value)),
        }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(Malformed)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// A varint beyond 32 bits keeps its low 32: protobuf's rule.
fn low_32(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).expect("32 bits")
}

/// `sint32`.
const fn zigzag(number: u32) -> i32 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_signed_numbers_as_protobuf_writes_them() {
        // Made with protoc: { transmissionRiskLevel: -1, days_since_onset_of_symptoms: -3 }.
        let message = *b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x40\x05";
        let key = DiagnosisKey::read(&message).unwrap();
        assert_eq!((key.risk_level, key.days_since_onset), (-1, -3));
    }

    #[test]
    fn refuses_what_ends_too_early() {
        for bytes in [
            &b"\x0a\x05abc"[..],
            b"\x0a",
            b"\x10\xff",
            b"\x00\x01",
            b"\x0b",
        ] {
            assert_eq!(keys(bytes), Err(Malformed), "{bytes:x?}");
        }
    }
}

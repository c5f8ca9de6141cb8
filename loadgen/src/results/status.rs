//! Counts by status, in JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, de};

/// Names in JSON are strings, and serde does not convert them within a tagged enum.
pub(super) fn statuses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<u16, u64>, D::Error> {
    let texts = BTreeMap::<String, u64>::deserialize(deserializer)?;
    let numbers = texts.into_iter().map(|(text, count)| {
        let status = text.parse().map_err(|_| {
            de::Error::invalid_value(de::Unexpected::Str(&text), &"the number of a status")
        })?;
        Ok((status, count))
    });
    numbers.collect()
}

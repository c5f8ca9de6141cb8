//! Values that are written as text, and read by their `FromStr`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One value: `#[serde(with = "text::one")]`.
pub(super) mod one {
    use super::*;

    pub(in crate::settings) fn serialize<T: fmt::Display, S: Serializer>(
        value: &T,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::settings) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(UNREADABLE))
    }
}

/// A list of values: `#[serde(with = "text::list")]`.
pub(super) mod list {
    use super::*;

    pub(in crate::settings) fn serialize<T: fmt::Display, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(ToString::to_string))
    }

    pub(in crate::settings) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let values = texts.iter().map(|text| text.parse());
        let values: Result<_, _> = values.collect();
        values.map_err(|_| D::Error::custom(UNREADABLE))
    }
}

/// Never shown: the setting's own description says what is allowed.
const UNREADABLE: &str = "cannot be read";

/// Where to listen, or nowhere: `ADDRESS:PORT` or `off`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Listen(pub(super) Option<SocketAddr>);

/// What a [`Listen`] is, for errors.
pub(super) const LISTEN: &str = "ADDRESS:PORT, as in \"127.0.0.1:8443\" or \"[::1]:8443\", with neither a \
     name nor the port alone, or \"off\"";

impl FromStr for Listen {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            _ => text.parse().map(|address| Self(Some(address))),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("off"),
        }
    }
}

/// The name of a gateway: none, or 1 to 64 letters, digits, `.`, `_`, `-` and `:`, so that it is the same
/// in a log line, in JSON and in a table of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GatewayName(pub(super) Option<String>);

/// What a [`GatewayName`] is, for errors.
pub(super) const GATEWAY_NAME: &str = "1 to 64 letters (a to z, A to Z), digits or any of \".\", \"_\", \"-\" and \":\", as in \"efgs-1\"";

impl FromStr for GatewayName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':');
        match text.len() {
            0 => Ok(Self(None)),
            1..=64 if text.bytes().all(is_allowed) => Ok(Self(Some(text.to_owned()))),
            _ => Err(()),
        }
    }
}

impl fmt::Display for GatewayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or_default())
    }
}

/// A secret, which only the environment gives; never shown and never written.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("")
    }
}

//! Where a gateway listens.

use std::fmt;

use http::Uri;

/// Not `https://HOST:PORT` or `http://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a target; write https://HOST:PORT, or http://HOST:PORT for proxy mode")]
pub struct TargetError(String);

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether to use TLS; without it, the target is in proxy mode.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Target {
    /// Reads `https://HOST[:PORT]` or `http://HOST[:PORT]`.
    ///
    /// # Errors
    /// When the text is anything else, a path included.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let refused = || TargetError(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused()),
        };
        let host = uri
            .host()
            .filter(|_| matches!(uri.path(), "" | "/"))
            .ok_or_else(refused)?;
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    /// `HOST:PORT`, as in the `Host` header.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.authority()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_targets() {
        let target = Target::parse("https://localhost:8443/").unwrap();
        assert_eq!(target.to_string(), "https://localhost:8443");
        assert_eq!(
            Target::parse("http://127.0.0.1").unwrap().to_string(),
            "http://127.0.0.1:80"
        );
        let six = Target::parse("https://[::1]:9").unwrap();
        assert_eq!(
            (six.host.as_str(), six.authority().as_str()),
            ("::1", "[::1]:9")
        );
        for text in [
            "",
            "localhost:8443",
            "ftp://x",
            "https://x/diagnosiskeys",
            "https://",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }
}

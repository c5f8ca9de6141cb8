//! Callback URLs: what may be subscribed, and which addresses may be connected to (wire
//! §16.2).
//!
//! A name is resolved once and every address is checked; whoever connects, connects to the checked
//! addresses, so that a name that changes its mind in between (DNS rebinding) wins nothing. The
//! same check runs when a URL is subscribed and before each delivery.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use engine::domain::BatchTag;
use http::Uri;

use super::address::is_special;
use super::resolve::Resolve;
use crate::settings::{CallbackSettings, Network};

/// Longest URL, in characters (the reference's column).
const CHARACTERS_MAX: usize = 256;
/// Addresses of one host that are tried; all are checked.
const ADDRESSES_MAX: usize = 8;
/// Port of https.
const PORT: u16 = 443;

/// Why a callback URL is not acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// More than 256 characters.
    #[error("the URL has more than 256 characters")]
    TooLong,
    /// No URL.
    #[error("the URL cannot be read")]
    Unreadable,
    /// Another scheme.
    #[error("the URL's scheme is not https")]
    NotHttps,
    /// A query, even an empty one.
    #[error("the URL has a query")]
    HasQuery,
    /// User information.
    #[error("the URL has user information")]
    HasUserInfo,
    /// No address, or none in time.
    #[error("the URL's host has no address")]
    Unresolvable,
    /// An address that is not public and not allowed by the operator.
    #[error("the URL's host has an address that is not public")]
    NotPublic,
}

impl UrlError {
    /// The reference's event (wire §18.3).
    pub(crate) const fn event(self) -> &'static str {
        match self {
            Self::TooLong | Self::Unreadable => "Could not parse URL",
            Self::NotHttps => "Callback URL must use https",
            Self::HasQuery => "URL must not contain any parameters",
            Self::HasUserInfo => "URL must not contain user information",
            Self::Unresolvable => "Could not resolve host for callback",
            Self::NotPublic => "IP Address of callback host is from private IP range.",
        }
    }
}

/// A callback URL that can be read; where it leads is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallbackUrl {
    /// Without brackets.
    host: Box<str>,
    port: u16,
    /// As written: host and, if there is one, port.
    authority: Box<str>,
    path: Box<str>,
}

impl CallbackUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// [`UrlError`], the first that applies, in the reference's order.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        if text.chars().take(CHARACTERS_MAX + 1).count() > CHARACTERS_MAX {
            return Err(UrlError::TooLong);
        }
        // A fragment is never sent; a question mark in it is no query.
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text.parse().map_err(|_| UrlError::Unreadable)?;
        let (scheme, authority) = uri
            .scheme_str()
            .zip(uri.authority())
            .ok_or(UrlError::Unreadable)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(UrlError::NotHttps);
        }
        if text.contains('?') {
            return Err(UrlError::HasQuery);
        }
        let (host, authority) = (authority.host(), authority.as_str());
        if authority.contains('@') {
            return Err(UrlError::HasUserInfo);
        }
        let port = port(&authority[host.len()..])?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || !text.is_ascii() {
            return Err(UrlError::Unreadable);
        }
        Ok(Self {
            host: host.into(),
            port,
            authority: authority.trim_end_matches(':').into(),
            path: uri.path().into(),
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Host and port for the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path with what is told of a batch: its tag, and its UTC day, which audits ask for.
    pub(crate) fn target(&self, batch: BatchTag) -> String {
        format!("{}?batchTag={batch}&date={}", self.path, batch.day)
    }
}

/// What stands behind the host.
fn port(text: &str) -> Result<u16, UrlError> {
    match text.strip_prefix(':') {
        None if text.is_empty() => Ok(PORT),
        Some("") => Ok(PORT),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|&port| port > 0);
            port.ok_or(UrlError::Unreadable)
        }
        None | Some(_) => Err(UrlError::Unreadable),
    }
}

/// A callback URL, and addresses that may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedUrl {
    pub(crate) url: CallbackUrl,
    /// At least one.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Where callbacks may lead.
#[derive(Debug)]
pub(crate) struct UrlPolicy {
    allowed_networks: Vec<Network>,
    allowed_hosts: Vec<String>,
    resolver: Arc<dyn Resolve>,
    resolve_timeout: Duration,
}

impl UrlPolicy {
    pub(crate) fn new(settings: &CallbackSettings) -> Self {
        Self {
            allowed_networks: settings.allowed_networks.clone(),
            allowed_hosts: settings.allowed_hosts.clone(),
            resolver: Arc::clone(&settings.resolver),
            resolve_timeout: settings.connect_timeout,
        }
    }

    /// Reads a URL, resolves its host, checks every address.
    ///
    /// # Errors
    /// [`UrlError`].
    pub(crate) async fn check(&self, text: &str) -> Result<CheckedUrl, UrlError> {
        let url = CallbackUrl::parse(text)?;
        let mut addresses = self.resolve(url.host()).await?;
        let allowed = |address: &IpAddr| self.allows(&url, *address);
        if !addresses.iter().all(allowed) {
            return Err(UrlError::NotPublic);
        }
        addresses.truncate(ADDRESSES_MAX);
        let addresses = addresses.into_iter();
        let addresses = addresses.map(|address| SocketAddr::new(address, url.port));
        Ok(CheckedUrl {
            addresses: addresses.collect(),
            url,
        })
    }

    /// The addresses of a host, each once, in its plain form; at least one.
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, UrlError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address.to_canonical()]);
        }
        let resolving = self.resolver.resolve(host);
        let resolved = tokio::time::timeout(self.resolve_timeout, resolving).await;
        let resolved = resolved.ok().and_then(Result::ok).unwrap_or_default();
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in resolved.iter().map(IpAddr::to_canonical) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(UrlError::Unresolvable);
        }
        Ok(addresses)
    }

    fn allows(&self, url: &CallbackUrl, address: IpAddr) -> bool {
        let host = url.host.trim_end_matches('.');
        let mut hosts = self.allowed_hosts.iter();
        let mut networks = self.allowed_networks.iter();
        !is_special(address)
            || networks.any(|network| network.contains(address))
            || hosts.any(|allowed| allowed.trim_end_matches('.').eq_ignore_ascii_case(host))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io;

    use super::super::resolve::Resolving;
    use super::*;

    /// Knows what it was told.
    #[derive(Debug)]
    struct Known(HashMap<&'static str, Vec<IpAddr>>);

    impl Resolve for Known {
        fn resolve(&self, host: &str) -> Resolving {
            let found = self.0.get(host).cloned();
            Box::pin(async move { found.ok_or_else(|| io::Error::other("no such host")) })
        }
    }

    fn policy() -> UrlPolicy {
        let known = [
            ("receiver.example", &["93.184.216.34"][..]),
            ("both.example", &["93.184.216.34", "2606:4700::1111"]),
            ("second.example", &["93.184.216.34", "10.0.0.1"]),
            ("sixth.example", &["2606:4700::1111", "fe80::1"]),
            ("mapped.example", &["::ffff:127.0.0.1"]),
            (
                "public-mapped.example",
                &["::ffff:93.184.216.34", "93.184.216.34"],
            ),
            ("nat64.example", &["64:ff9b::5db8:d822"]),
            ("6to4.example", &["2002:5db8:d822::1"]),
            ("nothing.example", &[]),
            ("vouched.internal", &["10.9.8.7"]),
            ("listed.internal", &["192.168.3.4"]),
            // What the system makes of IPv4 in one number, of `0`, and of octal spellings.
            ("2130706433", &["127.0.0.1"]),
            ("0", &["0.0.0.0"]),
            ("0177.0.0.1", &["127.0.0.1"]),
            ("localhost", &["127.0.0.1", "::1"]),
        ];
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let known = known.map(|(host, addresses)| (host, parsed(addresses)));
        UrlPolicy::new(&CallbackSettings {
            allowed_networks: vec!["192.168.3.0/24".parse().unwrap()],
            allowed_hosts: vec!["Vouched.Internal".to_owned()],
            resolver: Arc::new(Known(known.into())),
            ..CallbackSettings::default()
        })
    }

    async fn check(text: &str, expected: Result<&[&str], UrlError>) {
        let checked = policy().check(text).await;
        let addresses = |checked: CheckedUrl| checked.addresses;
        let expected: Result<Vec<SocketAddr>, _> =
            expected.map(|texts| texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(checked.map(addresses), expected, "{text}");
    }

    /// Wire §16.2, row by row.
    #[tokio::test]
    async fn checks_urls_as_the_reference_does_and_better() {
        let receiver = Ok(&["93.184.216.34:443"][..]);
        check("https://receiver.example/callback", receiver).await;
        check("HTTPS://receiver.example", receiver).await;
        check("https://receiver.example:", receiver).await;
        check("https://receiver.example/a/b#fragment?x", receiver).await;
        check(
            "https://receiver.example:8443/",
            Ok(&["93.184.216.34:8443"]),
        )
        .await;
        check(
            "https://both.example",
            Ok(&["93.184.216.34:443", "[2606:4700::1111]:443"]),
        )
        .await;
        check("https://public-mapped.example", receiver).await;
        for text in [
            "",
            "x",
            "receiver.example",
            "/callback",
            "https:",
            "https://",
            "https:///x",
            "https://receiver.example:0/",
            "https://receiver.example:65536/",
            "https://receiver.example:x/",
            "https://receiver.example:+1/",
            "https:// /",
            "https://receiver.example/a b",
            "https://receiver.example/é",
            "https://[::1",
            "https://bücher.example/",
            "https://receiver.example\r\n/",
        ] {
            check(text, Err(UrlError::Unreadable)).await;
        }
        for text in [
            "http://receiver.example/",
            "ftp://receiver.example/",
            "httpss://x/",
        ] {
            check(text, Err(UrlError::NotHttps)).await;
        }
        check("https://receiver.example/?", Err(UrlError::HasQuery)).await;
        check("https://receiver.example?x=y", Err(UrlError::HasQuery)).await;
        for text in [
            "https://u:p@receiver.example/",
            "https://receiver.example@10.0.0.1/",
        ] {
            check(text, Err(UrlError::HasUserInfo)).await;
        }
        for text in ["https://unknown.example/", "https://nothing.example/"] {
            check(text, Err(UrlError::Unresolvable)).await;
        }
    }

    #[tokio::test]
    async fn refuses_hosts_with_any_address_that_is_not_public() {
        for text in [
            "https://localhost/",
            "https://127.0.0.1/",
            "https://10.1.2.3/",
            "https://100.64.0.1/",
            "https://169.254.169.254/",
            "https://172.16.0.1/",
            "https://192.168.1.1/",
            "https://[::1]/",
            "https://[::]:80/",
            "https://[fd00::1]/",
            "https://[fe80::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://0.0.0.0/",
            "https://0/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://224.0.0.1/",
            "https://198.18.0.1/",
            "https://192.0.0.1/",
            "https://240.0.0.1/",
            "https://0.1.2.3/",
            "https://second.example/",
            "https://sixth.example/",
            "https://mapped.example/",
            "https://nat64.example/",
            "https://6to4.example/",
        ] {
            check(text, Err(UrlError::NotPublic)).await;
        }
        // Two blocks that the reference refuses by mistake.
        check("https://177.0.0.1/", Ok(&["177.0.0.1:443"])).await;
        check("https://144.64.0.1/", Ok(&["144.64.0.1:443"])).await;
    }

    #[tokio::test]
    async fn lets_pass_what_the_operator_vouches_for() {
        check("https://vouched.internal/", Ok(&["10.9.8.7:443"])).await;
        check("https://listed.internal/", Ok(&["192.168.3.4:443"])).await;
        check("https://10.9.8.7/", Err(UrlError::NotPublic)).await;
        check("https://192.168.3.255/", Ok(&["192.168.3.255:443"])).await;
    }

    #[test]
    fn takes_up_to_256_characters() {
        let url = |characters: usize| format!("https://h/{}", "x".repeat(characters - 10));
        assert!(CallbackUrl::parse(&url(256)).is_ok());
        assert_eq!(CallbackUrl::parse(&url(257)), Err(UrlError::TooLong));
    }

    #[test]
    fn tells_tag_and_day_in_the_query() {
        let target = |text| {
            let url = CallbackUrl::parse(text).unwrap();
            let batch = BatchTag::parse("20201006-17").unwrap();
            (url.target(batch), url.authority().to_owned())
        };
        let (path, host) = target("https://De.example:8443/version/v1/callback");
        let expected = "/version/v1/callback?batchTag=20201006-17&date=2020-10-06";
        assert_eq!(
            (path.as_str(), host.as_str()),
            (expected, "De.example:8443")
        );
        let (path, host) = target("https://[2606:4700::1111]#x");
        assert_eq!(path, "/?batchTag=20201006-17&date=2020-10-06");
        assert_eq!(host, "[2606:4700::1111]");
    }
}

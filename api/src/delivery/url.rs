//! Callback URLs: which may be subscribed, and which addresses may be connected to (wire
//! §16.2).
//!
//! A name is resolved once and every address is checked; connections are made to the checked
//! addresses only, which defeats DNS rebinding. The same check runs when a URL is subscribed and
//! before each delivery.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::domain::{BatchTag, Country};
use url::Url;

use super::address::is_special;
use super::lookups::{Lookups, NoLookup};
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
    /// Not a URL.
    #[error("the URL cannot be parsed")]
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

/// Why a callback URL was not found acceptable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CheckError {
    /// The URL's fault.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// It was not checked.
    #[error(transparent)]
    NoLookup(#[from] NoLookup),
}

/// A syntactically valid callback URL; its host has not been resolved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallbackUrl {
    url: Url,
    /// As written, for the header `Host`: host and, if there is one, port.
    authority: Box<str>,
}

impl CallbackUrl {
    /// Parses a URL. Stricter than the WHATWG parser below, which repairs what it can: no blanks,
    /// no backslashes, no missing slashes, no escapes in the host.
    ///
    /// # Errors
    /// [`UrlError`], the first that applies, in the reference's order.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        if text.chars().take(CHARACTERS_MAX + 1).count() > CHARACTERS_MAX {
            return Err(UrlError::TooLong);
        }
        // A fragment is never sent; a question mark in it is not a query.
        let text = text.split('#').next().unwrap_or_default();
        let is_allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        let authority = authority(text).filter(|_| text.bytes().all(is_allowed));
        let authority = authority.ok_or(UrlError::Unreadable)?;
        let url = Url::parse(text);
        if let Ok(url) = &url
            && url.scheme() != "https"
        {
            return Err(UrlError::NotHttps);
        }
        if text.contains('?') {
            return Err(UrlError::HasQuery);
        }
        if authority.contains('@') {
            return Err(UrlError::HasUserInfo);
        }
        let url = url.map_err(|_| UrlError::Unreadable)?;
        if authority.contains('%') || url.port() == Some(0) {
            return Err(UrlError::Unreadable);
        }
        Ok(Self {
            url,
            authority: authority.trim_end_matches(':').into(),
        })
    }

    /// In lower case, without brackets; an IPv4 address in its usual form, however it was written.
    pub(crate) fn host(&self) -> &str {
        let host = self.url.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or(PORT)
    }

    /// Host and port for the header `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, with the batch's tag and its UTC day, which audits need, as the query.
    pub(crate) fn target(&self, batch: BatchTag) -> String {
        let path = self.url.path();
        format!("{path}?batchTag={batch}&date={}", batch.day)
    }
}

/// What is between the scheme and the path.
fn authority(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?;
    (!authority.is_empty()).then_some(authority)
}

/// A URL for the log: without user information, query and fragment, which may hold secrets.
pub(crate) fn redact(text: &str) -> String {
    if let Ok(mut url) = Url::parse(text) {
        url.set_query(None);
        url.set_fragment(None);
        // These fail where there is no host, and so no user information.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        if url.has_host() {
            return url.into();
        }
    }
    // Not a URL with a host: drop whatever could be a query or user information in one.
    let text = text.split(['?', '#']).next().unwrap_or_default();
    let text = text.rsplit('@').next().unwrap_or_default();
    text.to_owned()
}

/// A callback URL, and the addresses that may be connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CheckedUrl {
    pub(crate) url: CallbackUrl,
    /// At least one.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Which hosts callbacks may connect to.
#[derive(Debug)]
pub(crate) struct UrlPolicy {
    allowed_networks: Vec<Network>,
    allowed_hosts: Vec<String>,
    lookups: Lookups,
    resolve_timeout: Duration,
}

impl UrlPolicy {
    pub(crate) fn new(settings: &CallbackSettings, lookups: Lookups) -> Self {
        Self {
            allowed_networks: settings.allowed_networks.clone(),
            allowed_hosts: settings.allowed_hosts.clone(),
            lookups,
            resolve_timeout: settings.connect_timeout,
        }
    }

    /// Parses a participant's URL, resolves its host, checks every address. An address in place of a
    /// name needs no lookup.
    ///
    /// # Errors
    /// [`CheckError`].
    pub(crate) async fn check(
        &self,
        country: Country,
        text: &str,
    ) -> Result<CheckedUrl, CheckError> {
        let url = CallbackUrl::parse(text)?;
        let mut addresses = self.resolve(country, url.host()).await?;
        let allowed = |address: &IpAddr| self.allows(&url, *address);
        if !addresses.iter().all(allowed) {
            return Err(UrlError::NotPublic.into());
        }
        addresses.truncate(ADDRESSES_MAX);
        let addresses = addresses.into_iter();
        let addresses = addresses.map(|address| SocketAddr::new(address, url.port()));
        Ok(CheckedUrl {
            addresses: addresses.collect(),
            url,
        })
    }

    /// The addresses of a host in canonical form, without repetitions; at least one.
    async fn resolve(&self, country: Country, host: &str) -> Result<Vec<IpAddr>, CheckError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![address.to_canonical()]);
        }
        let resolved = self.lookups.find(country, host, self.resolve_timeout);
        let resolved = resolved.await?;
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in resolved.iter().map(IpAddr::to_canonical) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(UrlError::Unresolvable.into());
        }
        Ok(addresses)
    }

    pub(crate) const fn lookups(&self) -> &Lookups {
        &self.lookups
    }

    fn allows(&self, url: &CallbackUrl, address: IpAddr) -> bool {
        let host = url.host().trim_end_matches('.');
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
    use std::sync::Arc;

    use super::super::resolve::{Resolve, Resolving};
    use super::*;
    use crate::bounds::CHECK_LOOKUPS;

    /// Resolves the names that it is given.
    #[derive(Debug)]
    struct FixedNames(HashMap<&'static str, Vec<IpAddr>>);

    impl Resolve for FixedNames {
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
            ("allowed.internal", &["10.9.8.7"]),
            ("listed.internal", &["192.168.3.4"]),
            ("localhost", &["127.0.0.1", "::1"]),
        ];
        let parsed = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let known = known.map(|(host, addresses)| (host, parsed(addresses)));
        let settings = CallbackSettings {
            allowed_networks: vec!["192.168.3.0/24".parse().unwrap()],
            allowed_hosts: vec!["Allowed.Internal".to_owned()],
            ..CallbackSettings::default()
        };
        let names = Arc::new(FixedNames(known.into()));
        UrlPolicy::new(&settings, Lookups::new(names, CHECK_LOOKUPS))
    }

    async fn check(text: &str, expected: Result<&[&str], UrlError>) {
        let checked = policy().check(Country::parse("DE").unwrap(), text).await;
        let addresses = |checked: CheckedUrl| checked.addresses;
        let expected = expected.map_err(CheckError::Url);
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
            "https:receiver.example",
            "https:\\\\receiver.example/",
            "https://receiver.example\\@10.0.0.1/",
            "https://%72eceiver.example/",
            " https://receiver.example/",
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
            "https://@receiver.example/",
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
            "https://0x7f.1/",
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
    async fn accepts_networks_and_hosts_that_the_operator_allows() {
        check("https://allowed.internal/", Ok(&["10.9.8.7:443"])).await;
        check("https://listed.internal/", Ok(&["192.168.3.4:443"])).await;
        check("https://10.9.8.7/", Err(UrlError::NotPublic)).await;
        check("https://192.168.3.255/", Ok(&["192.168.3.255:443"])).await;
    }

    #[test]
    fn accepts_up_to_256_characters() {
        let url = |characters: usize| format!("https://h/{}", "x".repeat(characters - 10));
        assert!(CallbackUrl::parse(&url(256)).is_ok());
        assert_eq!(CallbackUrl::parse(&url(257)), Err(UrlError::TooLong));
    }

    #[test]
    fn sends_tag_and_day_in_the_query() {
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

    #[test]
    fn redacts_user_information_and_query_for_the_log() {
        for (text, expected) in [
            ("https://h.example/a", "https://h.example/a"),
            (
                "https://u:p@h.example:8443/a?b=c#d",
                "https://h.example:8443/a",
            ),
            ("https://u@h.example/?", "https://h.example/"),
            ("https:u:p@h.example", "https://h.example/"),
            // What cannot be parsed may hold the same secrets.
            ("https://user:pa/ss@h.example:x/?b", "h.example:x/"),
            ("mailto:u:p@h.example?b", "h.example"),
            ("//u:p@h.example?b=c", "h.example"),
            ("nothing", "nothing"),
            ("", ""),
        ] {
            assert_eq!(redact(text), expected, "{text}");
        }
    }
}

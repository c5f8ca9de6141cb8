//! Certificates: the gateway's own, and those of the list.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::domain::{CertificateKind, Country, Day, UnixMillis};
use engine::locks::LockIgnoringPoison;
use engine::pki::Certificate;
use engine::trust::{ListFault, ListedCertificate, Trust};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::finding::{Finding, Severity};
use crate::telemetry::utc_seconds;
use crate::tls::TlsSettings;

/// Days before the end of a certificate from which on an operator is warned: a new one takes a
/// participant weeks.
const WARNING_DAYS: u64 = 30;
/// Days before it from which on it is an error.
const ERROR_DAYS: u64 = 7;
/// What the gateway makes of a row of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CertificateState {
    Valid,
    NotYetValid,
    Expired,
    Revoked,
    NotTrusted,
}

impl CertificateState {
    pub(crate) const ALL: [Self; 5] = [
        Self::Valid,
        Self::NotYetValid,
        Self::Expired,
        Self::Revoked,
        Self::NotTrusted,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotYetValid => "not_yet_valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::NotTrusted => "not_trusted",
        }
    }

    fn of(listed: &ListedCertificate, now: UnixMillis) -> Self {
        if listed.is_revoked() {
            Self::Revoked
        } else if !listed.is_intact() {
            Self::NotTrusted
        } else if listed.is_valid_at(now) {
            Self::Valid
        } else if now < listed.not_before {
            Self::NotYetValid
        } else {
            Self::Expired
        }
    }
}

/// The ends of the gateway's own certificates. They can be renewed while it runs.
#[derive(Debug, Default)]
pub(crate) struct OwnCertificates {
    server: End,
    callback: End,
}

/// The end of a certificate, in milliseconds; 0 without one.
#[derive(Debug, Default)]
struct End(AtomicU64);

impl End {
    fn of(settings: Option<&TlsSettings>) -> Self {
        let end = Self::default();
        if let Some(settings) = settings {
            end.renew(settings);
        }
        end
    }

    fn renew(&self, settings: &TlsSettings) {
        let end = end_of_first(&settings.certificate_chain_pem);
        self.0.store(end.unwrap_or_default(), Ordering::Relaxed);
    }

    fn get(&self) -> Option<UnixMillis> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            end => Some(UnixMillis(end)),
        }
    }
}

fn end_of_first(chain_pem: &str) -> Option<u64> {
    let der = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).next()?;
    let der = der.ok()?;
    let certificate = Certificate::from_der(&der).ok()?;
    let seconds = u64::try_from(*certificate.validity().end()).ok()?;
    Some(seconds.saturating_mul(1000))
}

impl OwnCertificates {
    pub(crate) fn new(server: Option<&TlsSettings>, callback: Option<&TlsSettings>) -> Self {
        Self {
            server: End::of(server),
            callback: End::of(callback),
        }
    }

    pub(crate) fn renew_server(&self, renewed: &TlsSettings) {
        self.server.renew(renewed);
    }

    pub(crate) fn renew_callback(&self, renewed: &TlsSettings) {
        self.callback.renew(renewed);
    }

    pub(crate) fn findings(&self, now: UnixMillis) -> Vec<Finding> {
        let server = self.server.get().and_then(|end| {
            let what = "the gateway's TLS certificate ([public] certificate)";
            finding(what, end, now, "put a new one there")
        });
        let callback = self.callback.get().and_then(|end| {
            let what = "the gateway's certificate for callbacks ([callback] certificate)";
            let remedy = "put a new one there, after participants have it";
            finding(what, end, now, remedy)
        });
        server.into_iter().chain(callback).collect()
    }

    /// The end of each, where there is one.
    pub(crate) fn ends(&self) -> [(&'static str, Option<UnixMillis>); 2] {
        [
            ("TLS certificate of the public port", self.server.get()),
            ("Certificate for callbacks", self.callback.get()),
        ]
    }

    pub(super) fn measure(&self) {
        for (kind, end) in [
            ("gateway", &self.server),
            ("gateway_callback", &self.callback),
        ] {
            if let Some(end) = end.get() {
                show_end(&[("kind", kind.to_owned())], Some(end));
            }
        }
    }
}

/// A finding if the end of a certificate is near.
fn finding(what: &str, end: UnixMillis, now: UnixMillis, remedy: &str) -> Option<Finding> {
    let at = utc_seconds(i64::try_from(end.seconds()).ok()?);
    let days_left = end.0.saturating_sub(now.0) / Day::MILLIS;
    let (severity, text) = if now > end {
        (Severity::Error, format!("{what} expired {at}: {remedy}"))
    } else if days_left < WARNING_DAYS {
        let severity = if days_left < ERROR_DAYS {
            Severity::Error
        } else {
            Severity::Warning
        };
        let text = format!("{what} expires {at}, in {days_left} days: {remedy}");
        (severity, text)
    } else {
        return None;
    };
    Some(Finding {
        severity,
        subject: what.to_owned(),
        text,
    })
}

/// The end of that certificate of a kind and a country that is valid longest: while one is being
/// renewed, the old one's end does not matter.
pub(crate) type Ends = BTreeMap<(Country, CertificateKind), UnixMillis>;

/// Of all rows that are trusted.
pub(crate) fn ends_of(trust: &Trust) -> Ends {
    longest_ends(trust.certificates().map(|listed| &**listed))
}

fn longest_ends<'a>(all: impl IntoIterator<Item = &'a ListedCertificate>) -> Ends {
    let mut ends = Ends::new();
    for listed in all {
        if listed.is_in_force() {
            let place = (listed.row.country, listed.row.kind);
            let end = ends.entry(place).or_insert(listed.not_after);
            *end = listed.not_after.max(*end);
        }
    }
    ends
}

/// What is wrong with the list, or soon will be.
pub(crate) fn list_findings(
    all: &[&ListedCertificate],
    fault: Option<ListFault>,
    now: UnixMillis,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut error = |subject: &str, text| {
        findings.push(Finding {
            severity: Severity::Error,
            subject: subject.to_owned(),
            text,
        });
    };
    if let Some(fault) = fault {
        let text =
            format!("the certificate list is not used: {fault}; look at it with efgs cert verify");
        error("certificate list", text);
    } else if !all
        .iter()
        .any(|listed| CertificateState::of(listed, now) == CertificateState::Valid)
    {
        let text = "no valid certificate is listed: nobody can connect or sign; use efgs cert add";
        error("certificate list", text.to_owned());
    }
    for listed in all {
        let row = &listed.row;
        // A revoked one is not trusted in any case.
        if let Some(fault) = listed.fault.filter(|_| !listed.is_revoked()) {
            let (kind, country, thumbprint) = (row.kind.name(), row.country, row.thumbprint);
            let row = format!("the {kind} certificate {thumbprint} of {country}");
            let text = format!("{row} is not trusted: {fault}; look at it with efgs cert verify");
            error(&row, text);
        }
    }
    for ((country, kind), end) in longest_ends(all.iter().copied()) {
        let what = format!("the {} certificate of {country}", kind.name());
        let remedy = format!("ask {country} for a new one, and list it with efgs cert add");
        findings.extend(finding(&what, end, now, &remedy));
    }
    findings
}

/// Sets the metrics.
pub(super) fn measure(trust: &Trust, now: UnixMillis) {
    for state in CertificateState::ALL {
        let rows = trust.certificates();
        let count = rows
            .filter(|listed| CertificateState::of(listed, now) == state)
            .count();
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics::gauge!("efgs_certificates", "state" => state.name()).set(count);
    }
    measure_ends(ends_of(trust));
}

/// A metric that was shown once stays: its value says that there is no certificate any more.
fn measure_ends(ends: Ends) {
    static SHOWN: Mutex<Ends> = Mutex::new(Ends::new());
    let mut shown = SHOWN.lock_ignoring_poison();
    shown.extend(ends.iter());
    for place in shown.keys() {
        let (country, kind) = place;
        let labels = [
            ("kind", kind.name().to_owned()),
            ("country", country.to_string()),
        ];
        show_end(&labels, ends.get(place).copied());
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds are far below 2^53")]
fn show_end<const N: usize>(labels: &[(&'static str, String); N], end: Option<UnixMillis>) {
    let seconds = end.map_or(f64::NAN, |end| end.seconds() as f64);
    metrics::gauge!("efgs_certificate_not_after_timestamp_seconds", labels).set(seconds);
}

#[cfg(test)]
mod tests {
    use engine::trust::TrustAnchors;

    use super::*;

    const DAY: u64 = Day::MILLIS;

    #[test]
    fn warns_a_month_before_the_end_and_calls_a_week_an_error() {
        let end = UnixMillis(1_700_000_000_000);
        let check = |days_left: i64, expected: Option<Severity>| {
            let now = UnixMillis(end.0.saturating_add_signed(-days_left * DAY.cast_signed()));
            let found = finding("it", end, now, "renew it");
            assert_eq!(found.map(|found| found.severity), expected, "{days_left}");
        };
        check(31, None);
        check(30, None);
        check(29, Some(Severity::Warning));
        check(7, Some(Severity::Warning));
        check(6, Some(Severity::Error));
        check(0, Some(Severity::Error));
        check(-1, Some(Severity::Error));
        let text = finding("it", end, UnixMillis(end.0 - 9 * DAY), "renew it")
            .unwrap()
            .text;
        assert_eq!(text, "it expires 2023-11-14T22:13:20Z, in 9 days: renew it");
        let text = finding("it", end, UnixMillis(end.0 + 1), "renew it")
            .unwrap()
            .text;
        assert_eq!(text, "it expired 2023-11-14T22:13:20Z: renew it");
    }

    fn made(country: &str, last_year: i32) -> rcgen::Certificate {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CountryName, country);
        params.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        params
            .self_signed(&rcgen::KeyPair::generate().unwrap())
            .unwrap()
    }

    #[test]
    fn names_what_nobody_vouches_for_and_looks_at_the_longest_of_each_kind() {
        let anchor_key = rcgen::KeyPair::generate().unwrap();
        let anchor = rcgen::CertificateParams::default()
            .self_signed(&anchor_key)
            .unwrap();
        let anchor = TrustAnchors::from_pem(&anchor.pem()).unwrap();
        let row = |country: &str, last_year, is_signed: bool| {
            let pem = made(country, last_year).pem();
            let signature =
                engine::admin::sign_with_trust_anchor(&anchor_key.serialize_pem(), &pem);
            let der = Certificate::der_of_pem(&pem).unwrap();
            engine::trust::CertificateRow {
                thumbprint: Certificate::from_der(&der).unwrap().thumbprint(),
                country: Country::parse(country).unwrap(),
                kind: CertificateKind::Signing,
                pem: pem.into(),
                operator_signature: match is_signed {
                    true => signature.unwrap().into(),
                    false => "".into(),
                },
                revoked_at: None,
            }
        };
        // 2026-01-01 is two weeks away.
        let now = UnixMillis(1_766_016_000_000);
        let trust = |rows: Vec<engine::trust::CertificateRow>| Trust::load(rows, &anchor, None);
        let texts = |trust: &Trust| -> Vec<String> {
            let listed: Vec<_> = trust.certificates().map(|listed| &**listed).collect();
            let findings = list_findings(&listed, None, now);
            super::super::sentences(findings).collect()
        };
        let ending = row("DE", 2026, true);
        let found = texts(&trust(vec![ending.clone()]));
        let expected = "the signing certificate of DE expires 2026-01-01T00:00:00Z, in 14 days: ask DE \
             for a new one, and list it with efgs cert add";
        assert_eq!(found, [expected]);
        assert!(texts(&trust(vec![ending, row("DE", 2030, true)])).is_empty());
        let nobody = "no valid certificate is listed";
        let found = texts(&trust(vec![row("IT", 2030, false)]));
        assert!(found[0].starts_with(nobody), "{found:?}");
        assert!(
            found[1].contains("of IT is not trusted: not signed"),
            "{found:?}"
        );
        // A revoked one is not trusted in any case, whoever has signed it.
        let revoked = engine::trust::CertificateRow {
            revoked_at: Some(UnixMillis(now.0 - DAY)),
            ..row("IT", 2030, false)
        };
        assert!(texts(&trust(vec![row("IT", 2030, true), revoked.clone()])).is_empty());
        for rows in [Vec::new(), vec![revoked]] {
            let found = texts(&trust(rows));
            assert!(
                found.len() == 1 && found[0].starts_with(nobody),
                "{found:?}"
            );
        }
    }
}

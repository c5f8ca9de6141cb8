//! A development PKI: a trust anchor, a server certificate with its CA, the client certificate for
//! callback deliveries, and three certificates per participant, with RSA and P-256 keys mixed. For
//! demonstrations and tests, not for production.
//!
//! The trust anchor is self-signed with RSA and SHA-256: the one combination that every backend
//! that checks it supports (wire §4.3).

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, anyhow};
use engine::domain::{CertificateKind, Country, UnixMillis};
use engine::pki::DEVELOPMENT_ORGANIZATION;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SignatureAlgorithm,
};
use time::{Duration, OffsetDateTime};

/// The default participants: the EU's members while the gateway ran.
pub(super) const EU_MEMBERS: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// Validity of the certificates that sign others.
const AUTHORITY_DAYS: i64 = 3653;
/// Validity of all other certificates.
const MEMBER_DAYS: i64 = 1096;

/// A certificate with its private key, both PEM: 64 columns, LF, a final LF.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certificate_pem: String,
    pub(super) private_key_pem: String,
}

/// The subjects of certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    TrustAnchor,
    ServerCa,
    Server,
    /// The gateway as a client of callback receivers.
    GatewayCallback,
    Participant(Country, CertificateKind),
}

impl Subject {
    /// The certificate's path below the PKI's folder, without its extension.
    pub(super) fn path(self) -> String {
        match self {
            Self::TrustAnchor => "trust-anchor".to_owned(),
            Self::ServerCa => "server-ca".to_owned(),
            Self::Server => "server".to_owned(),
            Self::GatewayCallback => "gateway-callback".to_owned(),
            Self::Participant(country, kind) => format!("{country}/{}", kind.name()),
        }
    }

    fn days(self) -> i64 {
        match self {
            Self::TrustAnchor | Self::ServerCa => AUTHORITY_DAYS,
            Self::Server | Self::GatewayCallback | Self::Participant(..) => MEMBER_DAYS,
        }
    }
}

/// Makes all keys and certificates, valid from a day before `now`.
///
/// # Errors
/// When the crypto library fails.
pub(super) fn make(
    participants: &[Country],
    now: UnixMillis,
) -> anyhow::Result<BTreeMap<Subject, Identity>> {
    let seconds = i64::try_from(now.seconds()).unwrap_or(i64::MAX);
    let now = OffsetDateTime::from_unix_timestamp(seconds).context("the clock is wrong: set it")?;
    let keys = make_keys(&plan(participants))?;
    let ca_params = params(Subject::ServerCa, now)?;
    let ca_key = keys.get(&Subject::ServerCa).context("the plan has a CA")?;
    let ca = Issuer::from_params(&ca_params, ca_key);
    let certify = |(&subject, key): (&Subject, &KeyPair)| {
        let params = params(subject, now)?;
        let certificate = match subject {
            Subject::Server => params.signed_by(key, &ca)?,
            Subject::TrustAnchor
            | Subject::ServerCa
            | Subject::GatewayCallback
            | Subject::Participant(..) => params.self_signed(key)?,
        };
        let identity = Identity {
            certificate_pem: certificate.pem(),
            private_key_pem: key.serialize_pem(),
        };
        Ok((subject, identity))
    };
    keys.iter().map(certify).collect()
}

type Plan = Vec<(Subject, &'static SignatureAlgorithm)>;

/// The keys to make and their algorithms: RSA and P-256 alternate.
fn plan(participants: &[Country]) -> Plan {
    let mut plan: Plan = vec![
        (Subject::TrustAnchor, &PKCS_RSA_SHA256),
        (Subject::ServerCa, &PKCS_ECDSA_P256_SHA256),
        (Subject::Server, &PKCS_ECDSA_P256_SHA256),
        (Subject::GatewayCallback, &PKCS_ECDSA_P256_SHA256),
    ];
    for (at, &country) in participants.iter().enumerate() {
        for (kind_at, kind) in CertificateKind::ALL.into_iter().enumerate() {
            let algorithm = match (at + kind_at) % 2 {
                0 => &PKCS_ECDSA_P256_SHA256,
                _ => &PKCS_RSA_SHA256,
            };
            plan.push((Subject::Participant(country, kind), algorithm));
        }
    }
    plan
}

/// Makes the keys on all cores: an RSA key takes a tenth of a second.
fn make_keys(plan: &Plan) -> anyhow::Result<BTreeMap<Subject, KeyPair>> {
    let next = AtomicUsize::new(0);
    let made = Mutex::new(BTreeMap::new());
    let make_some = || {
        while let Some(&(subject, algorithm)) = plan.get(next.fetch_add(1, Ordering::Relaxed)) {
            let key = KeyPair::generate_for(algorithm)?;
            let mut made = made.lock().map_err(|_| rcgen::Error::RemoteKeyError)?;
            made.insert(subject, key);
        }
        Ok::<_, rcgen::Error>(())
    };
    #[allow(
        clippy::needless_collect,
        reason = "all threads must run before the first is waited for"
    )]
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(make_some)).collect();
        threads.into_iter().try_for_each(|thread| {
            let outcome = thread
                .join()
                .map_err(|_| anyhow!("making keys failed: try again"))?;
            Ok::<_, anyhow::Error>(outcome?)
        })
    })?;
    made.into_inner()
        .map_err(|_| anyhow!("making keys failed: try again"))
}

fn params(subject: Subject, now: OffsetDateTime) -> anyhow::Result<CertificateParams> {
    let names = match subject {
        Subject::Server | Subject::Participant(_, CertificateKind::Callback) => {
            vec!["localhost".to_owned(), "127.0.0.1".to_owned()]
        }
        _ => Vec::new(),
    };
    let mut params = CertificateParams::new(names)?;
    params.not_before = now - Duration::days(1);
    params.not_after = now + Duration::days(subject.days());
    params.distinguished_name = distinguished_name(subject)?;
    let (key_usages, extended_key_usages) = usages(subject);
    params.key_usages = key_usages;
    params.extended_key_usages = extended_key_usages;
    params.is_ca = match subject {
        Subject::TrustAnchor | Subject::ServerCa => IsCa::Ca(BasicConstraints::Constrained(0)),
        Subject::Server | Subject::GatewayCallback | Subject::Participant(..) => IsCa::ExplicitNoCa,
    };
    params.use_authority_key_identifier_extension = subject == Subject::Server;
    Ok(params)
}

fn distinguished_name(subject: Subject) -> anyhow::Result<DistinguishedName> {
    let mut name = DistinguishedName::new();
    if let Subject::Participant(country, _) = subject {
        // A country is a PrintableString in X.520.
        let country = country.as_str().try_into()?;
        name.push(DnType::CountryName, DnValue::PrintableString(country));
    }
    name.push(DnType::OrganizationName, DEVELOPMENT_ORGANIZATION);
    name.push(
        DnType::CommonName,
        match subject {
            Subject::TrustAnchor => "EFGS development trust anchor".to_owned(),
            Subject::ServerCa => "EFGS development server CA".to_owned(),
            Subject::Server => "localhost".to_owned(),
            Subject::GatewayCallback => "EFGS development gateway callback".to_owned(),
            Subject::Participant(country, kind) => format!("{country} {}", kind.name()),
        },
    );
    Ok(name)
}

fn usages(subject: Subject) -> (Vec<KeyUsagePurpose>, Vec<ExtendedKeyUsagePurpose>) {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};
    match subject {
        Subject::TrustAnchor => (vec![DigitalSignature, KeyCertSign], vec![]),
        Subject::ServerCa => (vec![KeyCertSign, CrlSign], vec![]),
        Subject::Server => (vec![DigitalSignature], vec![ServerAuth]),
        Subject::GatewayCallback => (vec![DigitalSignature], vec![ClientAuth]),
        Subject::Participant(_, kind) => {
            let extended = match kind {
                CertificateKind::Authentication => vec![ClientAuth],
                CertificateKind::Signing => vec![],
                CertificateKind::Callback => vec![ServerAuth],
            };
            (vec![DigitalSignature], extended)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// 2026-01-01T00:00:00Z, as `date -u -d 2026-01-01 +%s` prints it.
    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    fn made() -> BTreeMap<Subject, Identity> {
        let participants = ["DE", "IT"].map(|country| Country::parse(country).unwrap());
        make(&participants, NOW).unwrap()
    }

    fn openssl(arguments: &[&str], folder: &Path) -> Option<String> {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(folder)
            .output();
        let output = output.ok()?; // Not installed.
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {text}{errors}"
        );
        Some(text)
    }

    fn write_all(identities: &BTreeMap<Subject, Identity>, folder: &Path) {
        for (subject, identity) in identities {
            let name = subject.path().replace('/', "-");
            fs::write(
                folder.join(format!("{name}.pem")),
                &identity.certificate_pem,
            )
            .unwrap();
            fs::write(
                folder.join(format!("{name}.key")),
                &identity.private_key_pem,
            )
            .unwrap();
        }
    }

    #[test]
    fn writes_pem_of_64_columns_with_a_final_line_feed() {
        for (subject, identity) in made() {
            for (pem, kind) in [
                (&identity.certificate_pem, "CERTIFICATE"),
                (&identity.private_key_pem, "PRIVATE KEY"),
            ] {
                assert!(
                    pem.starts_with(&format!("-----BEGIN {kind}-----\n")),
                    "{subject:?}"
                );
                assert!(
                    pem.ends_with(&format!("\n-----END {kind}-----\n")),
                    "{subject:?}"
                );
                assert!(!pem.contains('\r') && pem.lines().all(|line| line.len() <= 64));
                assert_eq!(pem.lines().nth(1).map(str::len), Some(64), "{subject:?}");
            }
        }
    }

    #[test]
    fn satisfies_openssl() {
        let folder = tempfile::tempdir().unwrap();
        let identities = made();
        write_all(&identities, folder.path());
        let verify = ["verify", "-attime", "1767225600", "-CAfile"];
        let server = [
            &verify[..],
            &[
                "server-ca.pem",
                "-purpose",
                "sslserver",
                "-verify_hostname",
                "localhost",
                "server.pem",
            ],
        ]
        .concat();
        if openssl(&server, folder.path()).is_none() {
            return;
        }
        let server = [
            &verify[..],
            &["server-ca.pem", "-verify_ip", "127.0.0.1", "server.pem"],
        ]
        .concat();
        openssl(&server, folder.path());
        for (subject, _) in identities {
            let certificate = format!("{}.pem", subject.path().replace('/', "-"));
            if subject != Subject::Server {
                let itself = [&verify[..], &[&certificate, "-check_ss_sig", &certificate]].concat();
                openssl(&itself, folder.path());
            }
            let arguments = ["x509", "-noout", "-subject", "-in", &certificate];
            let name = openssl(&arguments, folder.path()).unwrap_or_default();
            let expected = match subject {
                Subject::Participant(country, _) => format!("C = {country}, "),
                _ => "subject=O = EFGS development".to_owned(),
            };
            assert!(name.contains(&expected), "{name}");
        }
    }

    #[test]
    fn mixes_algorithms_and_anchors_with_rsa() {
        let folder = tempfile::tempdir().unwrap();
        let identities = made();
        write_all(&identities, folder.path());
        let algorithm = |name: &str| {
            let text = openssl(&["x509", "-noout", "-text", "-in", name], folder.path())?;
            let rsa = text.contains("Public-Key: (2048 bit)");
            let sha256 = text.contains("sha256WithRSAEncryption");
            assert!(
                rsa && sha256 || text.contains("ecdsa-with-SHA256"),
                "{text}"
            );
            Some(rsa)
        };
        if let Some(anchor) = algorithm("trust-anchor.pem") {
            assert!(anchor);
            for kind in CertificateKind::ALL {
                let of = |country: &str| algorithm(&format!("{country}-{}.pem", kind.name()));
                assert_ne!(of("DE"), of("IT"), "{kind:?}");
            }
        }
    }
}

//! What a country gets so that it can connect: no secrets, and nothing that it has to look up.

use std::fmt::Write as _;
use std::path::Path;

use engine::domain::{CertificateKind, Country, Thumbprint};

use crate::cli::certificates::read_pem;
use crate::cli::files::{Readable, make_folder, write};
use crate::cli::output::say;

/// The protocol's schema.
const PROTO: &str = include_str!("../../../../docs/protocol/Efgs.proto");
const CA_FILE: &str = "gateway-ca.pem";
const ANCHOR_FILE: &str = "trust-anchor.pem";
const PROTO_FILE: &str = "Efgs.proto";

/// The folder for one country.
#[derive(Debug)]
pub(super) struct HandOver {
    country: Country,
    address: String,
    ca_pem: Option<String>,
    /// With which the country verifies whose keys it downloads.
    trust_anchor_pem: String,
    certificates: Vec<(CertificateKind, Thumbprint)>,
}

/// A host, and a port if it is not 443.
pub(super) fn parse_address(text: &str) -> Result<String, String> {
    let refused = || format!("write HOST or HOST:PORT, as efgs.example.eu:8443, not {text}");
    let url = url::Url::parse(&format!("https://{text}")).map_err(|_| refused())?;
    let is_plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let host = url.host_str().filter(|host| is_plain && !host.is_empty());
    let host = host.filter(|_| url.username().is_empty() && url.password().is_none());
    let host = host.ok_or_else(refused)?;
    Ok(match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })
}

impl HandOver {
    pub(super) fn new(
        country: Country,
        address: &str,
        ca: Option<&Path>,
        trust_anchor_pem: String,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            country,
            address: address.to_owned(),
            ca_pem: ca.map(read_pem).transpose()?,
            trust_anchor_pem,
            certificates: Vec::new(),
        })
    }

    pub(super) fn add(&mut self, kind: CertificateKind, thumbprint: Thumbprint) {
        self.certificates.push((kind, thumbprint));
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        make_folder(folder)?;
        let put = |name: &str, text: &str| write(&folder.join(name), text, Readable::All);
        if let Some(ca) = &self.ca_pem {
            put(CA_FILE, ca)?;
        }
        put(ANCHOR_FILE, &self.trust_anchor_pem)?;
        put(PROTO_FILE, PROTO)?;
        put("README.txt", &self.text())?;
        put("first-request.sh", &self.first_request())?;
        say(format_args!("wrote {}", folder.display()))
    }

    fn text(&self) -> String {
        let (country, address) = (self.country, &self.address);
        let mut text = format!(
            "How the backend of {country} reaches the federation gateway\n\n\
             Address: https://{address}/diagnosiskeys\n"
        );
        text += match self.ca_pem {
            Some(_) => "Its TLS certificate: issued by the CA in gateway-ca.pem\n",
            None => "Its TLS certificate: issued by a CA that systems know\n",
        };
        text += "\nYour certificates, as they are listed here. Compare each with what\n  \
             openssl x509 -in FILE -noout -fingerprint -sha256\nprints (there in capitals, with colons):\n";
        for (kind, thumbprint) in &self.certificates {
            // Writing to a string does not fail.
            let _ = writeln!(text, "  {:<15} {thumbprint}", kind.name());
        }
        text += "\nFirst, from your backend's host, with your authentication certificate and its key:\n  \
             sh first-request.sh authentication.pem authentication.key\n\n\
             Then try an upload that is checked and not stored: POST /diagnosiskeys/upload?dryRun=true.\n\
             The gateway shows you its API, with the rule for signing, at\n  ";
        let _ = writeln!(text, "https://{address}/diagnosiskeys/docs");
        text + "Efgs.proto is the schema of uploads and downloads. trust-anchor.pem is what the signatures in\n\
             audits are verified with: whose certificate signed the keys that you download.\n"
    }

    fn first_request(&self) -> String {
        let ca = match self.ca_pem {
            Some(_) => format!("--cacert \"$(dirname \"$0\")/{CA_FILE}\" "),
            None => String::new(),
        };
        format!(
            "#!/bin/sh\n\
             # Asks the gateway for today's keys: sh first-request.sh CERTIFICATE KEY\n\
             set -eu\n\
             [ $# -eq 2 ] || {{ echo \"usage: sh first-request.sh CERTIFICATE KEY\" >&2; exit 2; }}\n\
             body=$(mktemp)\n\
             trap 'rm -f \"$body\"' EXIT\n\
             status=$(curl -sS -o \"$body\" -w '%{{http_code}}' {ca}--cert \"$1\" --key \"$2\" \\\n    \
                 -H 'Accept: application/protobuf; version=1.0' \\\n    \
                 \"https://{}/diagnosiskeys/download/$(date -u +%F)\") || {{\n    \
                 echo \"not connected: compare the address and the CA with README.txt\" >&2; exit 1; }}\n\
             case $status in\n\
             200 | 404) echo \"connected: the gateway knows your certificate (HTTP $status)\" ;;\n\
             *) cat \"$body\" >&2\n    \
                 echo \"not connected (HTTP $status): tell the operator that, and the thumbprint of $1\" >&2; exit 1 ;;\n\
             esac\n",
            self.address
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_host_with_or_without_a_port_and_nothing_else() {
        for good in [
            "efgs.example.eu",
            "efgs.example.eu:8443",
            "10.0.0.1:8443",
            "[::1]:8443",
        ] {
            assert_eq!(parse_address(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "https://efgs.example.eu",
            "a/b",
            "a?b",
            "me@a",
            "a b",
            "a:99999",
        ] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
    }
}

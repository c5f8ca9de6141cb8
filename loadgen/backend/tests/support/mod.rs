//! The programs, and a configuration of `efgs-backend`.

#![allow(dead_code, reason = "each suite uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const BACKEND: &str = env!("CARGO_BIN_EXE_efgs-backend");

/// The gateway's program, beside that of this package; built if only this package was.
pub(crate) fn efgs() -> PathBuf {
    let program = Path::new(BACKEND).with_file_name("efgs");
    if !program.is_file() {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "efgs-api", "--bin", "efgs"])
            .status();
        assert!(built.unwrap().success());
    }
    program
}

/// What a country configures that was made by `efgs init`, with its certificates in `pki`.
pub(crate) fn configuration(country: &str, port: u16, pki: &Path) -> String {
    let (own, pki) = (pki.join(country), pki.display());
    let own = own.display();
    format!(
        "country = \"{country}\"\n\
         gateways = [\"https://localhost:{port}\"]\n\
         server_ca = \"{pki}/server-ca.pem\"\n\
         authentication_certificate = \"{own}/authentication.pem\"\n\
         authentication_key = \"{own}/authentication.key\"\n\
         signing_certificate = \"{own}/signing.pem\"\n\
         signing_key = \"{own}/signing.key\"\n\
         trust_anchor = \"{pki}/trust-anchor.pem\"\n"
    )
}

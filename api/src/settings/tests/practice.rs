//! Practice gateways, and what may not be one.

use super::*;

#[test]
fn practises_with_the_development_pki_alone() {
    let certificate = |organization: &str| {
        let mut params = rcgen::CertificateParams::default();
        let name = rcgen::DnType::OrganizationName;
        params.distinguished_name.push(name, organization);
        let key = rcgen::KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().pem()
    };
    let (own, other) = (
        certificate(DEVELOPMENT_ORGANIZATION),
        certificate("Ministry"),
    );
    let load = |anchors: &str, enabled: bool| {
        let practice = format!("[practice]\nenabled = {enabled}\npeers = [\"FR\"]\n");
        let folder = Folder::new(&format!("{WHOLE}{practice}"));
        std::fs::write(folder.0.path().join("pki/trust-anchor.pem"), anchors).unwrap();
        folder.load(&[])
    };
    let practice = load(&own, true).unwrap();
    assert_eq!(
        practice.engine.download.kept,
        Some(Duration::from_secs(3600))
    );
    let warnings = practice.warnings.join("\n");
    assert!(warnings.contains("not for real keys"), "{warnings}");
    assert!(warnings.contains("FR upload made-up keys"), "{warnings}");
    for anchors in [
        other.clone(),
        format!("{own}{other}"),
        String::from(CERTIFICATE),
    ] {
        let says = &["[practice] enabled", "must be false", "efgs init"];
        check_refusal(load(&anchors, true), says);
    }
    let real = load(&other, false).unwrap();
    assert_eq!((real.practice, real.engine.download.kept), (None, None));
}

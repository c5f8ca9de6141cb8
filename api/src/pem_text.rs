//! PEM files that hold something else than it seems.

/// Why nothing is found in a text that looks like PEM, and what to do.
pub fn obstacle(text: &str) -> Option<&'static str> {
    // PKCS#8, and the older form with a header.
    let is_encrypted = |text: &str| {
        text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || text.contains("Proc-Type: 4,ENCRYPTED")
    };
    if text.starts_with('\u{feff}') {
        Some("begins with a byte order mark: save it as plain ASCII")
    } else if is_encrypted(text) {
        Some("holds an encrypted private key: decrypt it with openssl pkey -in FILE -out NEW")
    } else {
        None
    }
}

//! The rows of §4.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};

use super::{SPECIAL, UNKNOWN, claim, hex, says_de, says_nothing, spelled, unreadable};
use crate::rows::{Difference, Row, covered_by, differs, same};
use crate::support::backend::{Upload, ask, audit, download_request};
use crate::support::cms::{SERVICE, legacy_thumbprint};
use crate::support::pki::member;

pub(super) const ROWS: &[Row] = &[
    differs(
        "§4.0.1",
        "undecodable_thumbprint",
        [
            "a thumbprint that is not base64 counts as absent; base64 that is empty or short is some \
             number, of which there is no certificate: 403 with a reason",
            "whatever is not a thumbprint counts as absent: 403 without a reason",
            "a value of another length identifies no participant",
        ],
        |world| {
            unreadable(world, "no thumbprint");
            unreadable(world, "AAAA");
        },
    ),
    same(
        "§4.0.2",
        "missing_headers",
        "no subject name or no thumbprint: 403 without a reason",
        |world| {
            let request = download_request("DE", "2021-06-01");
            let neither = request.clone().without("X-SSL-Client-DN");
            for request in [
                request.without("X-SSL-Client-SHA256"),
                neither.clone(),
                neither.without("X-SSL-Client-SHA256"),
            ] {
                let answer = ask(world, &request).expect(403);
                assert!(answer.json()["message"].is_null());
            }
        },
    ),
    differs(
        "§4.0.3",
        "malformed_percent_sequence",
        [
            "a malformed `%` sequence in the subject name: 500",
            "it stays as it is; the country is found or not",
            "a malformed header is the sender's doing, never a 500",
        ],
        |world| {
            says_de(world, "O=100%zz,C=DE");
            says_nothing(world, "O=100%zz");
        },
    ),
    differs(
        "§4.0.4",
        "no_country",
        [
            "no `C` in the subject name: 400, whatever the thumbprint",
            "400 when the thumbprint is listed; when it is not, 403 (row 5)",
            "the subject name of a stranger is not read",
        ],
        |world| {
            says_nothing(world, "O=x,CN=y");
            claim(world, "ab".repeat(32), "O=x,CN=y").expect_error(403, UNKNOWN);
        },
    ),
    same(
        "§4.0.5",
        "unknown_certificate",
        "no AUTHENTICATION row of this thumbprint and country, or one whose integrity is broken: 403",
        |world| {
            claim(world, "ab".repeat(32), "C=DE").expect_error(403, UNKNOWN);
            claim(world, hex(), "C=IT").expect_error(403, UNKNOWN);
            let signing = member("DE").signing.hex();
            claim(world, signing, "C=DE").expect_error(403, UNKNOWN);
            claim(world, SPECIAL.tampered.hex(), "C=DE").expect_error(403, UNKNOWN);
        },
    ),
    same(
        "§4.0.6",
        "revoked_certificate",
        "a revoked row: 403",
        |world| {
            let answer = claim(world, SPECIAL.revoked.hex(), "C=DE");
            answer.expect_error(403, "Client certificate is revoked");
        },
    ),
    differs(
        "§4.0.7",
        "null_is_not_revoked",
        [
            "a row whose `revoked` is NULL: 500",
            "NULL means not revoked",
            "rows that were never revoked have it",
        ],
        |world| {
            claim(world, hex(), "C=DE").expect(200);
        },
    ),
    differs(
        "§4.0.8",
        "country_of_the_row",
        [
            "the country is that of the header, in its letter case",
            "compared without letter case; the country is that of the row",
            "a proxy's choice of letter case must not decide about keys",
        ],
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload.request().set("X-SSL-Client-DN", "c=de");
            ask(world, &request).expect(201);
        },
    ),
    differs(
        "§4.0.9",
        "validity_of_the_certificate",
        [
            "the validity of an authentication certificate is not looked at",
            "expired and future certificates: 403 with a reason",
            "a certificate is for a time",
        ],
        |world| {
            let expired = claim(world, SPECIAL.expired.hex(), "C=DE");
            expired.expect_error(403, "Client certificate has expired");
            let future = claim(world, SPECIAL.future.hex(), "C=DE");
            future.expect_error(403, "Client certificate is not valid yet");
        },
    ),
    differs(
        "§4.0.10",
        "repeated_headers",
        [
            "of repeated headers the first counts",
            "a thumbprint or subject name that comes more than once: 403 with a reason",
            "a proxy that adds its headers behind forged ones would let the forger be anyone",
        ],
        |world| {
            let request = download_request("DE", "2021-06-01");
            ask(world, &request).expect(200);
            let own = hex();
            for (name, value) in [
                ("X-SSL-Client-SHA256", "ab".repeat(32)),
                ("X-SSL-Client-SHA256", own),
                ("X-SSL-Client-DN", "C=IT".to_owned()),
                ("x-ssl-client-dn", "C=DE".to_owned()),
            ] {
                let answer = ask(world, &request.clone().with(name, value));
                let answer = answer.expect_error(403, UNKNOWN);
                assert_eq!(answer.code(), "repeated_identity_header", "{name}");
            }
        },
    ),
    covered_by(
        "§4.0.11",
        "the names of the two headers are settings",
        "api/tests/conformance/scenarios/identity.rs::reads_identity_from_headers_of_other_names",
        None,
    ),
    differs(
        "§4.0.12",
        "long_name",
        [
            "a subject name may be as long as a header may",
            "one of more than 4096 bytes: 403 with a reason; it is not read",
            "a stranger chooses the name in a certificate of their own, and reading it costs time",
        ],
        |world| {
            let longest = format!("C=DE,O={}", "x".repeat(4096 - 7));
            says_de(world, &longest);
            let answer = claim(world, hex(), format!("{longest}x"));
            let answer = answer.expect_error(403, UNKNOWN);
            assert_eq!(answer.code(), "subject_name_too_long");
        },
    ),
    covered_by(
        "§4.0.13",
        "the certificate itself is in no header",
        "api/tests/conformance/scenarios/identity.rs::reads_the_certificate_itself_from_a_header",
        Some(Difference {
            gateway: "it may be, in one that a setting names, and its SHA-256 is the thumbprint",
            reason: "nginx can hand over a certificate, but not its SHA-256",
        }),
    ),
    same(
        "§4.1.1",
        "hex",
        "64 hexadecimal digits in any letter case",
        |world| {
            spelled(world, &hex());
            spelled(world, &hex().to_uppercase());
        },
    ),
    differs(
        "§4.1.2",
        "signed_hex",
        [
            "a sign in front of 63 digits is taken for a number",
            "403",
            "no proxy writes it, and it is no thumbprint",
        ],
        |world| unreadable(world, &format!("+{}", "a".repeat(63))),
    ),
    same("§4.1.3", "url_encoded", "percent-encoded base64", |world| {
        let text = member("DE").authentication.base64();
        let encoded = text
            .replace('+', "%2B")
            .replace('/', "%2F")
            .replace('=', "%3D");
        spelled(world, &encoded);
        spelled(
            world,
            &encoded
                .replace("%2B", "%2b")
                .replace("%2F", "%2f")
                .replace("%3D", "%3d"),
        );
    }),
    same(
        "§4.1.4",
        "base64",
        "standard base64, padding optional, no white space",
        |world| {
            let bytes = member("DE").authentication.thumbprint().0;
            spelled(world, &STANDARD.encode(bytes));
            spelled(world, &STANDARD_NO_PAD.encode(bytes));
            let text = STANDARD.encode(bytes);
            unreadable(world, &format!("{} {}", &text[..20], &text[20..]));
        },
    ),
    differs(
        "§4.1.5",
        "url_safe_base64",
        [
            "the URL-safe alphabet is refused",
            "it is taken",
            "it cannot be mistaken for anything else",
        ],
        |world| {
            spelled(
                world,
                &URL_SAFE.encode(member("DE").authentication.thumbprint().0),
            );
        },
    ),
    differs(
        "§4.1.6",
        "thumbprint_with_a_zero_byte",
        [
            "a certificate whose SHA-256 begins with a zero byte never matches by its 64 digits (A-1)",
            "32 bytes are compared; 64 digits, 56 to 63 digits and base64 all match",
            "one certificate in 256 was locked out; ES sends the shortened form",
        ],
        |world| {
            let zero = &SPECIAL.zero;
            let short = legacy_thumbprint(&zero.certificate);
            assert!(short.len() <= 62, "{short}");
            for text in [zero.hex(), short, zero.base64()] {
                claim(world, text, "C=DE").expect(200);
            }
        },
    ),
    same(
        "§4.1.7",
        "legacy_form_in_the_audit",
        "the audit shows the thumbprint without leading zeros, with one put back when 63 digits \
         remain (FI compares it)",
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload
                .request()
                .set("X-SSL-Client-SHA256", SPECIAL.zero.hex());
            ask(world, &request).expect(201);
            let tag = world.cut();
            let entries = audit(world, "IT", "2021-06-01", &tag).expect(200).json();
            let shown = entries.as_array().unwrap().iter();
            let shown: Vec<_> = shown.map(|entry| &entry["uploaderThumbprint"]).collect();
            let expected = legacy_thumbprint(&SPECIAL.zero.certificate);
            assert!(shown.contains(&&expected.into()), "{shown:?}");
        },
    ),
    same("§4.2.1", "name_c_first", "`C=DE,O=x` says DE", |world| {
        says_de(world, "C=DE,O=x");
        says_de(world, "O=x,C=DE");
        says_de(world, "c = DE , O=x");
        says_de(world, "O%3Dx%2CC%3DDE");
    }),
    same(
        "§4.2.2",
        "name_with_malformed_parts",
        "`U=,TR,C=DE` says DE: malformed parts are passed over",
        |world| says_de(world, "U=,TR,C=DE"),
    ),
    same(
        "§4.2.3",
        "name_with_repeats",
        "`O=a,O=b,C=DE` says DE",
        |world| {
            says_de(world, "O=a,O=b,C=DE");
        },
    ),
    same(
        "§4.2.4",
        "name_with_two_countries",
        "`C=DE,C=FR` says DE: the first",
        |world| says_de(world, "C=DE,C=FR"),
    ),
    same(
        "§4.2.5",
        "name_with_two_equals",
        "`O=a=b,C=DE` says DE",
        |world| {
            says_de(world, "O=a=b,C=DE");
        },
    ),
    differs(
        "§4.2.6",
        "name_on_one_line",
        [
            "`/C=DE/O=x` (OpenSSL's one line): 400",
            "says DE",
            "proxies write it, and it is unambiguous",
        ],
        |world| says_de(world, "/C=DE/O=x"),
    ),
    differs(
        "§4.2.7",
        "name_with_two_values",
        [
            "`C=DE+CN=x`: 400",
            "says DE",
            "RFC 4514: attributes of one relative name are joined with `+`",
        ],
        |world| says_de(world, "C=DE+CN=x"),
    ),
    differs(
        "§4.2.8",
        "name_with_an_escape",
        [
            "`OU=x\\,C=FR,C=DE` says FR",
            "says DE; hexadecimal escapes and quotes are understood, too",
            "RFC 4514: an escaped comma does not end an attribute",
        ],
        |world| {
            says_de(world, "OU=x\\,C=FR,C=DE");
            says_de(world, "OU=x\\2CC=FR,C=\\44E");
            says_de(world, "OU=\"x,C=FR\",C=DE");
        },
    ),
    same(
        "§4.2.9",
        "name_with_empty_country",
        "`C=,O=x`: 400",
        |world| {
            says_nothing(world, "C=,O=x");
        },
    ),
    covered_by(
        "§4.2.10",
        "anyone who reaches the port can claim any identity (A-3)",
        "api/tests/conformance/scenarios/identity.rs::trusts_identity_headers_of_configured_peers_only",
        Some(Difference {
            gateway: "mutual TLS of its own that ignores the headers; headers are trusted only \
                      from configured peers, and without peers only on a loopback address",
            reason: "a mistake in deployment must not open the gateway to everyone",
        }),
    ),
    covered_by(
        "§4.3.1",
        "a row needs a PEM with an X.509 certificate, the thumbprint of that certificate, and the \
         operator's signature over the PEM text",
        "engine/src/trust/tests.rs::does_not_trust_a_row_that_was_tampered_with",
        None,
    ),
    same(
        "§4.3.2",
        "broken_row_of_an_authentication_certificate",
        "a broken row counts as no row: 403",
        |world| {
            claim(world, SPECIAL.tampered.hex(), "C=DE").expect_error(403, UNKNOWN);
        },
    ),
    same(
        "§4.3.3",
        "broken_row_of_a_signing_certificate",
        "a broken row of a signing certificate: 400 `Invalid signature`",
        |world| {
            let mut upload = Upload::fresh(world, "DE", 1);
            let content = crate::support::batch::signed_bytes(&upload.keys);
            let signer = &SPECIAL.tampered_signing;
            upload.signature = SERVICE.sign_base64(signer, &content, world.now());
            let answer = upload.send(world).expect_error(400, "Invalid signature");
            assert_eq!(answer.json()["reason"], "cert_integrity");
        },
    ),
    covered_by(
        "§4.3.4",
        "no trust anchor in the key store: 500 on every request",
        "api/src/settings/tests/refusals.rs::refuses_files_that_are_missing_or_something_else",
        Some(Difference {
            gateway: "the gateway does not start, and says which setting to correct",
            reason: "better before the first request than at each",
        }),
    ),
    differs(
        "§4.3.5",
        "one_certificate_for_two_purposes",
        [
            "a thumbprint is unique over all kinds: no certificate is for authentication and \
             signing",
            "unique per kind",
            "a small participant may have one certificate; nothing depends on the restriction",
        ],
        |world| {
            claim(world, SPECIAL.both.hex(), "C=DE").expect(200);
            let mut upload = Upload::fresh(world, "DE", 1);
            let content = crate::support::batch::signed_bytes(&upload.keys);
            upload.signature = SERVICE.sign_base64(&SPECIAL.both, &content, world.now());
            upload.store(world);
        },
    ),
    covered_by(
        "§4.3.6",
        "rows are inserted by SQL",
        "api/tests/cli_database.rs::adds_certificates_signed_locally_or_on_another_machine",
        Some(Difference {
            gateway: "`efgs cert add`, `list`, `revoke`",
            reason: "the command checks what it inserts",
        }),
    ),
];

pub(super) const ISSUED_ANCHOR_ROWS: &[Row] = &[differs(
    "§4.3.7",
    "anchor_issued_by_a_ca",
    [
        "the operator's signature is checked with the algorithm that the anchor itself was signed \
         with: with another kind of issuer nothing verifies (A-2)",
        "with the kind of key of the anchor, and SHA-256",
        "who signed the anchor says nothing about what the anchor signs with",
    ],
    |world| {
        assert!(
            world
                .engine()
                .trust()
                .certificates()
                .all(|listed| listed.is_intact())
        );
        Upload::fresh(world, "DE", 1).store(world);
    },
)];

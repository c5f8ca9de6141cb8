//! §10: batch signatures. Those that BouncyCastle and OpenSSL made are uploaded unchanged, with the
//! certificate list that they were made for.

use serde_json::Value;

use super::{Difference, Row, Section, covered_by, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask};
use crate::support::batch::signed_bytes;
use crate::support::cms::{
    BOUNCY_CASTLE_CSHARP, BOUNCY_CASTLE_PSS, JSRSASIGN, MOZILLA, SERVICE, Shape,
};
use crate::support::pki::{Identity, member};
use crate::support::raw::Answer;
use crate::support::vectors::{self, Vector, accepts, refuses};

pub(super) const SECTION: Section = Section {
    name: "s10_signatures",
    heading: "§10 Batch signatures",
    rows: ROWS,
    prepare: vectors::world,
};

/// A fresh key signed by `signer` in this shape, sent by `country`.
fn send_shaped(world: &World, country: &'static str, signer: &Identity, shape: Shape) -> Answer {
    let mut upload = Upload::fresh(world, country, 2);
    let content = signed_bytes(&upload.keys);
    upload.signature = shape.sign_base64(signer, &content, world.now());
    upload.send(world)
}

const VAGUE: &str = "`Invalid signature`, and beside it a `reason`";
const TOLD: &str = "an authenticated participant may know what is wrong with its own signature";

const ROWS: &[Row] = &[
    same(
        "§10.1",
        "base64",
        "the header is strict standard base64, padding optional; else 400",
        |world| {
            accepts(world, &["001"]);
            let upload = Upload::fresh(world, "DE", 1);
            let unpadded = upload.signature.trim_end_matches('=').to_owned();
            let request = upload.request().set("batchSignature", unpadded);
            ask(world, &request).expect(201);
            refuses(
                world,
                "bad_base64",
                &["801", "802", "804", "808", "809", "811", "815", "818"],
            );
        },
    ),
    differs(
        "§10.2",
        "encodings",
        [
            "BER with indefinite lengths, DL and DER; bytes behind the structure are ignored",
            "BER and DER; bytes behind the structure are refused",
            "no client sends any, and they are not signed",
        ],
        |world| {
            accepts(world, &["001", "002", "034", "109", "307"]);
            refuses(world, "malformed_cms", &["736", "737", "738"]);
        },
    ),
    differs(
        "§10.3",
        "one_signer",
        [
            "the first signer counts, others are ignored; none: 400",
            "exactly one signer",
            "no client has several, and what is ignored is not verified",
        ],
        |world| {
            refuses(world, "no_signer_info", &["720", "721"]);
            refuses(world, "multiple_signer_infos", &["722", "725", "726"]);
        },
    ),
    same(
        "§10.4",
        "embedded_certificate",
        "the signer's certificate is inside, found by issuer and serial number or by key \
         identifier; else 400",
        |world| {
            accepts(world, &["001", "031", "032", "103"]);
            refuses(
                world,
                "signer_cert_not_found",
                &["701", "702", "703", "704", "706", "707"],
            );
        },
    ),
    covered_by(
        "§10.5",
        "the certificate is valid now; else 400",
        "api/tests/conformance/scenarios/signatures.rs::checks_the_validity_of_signers_at_the_time_of_the_upload",
        None,
    ),
    differs(
        "§10.6",
        "listed_certificate",
        [
            "the certificate is listed as SIGNING for the country of its subject, of which the \
             first attribute of the name's part counts (S-3); else 400",
            "the same, with a subject that names exactly one country",
            "the wrong attribute of a name with several values locked a participant out",
        ],
        |world| {
            refuses(world, "cert_unknown", &["640", "641", "642"]);
            refuses(world, "cert_country", &["630", "631", "632"]);
            accepts(world, &["314", "315", "316"]);
        },
    ),
    same(
        "§10.7",
        "revoked_certificate",
        "a revoked certificate: 400",
        |world| {
            refuses(world, "cert_revoked", &["644"]);
        },
    ),
    differs(
        "§10.8",
        "origins",
        [
            "every key's origin is the signer's country; else 400; a batch without keys passes",
            "the same, and a batch without keys is signed by its uploader's country",
            "no participant uploads in another's name, not even an empty batch",
        ],
        |world| {
            refuses(world, "origin_mismatch", &["621", "623", "624"]);
            // All keys are the uploader's own: the certificate is the wrong one.
            refuses(world, "signer_country", &["620"]);
            accepts(world, &["227"]);
            let it = &member("IT").signing;
            let mut upload = Upload::fresh(world, "DE", 0);
            upload.send(world).expect(201);
            upload = Upload::fresh(world, "DE", 0);
            upload.signature = SERVICE.sign_base64(it, &signed_bytes(&upload.keys), world.now());
            let refused = upload.send(world).expect(400).json();
            assert_eq!(refused["reason"], "signer_country");
            // The keys are DE's own: the certificate is to blame, and no key.
            upload = Upload::fresh(world, "DE", 3);
            upload.signature = SERVICE.sign_base64(it, &signed_bytes(&upload.keys), world.now());
            let refused = upload.send(world).expect(400).json();
            assert_eq!(refused["reason"], "signer_country");
            assert_eq!(refused["keyIndex"], Value::Null);
        },
    ),
    same(
        "§10.9",
        "cryptography",
        "the signature verifies; else 400",
        |world| {
            refuses(world, "digest_mismatch", &["501", "506"]);
            refuses(world, "signature_invalid", &["504", "505", "507", "508"]);
            refuses(
                world,
                "signature_invalid",
                &["530", "531", "533", "535", "537", "580"],
            );
        },
    ),
    differs(
        "§10.10",
        "reasons",
        [
            "all of these are the same 400 `Invalid signature`, vague on purpose (#137, #232)",
            VAGUE,
            TOLD,
        ],
        |world| {
            let mut upload = Upload::fresh(world, "DE", 1);
            upload.signature = "####".to_owned();
            let answer = upload.send(world).expect_error(400, "Invalid signature");
            assert_eq!(answer.json()["reason"], "bad_base64");
        },
    ),
    same(
        "§10.11",
        "signed_attributes",
        "with signed attributes; contentType and messageDigest are required, the others not",
        |world| {
            accepts(world, &["001", "030", "101", "321", "330"]);
            refuses(world, "signed_attrs_invalid", &["543", "544", "546", "549"]);
        },
    ),
    same(
        "§10.12",
        "no_signed_attributes",
        "without signed attributes",
        |world| {
            accepts(world, &["003", "007", "015", "019", "023", "102"]);
        },
    ),
    covered_by(
        "§10.13",
        "a signing time outside the certificate's validity: 400",
        "api/tests/conformance/scenarios/signatures.rs::checks_the_validity_of_signers_at_the_time_of_the_upload",
        None,
    ),
    differs(
        "§10.14",
        "attached_content",
        [
            "content inside the signature is ignored",
            "400",
            "SecReq-019: the batch must not travel inside the signature; no client sends it so",
        ],
        |world| refuses(world, "attached_content", &["714", "715", "717"]),
    ),
    differs(
        "§10.15",
        "algorithms",
        [
            "RSA with MD5, SHA-1, SHA-224, SHA3-256, SHA-256 and SHA-512, ECDSA with SHA-1 and SHA-256 \
             (S-1); not RSA-PSS, for which the server has no provider",
            "RSA from 2048 bits (PKCS#1 v1.5), ECDSA on P-256, P-384 and P-521, with SHA-256, \
             SHA-384 and SHA-512; SHA-1, and PSS with any salt, where the operator allows it; MD5 \
             never",
            "MD5 is broken and SHA-1 nearly; two real backends sign with it; those who verify PSS \
             may agree on it",
        ],
        |world| {
            accepts(
                world,
                &[
                    "001", "005", "009", "013", "017", "021", "035", "115", "317",
                ],
            );
            refuses(world, "weak_digest", &["590", "591", "592", "593", "598"]);
            let weak = Vector::read("590").send(world).expect(400);
            let advice = weak.json()["advice"].to_string();
            assert!(advice.contains("[signatures] legacy_sha1"), "{advice}");
            refuses(world, "weak_key", &["594"]);
            let it = &member("IT").signing;
            let refused = send_shaped(world, "IT", it, BOUNCY_CASTLE_PSS).expect(400);
            assert_eq!(refused.json()["reason"], "pss_not_allowed");
            assert_eq!(refused.message(), "Invalid signature");
            let advice = refused.json()["advice"].to_string();
            assert!(advice.contains("[signatures] pss"), "{advice}");
        },
    ),
    differs(
        "§10.16",
        "dsa",
        [
            "DSA is said to be accepted (#92)",
            "400, as Ed25519",
            "no client uses it",
        ],
        |world| refuses(world, "unsupported_algorithm", &["595", "596", "599"]),
    ),
    differs(
        "§10.17",
        "second_signer",
        ["a second, broken signer is ignored", "400", "see §10.3"],
        |world| refuses(world, "multiple_signer_infos", &["723"]),
    ),
    same(
        "§10.18",
        "no_other_checks",
        "key usage, issuer and chain of the certificate are not checked",
        |world| accepts(world, &["105", "309", "323", "324"]),
    ),
    same(
        "§10.19",
        "sha256_named_sha1_made_with_sha1",
        "attributes, digest SHA-256, named `sha1WithRSA`, made with SHA-1: accepted (IE's real \
         output)",
        |world| {
            let ie = &member("IE").signing;
            send_shaped(world, "IE", ie, JSRSASIGN).expect(201);
            let de = &member("DE").signing;
            let refused = send_shaped(world, "DE", de, JSRSASIGN).expect(400);
            assert_eq!(refused.json()["reason"], "weak_digest");
        },
    ),
    covered_by(
        "§10.20",
        "attributes, digest SHA-256, named `sha1WithRSA`, made with SHA-256: refused, as all \
         combinations whose name tells another hash than was used; OpenSSL accepts it",
        "engine/src/verify/signature/tests.rs::goes_by_the_hash_that_the_signature_algorithm_names_over_signed_attributes",
        None,
    ),
    covered_by(
        "§10.21",
        "attributes, digest SHA-1, named `sha256WithRSA`, made with SHA-256: accepted",
        "engine/src/verify/signature/tests.rs::takes_czechias_sha1_only_where_it_is_allowed",
        Some(Difference {
            gateway: "accepted where SHA-1 is allowed",
            reason: "the message digest is made with SHA-1",
        }),
    ),
    same(
        "§10.22",
        "sha256_bare_rsa",
        "attributes, digest SHA-256, named `rsaEncryption`, made with SHA-256: accepted",
        |world| {
            let de = &member("DE").signing;
            send_shaped(world, "DE", de, BOUNCY_CASTLE_CSHARP).expect(201);
        },
    ),
    covered_by(
        "§10.23",
        "attributes, digest SHA-256, named `ecdsa-with-SHA1`, made with SHA-1: accepted",
        "engine/src/verify/signature/tests.rs::verifies_sha1_with_every_curve",
        Some(Difference {
            gateway: "accepted where SHA-1 is allowed",
            reason: "SHA-1 is for participants that the operator lists",
        }),
    ),
    covered_by(
        "§10.24",
        "no attributes, digest SHA-256, named `sha1WithRSA`: accepted when made with SHA-256",
        "engine/src/verify/signature/tests.rs::goes_by_digest_algorithm_without_signed_attributes",
        None,
    ),
    covered_by(
        "§10.25",
        "the same made with SHA-1: refused",
        "engine/src/verify/signature/tests.rs::goes_by_digest_algorithm_without_signed_attributes",
        None,
    ),
    differs(
        "§10.26",
        "malformed_structures",
        [
            "some malformed structures give 500 (S-2)",
            "400",
            "they are the sender's doing",
        ],
        |world| {
            refuses(
                world,
                "malformed_cms",
                &["730", "731", "733", "739", "741", "746"],
            );
            refuses(world, "malformed_cms", &["748", "749"]);
            refuses(world, "malformed_cms", &["901", "904", "910", "911", "919"]);
        },
    ),
    covered_by(
        "§10.27",
        "certificates with odd encodings, as a negative serial number (FI's development signer)",
        "api/tests/conformance/clients/finland.rs::imports_by_slicing_the_whole_list",
        None,
    ),
    same(
        "§10.28",
        "sizes",
        "headers of 4096-bit keys and chains of certificates",
        |world| {
            accepts(world, &["005", "107", "105"]);
            send_shaped(world, "IT", &member("IT").signing, BOUNCY_CASTLE_CSHARP).expect(201);
        },
    ),
    same(
        "§10.29",
        "sha1_throughout",
        "SHA-1 throughout (CZ's library) verifies",
        |world| {
            send_shaped(world, "CZ", &member("CZ").signing, MOZILLA).expect(201);
            let refused = send_shaped(world, "DE", &member("DE").signing, MOZILLA).expect(400);
            assert_eq!(refused.json()["reason"], "weak_digest");
        },
    ),
    covered_by(
        "§10.30",
        "`id-ecPublicKey` alone as signature algorithm, with or without parameters (.NET may write \
         it): accepted, the hash is that of digestAlgorithm",
        "engine/src/verify/signature/tests.rs::takes_id_ec_public_key_as_signature_algorithm_and_goes_by_digest_algorithm",
        None,
    ),
    covered_by(
        "§10.31",
        "an identifier octet (class, form or number of a type) that BouncyCastle does not expect: \
         400 or 500",
        "engine/tests/vectors.rs::refuses_every_changed_identifier_octet_that_bouncy_castle_refuses",
        Some(Difference {
            gateway: "400",
            reason: "they are the sender's doing",
        }),
    ),
];

//! §15: the audit. The world has yesterday's batch 20210531-1, uploaded by IT, and today's
//! 20210601-1 with two uploads of DE, one of IT between them, and one of ES.

use serde_json::Value;

use super::{Difference, Row, Section, covered_by, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask, audit, audit_request, download};
use crate::support::batch::{from_protobuf, signed_bytes};
use crate::support::cms::{bouncy_castle_pem, legacy_thumbprint, verify, verify_operator};
use crate::support::pki::{ANCHOR, der, member};
use crate::support::raw::Request;
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "s15_audit",
    heading: "§15 Audits",
    rows: ROWS,
    prepare,
};

fn prepare(databases: &Databases, kind: Kind) -> World {
    let day = 86_400_000;
    let world = World::with(databases, kind, |options| options.now.0 -= day);
    Upload::fresh(&world, "IT", 1).store(&world);
    world.cut();
    world.pass_days(1);
    for (country, key_count) in [("DE", 2), ("IT", 3), ("DE", 4), ("ES", 5)] {
        Upload::fresh(&world, country, key_count)
            .tagged(&format!("audit-{key_count}"))
            .store(&world);
    }
    world.cut();
    world
}

const TODAY: &str = "2021-06-01";
const TAG: &str = "20210601-1";

/// The entries that a country sees.
fn entries(world: &World, country: &str) -> Vec<Value> {
    let answer = audit(world, country, TODAY, TAG).expect(200);
    answer.json().as_array().unwrap().clone()
}

fn text<'a>(entry: &'a Value, member: &str) -> &'a str {
    entry[member]
        .as_str()
        .unwrap_or_else(|| panic!("{member}: {entry}"))
}

fn amounts(entries: &[Value]) -> Vec<(&str, u64)> {
    let pair = |entry| (text(entry, "country"), entry["amount"].as_u64().unwrap());
    entries.iter().map(pair).collect()
}

const ROWS: &[Row] = &[
    same("§15.1", "date", "an invalid date: 400", |world| {
        assert_eq!(
            audit(world, "IT", "1.6.2021", TAG).expect(400).code(),
            "date_invalid"
        );
    }),
    same("§15.2", "too_old", "a date that is too old: 410", |world| {
        let answer = audit(world, "IT", "2021-05-29", "20210529-1");
        answer.expect_error(410, "Requested date is too old!");
    }),
    same("§15.3", "unknown_tag", "an unknown tag: 404", |world| {
        for tag in ["20210601-2", "nonsense", "null"] {
            let answer = audit(world, "IT", TODAY, tag);
            answer.expect_error(404, "Could not find batch with given BatchTag");
        }
    }),
    same(
        "§15.4",
        "other_day",
        "the date is not exactly the day of the batch: 404, unlike downloads",
        |world| {
            let message = "Given date does not match the requested batch";
            audit(world, "IT", "2021-05-31", TAG).expect_error(404, message);
            audit(world, "IT", TODAY, "20210531-1").expect_error(404, message);
            audit(world, "IT", "2021-06-02", TAG).expect_error(404, message);
        },
    ),
    covered_by(
        "§15.5",
        "no entries, as after a clean-up: 404 `Batchtag not found`",
        "api/tests/conformance/scenarios/history.rs::stops_serving_what_is_too_old",
        Some(Difference {
            gateway: "does not happen: a batch is whole until its day is too old, then 410",
            reason: "R-1: a batch must not shrink while it can be downloaded",
        }),
    ),
    same(
        "§15.6",
        "success",
        "200 with a JSON array, one object per upload",
        |world| {
            assert_eq!(entries(world, "FI").len(), 4);
        },
    ),
    same("§15.7", "country", "`country`: the uploader's", |world| {
        let seen = entries(world, "FI");
        assert_eq!(amounts(&seen), [("DE", 2), ("IT", 3), ("DE", 4), ("ES", 5)]);
    }),
    same(
        "§15.8",
        "uploaded_time",
        "`uploadedTime`: ISO 8601 in UTC, with `Z` and two decimals",
        |world| {
            for entry in entries(world, "FI") {
                let time = text(&entry, "uploadedTime").to_owned();
                let decimals = time
                    .strip_suffix('Z')
                    .and_then(|time| time.rsplit_once('.'));
                assert!(time.starts_with("2021-06-01T12:0"), "{time}");
                assert!(
                    decimals.is_some_and(|(_, decimals)| decimals.len() == 2),
                    "{time}"
                );
            }
        },
    ),
    same(
        "§15.9",
        "uploader_certificate",
        "`uploaderCertificate`: the PEM as the operator signed it, byte for byte",
        |world| {
            for entry in entries(world, "FI") {
                let country = text(&entry, "country");
                let expected = &member(country).authentication;
                assert_eq!(text(&entry, "uploaderCertificate"), expected.pem);
                assert_eq!(expected.pem, bouncy_castle_pem(&expected.certificate));
            }
        },
    ),
    same(
        "§15.10",
        "uploader_thumbprint",
        "`uploaderThumbprint`: in the legacy form",
        |world| {
            for entry in entries(world, "FI") {
                let expected = &member(text(&entry, "country")).authentication;
                let legacy = legacy_thumbprint(&expected.certificate);
                assert_eq!(text(&entry, "uploaderThumbprint"), legacy);
            }
        },
    ),
    same(
        "§15.11",
        "uploader_operator_signature",
        "`uploaderOperatorSignature`: the operator's signature over that PEM",
        |world| {
            for entry in entries(world, "FI") {
                let pem = text(&entry, "uploaderCertificate");
                let signature = text(&entry, "uploaderOperatorSignature");
                verify_operator(&der(&ANCHOR.pem), pem, signature).unwrap();
            }
        },
    ),
    same(
        "§15.12",
        "signing_certificate",
        "`signingCertificate`, `uploaderSigningThumbprint`, `signingCertificateOperatorSignature`: \
         the same of the signing certificate",
        |world| {
            for entry in entries(world, "FI") {
                let expected = &member(text(&entry, "country")).signing;
                let pem = text(&entry, "signingCertificate");
                assert_eq!(pem, expected.pem);
                let thumbprint = text(&entry, "uploaderSigningThumbprint");
                assert_eq!(thumbprint, legacy_thumbprint(&expected.certificate));
                let signature = text(&entry, "signingCertificateOperatorSignature");
                verify_operator(&der(&ANCHOR.pem), pem, signature).unwrap();
            }
        },
    ),
    same(
        "§15.13",
        "amount",
        "`amount`: how many keys the upload has",
        |world| {
            assert_eq!(entries(world, "FI")[3]["amount"], 5);
        },
    ),
    same(
        "§15.14",
        "batch_signature",
        "`batchSignature`: as received",
        |world| {
            let answer = download(world, "FI", TODAY, Some(TAG)).expect(200);
            let keys = from_protobuf(&answer.body);
            let mut rest = keys.as_slice();
            for entry in entries(world, "FI") {
                let amount = usize::try_from(entry["amount"].as_u64().unwrap()).unwrap();
                let (slice, others) = rest.split_at(amount);
                let certificate = der(text(&entry, "signingCertificate"));
                let signature = text(&entry, "batchSignature");
                verify(signature, &certificate, &signed_bytes(slice)).unwrap();
                rest = others;
            }
            assert!(rest.is_empty());
        },
    ),
    differs(
        "§15.15",
        "own_uploads_last",
        [
            "the caller's own uploads are included, in the order of the rest",
            "included, and last",
            "FI cuts its list without leaving its own entries out; no client depends on their position",
        ],
        |world| {
            let seen = entries(world, "DE");
            assert_eq!(amounts(&seen), [("IT", 3), ("ES", 5), ("DE", 2), ("DE", 4)]);
        },
    ),
    differs(
        "§15.16",
        "never_null",
        [
            "members of a certificate are null when its row is gone, broken, or of another country",
            "all ten members are there and never null; empty at worst",
            "FI refuses the whole answer over one null",
        ],
        |world| {
            for entry in entries(world, "FI") {
                let members = entry.as_object().unwrap();
                assert_eq!(members.len(), 10);
                assert!(
                    members
                        .values()
                        .all(|value| !value.is_null() && *value != "")
                );
            }
        },
    ),
    covered_by(
        "§15.17",
        "revocation is not considered",
        "api/tests/conformance/scenarios/history.rs::audits_what_was_uploaded_before_a_revocation",
        None,
    ),
    same(
        "§15.18",
        "cutting",
        "amounts in audit order, without the caller's own, reproduce the download",
        |world| {
            for country in ["DE", "IT", "ES", "FI"] {
                let answer = download(world, country, TODAY, Some(TAG)).expect(200);
                let keys = from_protobuf(&answer.body);
                let origins = keys
                    .iter()
                    .map(|key| key.origin.as_str())
                    .collect::<Vec<_>>();
                let seen = entries(world, country);
                let others = amounts(&seen)
                    .into_iter()
                    .filter(|(other, _)| *other != country);
                let expected = others.flat_map(|(other, amount)| {
                    std::iter::repeat_n(other, usize::try_from(amount).unwrap())
                });
                assert_eq!(origins, expected.collect::<Vec<_>>());
            }
        },
    ),
    same(
        "§15.19",
        "grouped_by_upload",
        "one entry per upload; tags of two countries that are alike stay apart",
        |world| {
            let seen = entries(world, "FI");
            assert_eq!(
                seen.iter().filter(|entry| entry["country"] == "DE").count(),
                2
            );
        },
    ),
    same(
        "§15.20",
        "authentication",
        "authentication (§4)",
        |world| {
            let path = format!("/diagnosiskeys/audit/download/{TODAY}/{TAG}");
            ask(world, &Request::get(&path)).expect(403);
        },
    ),
    same(
        "§15.21",
        "content_type_of_a_get",
        "a `Content-Type` on the GET is ignored (IT sends one)",
        |world| {
            let request =
                audit_request("IT", TODAY, TAG).set("Accept", "application/octet-stream, */*");
            ask(world, &request.with("Content-Type", "application/json")).expect(200);
        },
    ),
];

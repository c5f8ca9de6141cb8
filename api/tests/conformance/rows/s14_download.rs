//! §14: downloads. The world has two days: 20210531-1 (DE), 20210531-2 (IT), and today 20210601-1
//! (DE and ES).

use super::{Difference, Row, Section, covered_by, differs, same};
use crate::World;
use crate::support::backend::{JSON, Upload, ask, download, download_request};
use crate::support::batch::{from_json, from_protobuf};
use crate::support::raw::{Answer, Request};
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "s14_download",
    heading: "§14 Downloads",
    rows: ROWS,
    prepare,
};

fn prepare(databases: &Databases, kind: Kind) -> World {
    let day = 86_400_000;
    let world = World::with(databases, kind, |options| options.now.0 -= day);
    Upload::fresh(&world, "DE", 2).store(&world);
    world.cut();
    Upload::fresh(&world, "IT", 3).store(&world);
    world.cut();
    world.pass_days(1);
    Upload::fresh(&world, "DE", 4).store(&world);
    Upload::fresh(&world, "ES", 5).store(&world);
    world.cut();
    world
}

const YESTERDAY: &str = "2021-05-31";
const TODAY: &str = "2021-06-01";

fn keys(answer: &Answer) -> usize {
    from_protobuf(&answer.body).len()
}

fn tags(answer: &Answer) -> (&str, &str) {
    (
        answer.header("batchTag").unwrap(),
        answer.header("nextBatchTag").unwrap(),
    )
}

const ROWS: &[Row] = &[
    same(
        "§14.1",
        "route_and_media_types",
        "method, `Accept`: 405, 406",
        |world| {
            let request = download_request("IT", TODAY);
            let path = "/diagnosiskeys/download/2021-06-01";
            ask(world, &request.clone().path("POST", path)).expect(405);
            ask(world, &request.set("Accept", "text/html")).expect(406);
        },
    ),
    same(
        "§14.2",
        "authentication",
        "authentication (§4): 403, 400",
        |world| {
            let path = "/diagnosiskeys/download/2021-06-01";
            ask(world, &Request::get(path)).expect(403);
            let request = download_request("IT", TODAY).set("X-SSL-Client-DN", "O=x");
            ask(world, &request).expect(400);
        },
    ),
    same(
        "§14.3",
        "date",
        "a date other than `yyyy-MM-dd`: 400; an offset behind it is tolerated",
        |world| {
            for date in ["20210601", "2021-6-1", "2021-02-30", "today", "%ff"] {
                assert_eq!(
                    download(world, "IT", date, None).expect(400).code(),
                    "date_invalid"
                );
            }
            for date in ["2021-06-01+02:00", "2021-06-01Z", "2021-06-01-11:30"] {
                download(world, "IT", date, None).expect(200);
            }
        },
    ),
    same(
        "§14.4",
        "too_old",
        "a date more than 2 days (`max-age-in-days`) before today: 410",
        |world| {
            let answer = download(world, "IT", "2021-05-29", None);
            answer.expect_error(410, "Requested date is too old!");
            download(world, "IT", "2021-05-30", None).expect(200);
        },
    ),
    same(
        "§14.5",
        "first_batch",
        "without a tag: the first batch of that day or any later; none: 404",
        |world| {
            let first = download(world, "IT", YESTERDAY, None).expect(200);
            assert_eq!(tags(&first).0, "20210531-1");
            let earlier = download(world, "IT", "2021-05-30", None).expect(200);
            assert_eq!(tags(&earlier).0, "20210531-1");
            let today = download(world, "IT", TODAY, None).expect(200);
            assert_eq!(tags(&today).0, "20210601-1");
            let tomorrow = download(world, "IT", "2021-06-02", None);
            tomorrow.expect_error(404, "Could not find any batches for given date");
        },
    ),
    same("§14.6", "unknown_tag", "an unknown tag: 404", |world| {
        for tag in ["20210601-2", "20210601-01", "20210531-3", "nonsense"] {
            let answer = download(world, "IT", YESTERDAY, Some(tag));
            answer.expect_error(404, "Could not find batch with given BatchTag");
        }
    }),
    same(
        "§14.7",
        "batch_before_the_date",
        "a batch made before the date: 400",
        |world| {
            let message = "Given date does is not after or equals the requested batchTag";
            download(world, "IT", TODAY, Some("20210531-2")).expect_error(400, message);
            download(world, "IT", YESTERDAY, Some("20210601-1")).expect(200);
        },
    ),
    differs(
        "§14.8",
        "keys_of_others",
        [
            "the keys of all other countries, ordered by database id; concurrent uploads \
             interleave (D-1)",
            "uploads in the order of their commits, each in one piece",
            "clients cut the list by the amounts of the audit",
        ],
        |world| {
            let today = |country| download(world, country, TODAY, None).expect(200);
            assert_eq!(keys(&today("IT")), 9);
            assert_eq!(keys(&today("DE")), 5);
            assert_eq!(keys(&today("ES")), 4);
            let origins = from_protobuf(&today("IT").body)
                .into_iter()
                .map(|key| key.origin);
            let expected = [["DE"; 4].as_slice(), &["ES"; 5]].concat();
            assert_eq!(origins.collect::<Vec<_>>(), expected);
        },
    ),
    covered_by(
        "§14.9",
        "a row of statistics; when it fails, 500",
        "engine/tests/retention.rs::keeps_its_promises_on_sqlite",
        Some(Difference {
            gateway: "counted in memory and written every few seconds; a failure does not touch \
                      the answer",
            reason: "a warm download never touches the database",
        }),
    ),
    differs(
        "§14.10",
        "version_of_accept",
        [
            "the version of `Accept` (§5.2): 415",
            "406, first of all",
            "see §5.2.7",
        ],
        |world| {
            let request = download_request("IT", TODAY);
            let request = request.set("Accept", "application/protobuf; version=1.1");
            ask(world, &request).expect(406);
        },
    ),
    same(
        "§14.11",
        "success",
        "200 with `batchTag` and `nextBatchTag`, spelled so",
        |world| {
            let answer = download(world, "IT", YESTERDAY, None).expect(200);
            assert_eq!(tags(&answer), ("20210531-1", "20210531-2"));
        },
    ),
    same(
        "§14.12",
        "links",
        "`nextBatchTag` is the link, also into a later day, or the four letters `null`",
        |world| {
            let answer = download(world, "IT", YESTERDAY, Some("20210531-2")).expect(200);
            assert_eq!(tags(&answer), ("20210531-2", "20210601-1"));
            // Followed with yesterday's date still in the path.
            let last = download(world, "IT", YESTERDAY, Some("20210601-1")).expect(200);
            assert_eq!(tags(&last), ("20210601-1", "null"));
        },
    ),
    same(
        "§14.13",
        "future_date",
        "a date in the future is not refused: 404 without a tag, 400 with one",
        |world| {
            download(world, "IT", "2021-06-09", None).expect(404);
            download(world, "IT", "2021-06-09", Some("20210601-1")).expect(400);
        },
    ),
    differs(
        "§14.14",
        "blank_tag",
        [
            "an empty `batchTag` header is a tag: 404",
            "an empty one and the literal `null` count as none",
            "PL's library may send either for \"none\"",
        ],
        |world| {
            for tag in ["", "null", "  "] {
                let answer = download(world, "IT", TODAY, Some(tag)).expect(200);
                assert_eq!(tags(&answer).0, "20210601-1");
            }
        },
    ),
    same(
        "§14.15",
        "own_keys_only",
        "a batch with nothing but the caller's own keys: 200, empty, with its headers",
        |world| {
            let answer = download(world, "DE", YESTERDAY, None).expect(200);
            assert_eq!(
                (answer.body.len(), tags(&answer)),
                (0, ("20210531-1", "20210531-2"))
            );
            let request = download_request("DE", YESTERDAY).set("Accept", JSON);
            let json = ask(world, &request).expect(200);
            assert!(from_json(&json.body).is_empty());
        },
    ),
    covered_by(
        "§14.16",
        "a batch beyond the limit of age can never be fetched",
        "api/tests/conformance/scenarios/history.rs::stops_serving_what_is_too_old",
        None,
    ),
    same(
        "§14.17",
        "stable",
        "the same batch is the same for ever, in both formats",
        |world| {
            let first = download(world, "IT", TODAY, None).expect(200);
            let again = download(world, "IT", TODAY, Some("20210601-1")).expect(200);
            assert_eq!(first.body, again.body);
            let json = ask(world, &download_request("IT", TODAY).set("Accept", JSON)).expect(200);
            assert_eq!(from_json(&json.body), from_protobuf(&first.body));
        },
    ),
];

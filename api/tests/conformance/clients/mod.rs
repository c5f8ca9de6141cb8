//! The national backends that were written for the reference, each simulated byte for byte over its
//! own socket: header names and their order, media types, tags, signatures, paging, and how it handles
//! responses (clients §1 and §2).
//!
//! What a library adds by itself (`User-Agent`, `Connection`) is typical of its version.

mod czechia;
mod denmark_norway;
mod finland;
mod germany;
mod ireland;
mod italy;
mod netherlands;
mod poland;
mod spain;
mod switzerland;

use serde_json::Value;

use crate::support::backend::Upload;
use crate::support::batch::{Key, signed_bytes};
use crate::support::cms::verify;
use crate::support::pki::der;
use crate::support::raw::{Answer, Raw};
use crate::support::world::World;
use crate::{Scenario, named};

pub(crate) const SCENARIOS: &[(&str, Scenario)] = {
    use {
        czechia as cz, denmark_norway as dk_no, finland as fi, germany as de, ireland as ie,
        italy as it, netherlands as nl, poland as pl, spain as es, switzerland as ch,
    };
    named![
        de::uploads_and_sends_the_rest_under_another_tag,
        de::downloads_by_following_links,
        it::verifies_every_upload_through_the_audit,
        it::numbers_its_uploads_without_a_prefix,
        es::needs_its_tag_in_the_answer,
        es::verifies_every_batch_signature,
        fi::sends_the_rest_under_the_same_tag_until_nothing_is_left,
        fi::imports_by_slicing_the_whole_list,
        ie::uploads_json_with_a_mixed_signature,
        ie::downloads_today_from_its_last_tag,
        cz::uploads_with_sha1_and_headers_as_go_writes_them,
        cz::guesses_tags_until_one_is_missing,
        ch::uploads_and_goes_through_every_retained_day,
        nl::sends_an_upload_again_whose_answer_was_lost,
        nl::resumes_at_its_last_tag,
        dk_no::uploads_under_the_time_as_tag,
        dk_no::asks_for_its_last_tag_again,
        pl::takes_a_missing_tag_for_no_data,
        pl::uploads_and_takes_a_taken_tag_for_success,
    ]
};

/// One backend on one connection with its own certificate.
struct Client<'w> {
    world: &'w World,
    country: &'static str,
    raw: Raw,
}

impl<'w> Client<'w> {
    fn connect(world: &'w World, country: &'static str) -> Self {
        Self {
            world,
            country,
            raw: world.tls(country),
        }
    }

    /// `HOST:PORT` as it stands in a URL of the backend's settings.
    fn host(&self) -> String {
        format!("localhost:{}", self.world.public().port())
    }

    /// Sends a request made of exactly these lines, and reads the answer.
    fn ask(&mut self, lines: &[String], body: &[u8]) -> Answer {
        let head = lines.join("\r\n") + "\r\n\r\n";
        self.raw.ask([head.as_bytes(), body].concat())
    }
}

/// Formats the lines of a request header.
macro_rules! lines {
    ($($line:literal),* $(,)?) => { [$(format!($line)),*] };
}
use lines;

/// An entry of an audit.
struct Entry {
    country: String,
    amount: usize,
    json: Value,
}

impl Entry {
    fn text(&self, member: &str) -> &str {
        let value = self.json[member].as_str();
        value.unwrap_or_else(|| panic!("{member} is missing: {}", self.json))
    }

    /// Whether these keys are what the uploader signed.
    #[track_caller]
    fn check_signature(&self, keys: &[Key]) {
        let certificate = der(self.text("signingCertificate"));
        let signature = self.text("batchSignature");
        verify(signature, &certificate, &signed_bytes(keys)).unwrap();
    }
}

fn entries(answer: &Answer) -> Vec<Entry> {
    let json = answer.json();
    let entry = |json: &Value| Entry {
        country: json["country"].as_str().unwrap().to_owned(),
        amount: usize::try_from(json["amount"].as_u64().unwrap()).unwrap(),
        json: json.clone(),
    };
    json.as_array().unwrap().iter().map(entry).collect()
}

/// The positions under a status of a 207.
fn positions(answer: &Answer, status: &str) -> Vec<usize> {
    let json = answer.json();
    let positions = json[status].as_array().unwrap().iter();
    positions
        .map(|position| usize::try_from(position.as_u64().unwrap()).unwrap())
        .collect()
}

fn at(keys: &[Key], positions: &[usize]) -> Vec<Key> {
    positions.iter().map(|at| keys[*at].clone()).collect()
}

/// Cuts keys of other countries into one download batch; returns its tag.
fn others_upload(world: &World, uploads: &[(&'static str, usize)]) -> String {
    for (country, key_count) in uploads {
        Upload::fresh(world, country, *key_count).store(world);
    }
    world.cut()
}

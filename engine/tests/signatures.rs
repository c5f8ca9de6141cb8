//! How uploads were signed, by country, as `efgs stats --signatures` shows it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use engine::admin::Admin;
use engine::domain::{Day, UnixMillis};
use support::{Installation, NOON, participants, upload};

#[test]
fn counts_uploads_by_country_and_form_of_their_signatures() {
    let installation = Installation::on_sqlite();
    let engine = installation.start();
    let began = UnixMillis(NOON.0 - 86_400_000);
    let participants = participants();
    for (sender, tag, keys) in [(0, "a", 0..3), (0, "b", 3..4), (1, "a", 4..6)] {
        let sender = &participants[sender];
        let keys: Vec<_> = keys.map(|number| sender.key(number, began)).collect();
        upload(&engine, sender.upload(tag, &keys, NOON)).unwrap();
    }
    let mut admin = Admin::open(&installation.settings.database).unwrap();
    let today = NOON.day();
    let mut seen = |from: Day, to: Day| {
        let uses = admin.signatures(from, to).unwrap();
        let line = |signed: &engine::statistics::SignatureUse| {
            let form = &signed.form;
            format!(
                "{} {} {} {} {} {} {}",
                signed.country,
                form.algorithm,
                form.digest,
                form.key,
                form.demand,
                signed.uploads,
                signed.keys
            )
        };
        uses.iter().map(line).collect::<Vec<_>>()
    };
    let expected = [
        "DE RSA SHA-256 RSA 2048 - 2 4",
        "IT RSA SHA-256 RSA 4096 - 1 2",
    ];
    assert_eq!(seen(today, today), expected);
    assert!(seen(today.minus_days(3), today.minus_days(1)).is_empty());
    assert!(seen(today.next(), today.next()).is_empty());
}

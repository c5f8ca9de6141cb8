//! What an attacker can do who writes the database and has no key file.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use testkit::local::MariaDb;

use super::*;
use crate::admin::{Admin, CertificateError, NewCertificate, RowChange};
use crate::database::Timeouts;
use crate::domain::{CertificateKind, Country, Thumbprint};
use crate::settings::DatabaseUrl;
use crate::store::migrate;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vectors/pki");

fn read(name: &str) -> String {
    std::fs::read_to_string(format!("{FIXTURES}/{name}")).unwrap()
}

fn thumbprint(code: &str, kind: CertificateKind) -> Thumbprint {
    let name = format!("{code}/{code}-{}.sha256", kind.name());
    Thumbprint::parse_hex(read(&name).trim()).unwrap()
}

/// A database on which four certificates are listed, the fourth revoked.
struct Listed {
    database: Database,
    url: DatabaseUrl,
    keys: Keys,
    anchor: String,
    revisions: AtomicU64,
}

impl Listed {
    fn on(url: DatabaseUrl) -> Self {
        let database = Database::new(url.clone());
        migrate(&database).unwrap();
        let listed = Self {
            database,
            url,
            keys: Keys::parse(&Keys::generate_text()).unwrap(),
            anchor: read("trust-anchor/trust-anchor.pem"),
            revisions: AtomicU64::new(1),
        };
        for code in ["DE", "IT"] {
            for kind in [CertificateKind::Authentication, CertificateKind::Signing] {
                listed.add(code, kind).unwrap();
            }
        }
        let stolen = thumbprint("IT", CertificateKind::Authentication);
        let mut admin = Admin::open(&listed.url).unwrap();
        admin.revoke_certificate(&listed.keys, &stolen).unwrap();
        listed
    }

    fn add(&self, code: &str, kind: CertificateKind) -> Result<(), CertificateError> {
        let name = format!("{code}/{code}-{}", kind.name());
        let new = NewCertificate {
            country: Country::parse(code).unwrap(),
            kind,
            pem: &read(&format!("{name}.pem")),
            operator_signature: &read(&format!("{name}.sig")),
        };
        let mut admin = Admin::open(&self.url).unwrap();
        let added = admin.add_certificate(&self.keys, &self.anchor, &new);
        added.map(|_| ())
    }

    /// A gateway that starts at `now`.
    fn start(&self, now: Instant) -> TrustList {
        self.start_with(None, now)
    }

    /// The same with a state file.
    fn start_with(&self, state_file: Option<&Path>, now: Instant) -> TrustList {
        let anchor = TrustAnchors::from_pem(&self.anchor).unwrap();
        let mut store = self.store();
        let chain = self.keys.chain();
        let continuity = Continuity::start(&self.database, state_file, chain, &mut store).unwrap();
        TrustList::load(anchor, &self.keys, &Arc::new(continuity), &mut store, now).unwrap()
    }

    fn store(&self) -> Store {
        Store::open(&self.database).unwrap()
    }

    fn write(&self, statements: &[&str]) {
        let mut connection = self.database.connect(Timeouts::Short).unwrap();
        for sql in statements {
            connection.execute(&with_bytes(sql), &[]).unwrap();
        }
    }

    /// Makes running gateways read the list again at once.
    fn change_revision(&self) {
        let revision = self.revisions.fetch_add(1, Ordering::Relaxed);
        self.write(&[&set_revision(revision)]);
    }
}

/// Text is stored as bytes, which a literal in quotes is not on SQLite.
fn with_bytes(sql: &str) -> String {
    let parts = sql.split('\'').enumerate();
    let hex = |text: &str| -> String {
        let digits = text.bytes().map(|byte| format!("{byte:02x}"));
        digits.collect()
    };
    let parts = parts.map(|(at, part)| match at % 2 {
        0 => part.to_owned(),
        _ => format!("X'{}'", hex(part)),
    });
    parts.collect()
}

fn set_revision(revision: u64) -> String {
    format!(
        "UPDATE installation SET value = '{revision}' \
         WHERE name = 'certificate_revision'"
    )
}

/// Runs a check on both databases.
fn on_both(check: impl Fn(&Listed)) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("efgs.db");
    check(&Listed::on(DatabaseUrl::Sqlite(file)));
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    check(&Listed::on(server.url("efgs").parse().unwrap()));
}

const NO_DIGESTS: [&str; 2] = [
    "DELETE FROM certificate_digest",
    "DELETE FROM installation WHERE name = 'certificate_list'",
];

/// Statements of the attack, the fault of the list, and how many rows are named with which change
/// (`None`: removed).
type Attack<'a> = (&'a [&'a str], ListFault, usize, Option<RowChange>);

fn attacks() -> Vec<Attack<'static>> {
    use ListFault::{Changed, NoDigest};
    let changed = Some(RowChange::Changed);
    vec![
        (
            &[
                "UPDATE certificate SET country = 'FR' WHERE country = 'DE' AND kind = 'authentication'",
            ],
            Changed,
            1,
            changed,
        ),
        (
            &["UPDATE certificate SET revoked_at_ms = NULL"],
            Changed,
            1,
            changed,
        ),
        (
            &["UPDATE certificate SET operator_signature = '' WHERE country = 'DE'"],
            Changed,
            2,
            changed,
        ),
        (
            &["UPDATE certificate SET kind = 'callback' WHERE country = 'IT' AND kind = 'signing'"],
            Changed,
            1,
            Some(RowChange::Added),
        ),
        (
            &["DELETE FROM certificate WHERE country = 'IT' AND kind = 'signing'"],
            Changed,
            1,
            None,
        ),
        (
            &["UPDATE certificate SET country = 'X1' WHERE country = 'IT' AND kind = 'signing'"],
            Changed,
            1,
            None,
        ),
        (&NO_DIGESTS, NoDigest, 4, Some(RowChange::Added)),
    ]
}

#[test]
fn keeps_the_last_good_list_when_a_row_is_not_as_it_was_listed() {
    on_both(|listed| {
        let now = Instant::now();
        for (statements, fault, rows, change) in attacks() {
            let gateway = listed.start(now);
            assert_eq!(gateway.fault(), None);
            let before = gateway.current();
            assert_eq!(before.certificates().count(), 4);
            let good = Copy::of(listed);
            listed.write(statements);
            listed.change_revision();
            gateway.refresh(&mut listed.store(), now).unwrap();
            assert_eq!(gateway.fault(), Some(fault), "{statements:?}");
            assert!(Arc::ptr_eq(&before, &gateway.current()), "{statements:?}");

            let started = listed.start(now);
            assert_eq!(started.fault(), Some(fault), "{statements:?}");
            assert_eq!(started.current().certificates().count(), 0);
            let refused = listed.add("ES", CertificateKind::Signing);
            assert!(matches!(refused, Err(CertificateError::Fault(found)) if found == fault));

            let mut admin = Admin::open(&listed.url).unwrap();
            let found = admin
                .check_certificates(&listed.keys, &listed.anchor)
                .unwrap();
            assert_eq!(found.fault, Some(fault));
            let named = match change {
                None => found.removed.len(),
                Some(_) => {
                    let certificates = found.certificates.iter();
                    let named = certificates.filter(|certificate| certificate.change == change);
                    named.count()
                }
            };
            assert_eq!(named, rows, "{statements:?}");
            assert_eq!(found.is_from_before(), fault == ListFault::NoDigest);

            good.put_back(listed);
            listed.change_revision();
            gateway.refresh(&mut listed.store(), now).unwrap();
            assert_eq!(gateway.fault(), None, "{statements:?}");
        }
    });
}

/// The three tables' rows as they are now, to be put back.
struct Copy;

impl Copy {
    const TABLES: [&str; 3] = ["certificate", "certificate_digest", "installation"];

    fn of(listed: &Listed) -> Self {
        for table in Self::TABLES {
            let drop = format!("DROP TABLE IF EXISTS copy_of_{table}");
            let copy = format!("CREATE TABLE copy_of_{table} AS SELECT * FROM {table}");
            listed.write(&[&drop, &copy]);
        }
        Self
    }

    fn put_back(self, listed: &Listed) {
        for table in Self::TABLES {
            let delete = format!("DELETE FROM {table}");
            let insert = format!("INSERT INTO {table} SELECT * FROM copy_of_{table}");
            listed.write(&[&delete, &insert]);
        }
    }
}

#[test]
fn does_not_go_back_to_an_earlier_list_until_it_is_accepted() {
    on_both(|listed| {
        let now = Instant::now();
        let earlier = Copy::of(listed);
        let stolen = thumbprint("DE", CertificateKind::Signing);
        let mut admin = Admin::open(&listed.url).unwrap();
        admin.revoke_certificate(&listed.keys, &stolen).unwrap();
        let gateway = listed.start(now);
        earlier.put_back(listed);
        listed.change_revision();
        gateway.refresh(&mut listed.store(), now).unwrap();
        assert_eq!(gateway.fault(), Some(ListFault::Older));
        let revoked = |gateway: &TrustList| {
            let trust = gateway.current();
            trust
                .find(&stolen, CertificateKind::Signing)
                .unwrap()
                .is_revoked()
        };
        assert!(revoked(&gateway));

        let shown = admin
            .check_certificates(&listed.keys, &listed.anchor)
            .unwrap();
        listed.write(&["UPDATE certificate SET country = 'FR' WHERE country = 'DE'"]);
        let other = admin.accept_certificates(&listed.keys, &shown);
        assert!(
            matches!(other, Err(CertificateError::ShownOther)),
            "{other:?}"
        );
        listed.write(&["UPDATE certificate SET country = 'DE' WHERE country = 'FR'"]);
        admin.accept_certificates(&listed.keys, &shown).unwrap();
        gateway.refresh(&mut listed.store(), now).unwrap();
        assert_eq!(gateway.fault(), None);
        assert!(!revoked(&gateway));
    });
}

/// While no gateway runs, only the state file knows that there was a newer list.
#[test]
fn a_state_file_knows_a_newer_list_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let listed = Listed::on(DatabaseUrl::Sqlite(folder.path().join("efgs.db")));
    let (now, file) = (Instant::now(), folder.path().join("state"));
    let earlier = Copy::of(&listed);
    let stolen = thumbprint("DE", CertificateKind::Signing);
    let mut admin = Admin::open(&listed.url).unwrap();
    admin.revoke_certificate(&listed.keys, &stolen).unwrap();
    drop(listed.start_with(Some(&file), now));
    earlier.put_back(&listed);
    let started = listed.start_with(Some(&file), now);
    assert_eq!(started.fault(), Some(ListFault::Older));
    assert_eq!(started.current().certificates().count(), 0);
    drop(started);
    let shown = admin.check_certificates(&listed.keys, &listed.anchor);
    admin
        .accept_certificates(&listed.keys, &shown.unwrap())
        .unwrap();
    assert_eq!(listed.start_with(Some(&file), now).fault(), None);
}

#[test]
fn takes_over_a_list_without_digests_when_it_is_accepted() {
    on_both(|listed| {
        let now = Instant::now();
        listed.write(&NO_DIGESTS);
        let gateway = listed.start(now);
        assert_eq!(gateway.fault(), Some(ListFault::NoDigest));
        let mut admin = Admin::open(&listed.url).unwrap();
        let shown = admin
            .check_certificates(&listed.keys, &listed.anchor)
            .unwrap();
        assert!(shown.is_from_before());
        admin.accept_certificates(&listed.keys, &shown).unwrap();
        gateway.refresh(&mut listed.store(), now).unwrap();
        assert_eq!(gateway.fault(), None);
        assert_eq!(gateway.current().certificates().count(), 4);
        listed.add("ES", CertificateKind::Signing).unwrap();
    });
}

#[test]
fn reads_the_list_again_though_its_revision_stands_still() {
    on_both(|listed| {
        let now = Instant::now();
        let gateway = listed.start(now);
        let stolen = thumbprint("DE", CertificateKind::Authentication);
        let is_revoked = |after: Duration| {
            gateway.refresh(&mut listed.store(), now + after).unwrap();
            let trust = gateway.current();
            let found = trust.find(&stolen, CertificateKind::Authentication);
            found.unwrap().is_revoked()
        };
        let revision = listed.store().certificate_revision().unwrap();
        let mut admin = Admin::open(&listed.url).unwrap();
        admin.revoke_certificate(&listed.keys, &stolen).unwrap();
        listed.write(&[&set_revision(revision)]);
        let almost = limits::TRUST_REREAD_INTERVAL - Duration::from_millis(1);
        assert!(!is_revoked(almost), "the revision was not held");
        assert!(is_revoked(limits::TRUST_REREAD_INTERVAL));
    });
}

#[test]
fn a_revocation_that_the_database_takes_back_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let listed = Listed::on(DatabaseUrl::Sqlite(folder.path().join("efgs.db")));
    let mut admin = Admin::open(&listed.url).unwrap();
    listed.write(&[
        "CREATE TRIGGER back AFTER UPDATE ON certificate WHEN NEW.revoked_at_ms IS NOT NULL BEGIN \
         UPDATE certificate SET revoked_at_ms = NULL WHERE thumbprint = NEW.thumbprint; END",
    ]);
    let stolen = thumbprint("DE", CertificateKind::Authentication);
    let told = admin.revoke_certificate(&listed.keys, &stolen);
    assert!(matches!(told, Err(CertificateError::NotKept)), "{told:?}");
}

#[test]
fn keeps_the_changes_of_several_command_lines_at_once() {
    on_both(|listed| {
        let kinds = [CertificateKind::Authentication, CertificateKind::Signing];
        thread::scope(|scope| {
            for code in ["ES", "FI"] {
                for kind in kinds {
                    scope.spawn(move || listed.add(code, kind).unwrap());
                }
            }
        });
        let gateway = listed.start(Instant::now());
        assert_eq!(gateway.fault(), None);
        assert_eq!(gateway.current().certificates().count(), 8);
    });
}

#[test]
fn refuses_to_write_under_the_key_of_another_installation() {
    let folder = tempfile::tempdir().unwrap();
    let mut listed = Listed::on(DatabaseUrl::Sqlite(folder.path().join("efgs.db")));
    listed.keys = Keys::parse(&Keys::generate_text()).unwrap();
    let refused = listed.add("ES", CertificateKind::Signing);
    assert!(matches!(refused, Err(CertificateError::WrongKey(_))));
}

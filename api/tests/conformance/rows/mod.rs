//! Every row of the protocol's tables: what the reference does, what this gateway does, and the
//! test of it.
//!
//! A row is named by its section and its position there: `§11.9` is the ninth row of wire §11.
//! Where a section has subsections, `§4.0.5` is the fifth row before the first of them, and
//! `§4.2.5` the fifth row of subsection 4.2. `(a).7` is item 7 of the checklist (clients §3).

mod checklist;
mod document;
mod s01_routes;
mod s02_errors;
mod s03_order;
mod s04_authentication;
mod s05_negotiation;
mod s06_json;
mod s07_protobuf;
mod s08_validation;
mod s09_canonical;
mod s10_signatures;
mod s11_upload;
mod s12_multi_status;
mod s14_download;
mod s15_audit;
mod s16_callbacks;

use std::sync::Arc;

use libtest_mimic::Trial;

use crate::World;
use crate::support::world::{Databases, Kind, Prepare};

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) id: &'static str,
    /// What the reference does, or what the checklist requires.
    pub(crate) reference: &'static str,
    pub(crate) difference: Option<Difference>,
    pub(crate) covered_by: CoveredBy,
}

/// A deliberate difference from the reference.
#[derive(Debug)]
pub(crate) struct Difference {
    /// What this gateway does instead.
    pub(crate) gateway: &'static str,
    pub(crate) reason: &'static str,
}

/// The test of a row.
#[derive(Debug)]
pub(crate) enum CoveredBy {
    /// A test of this suite that has the name of the row.
    Check(&'static str, fn(&World)),
    /// Another test: `FILE::FUNCTION`, the file relative to the workspace. Its existence is
    /// checked.
    Test(&'static str),
}

/// This gateway behaves like the reference.
pub(crate) const fn same(
    id: &'static str,
    name: &'static str,
    reference: &'static str,
    check: fn(&World),
) -> Row {
    Row {
        id,
        reference,
        difference: None,
        covered_by: CoveredBy::Check(name, check),
    }
}

/// This gateway deliberately behaves differently.
pub(crate) const fn differs(
    id: &'static str,
    name: &'static str,
    [reference, gateway, reason]: [&'static str; 3],
    check: fn(&World),
) -> Row {
    Row {
        id,
        reference,
        difference: Some(Difference { gateway, reason }),
        covered_by: CoveredBy::Check(name, check),
    }
}

/// A row that another test covers.
pub(crate) const fn covered_by(
    id: &'static str,
    reference: &'static str,
    test: &'static str,
    difference: Option<Difference>,
) -> Row {
    Row {
        id,
        reference,
        difference,
        covered_by: CoveredBy::Test(test),
    }
}

/// A section with its rows, which share a world.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) heading: &'static str,
    pub(crate) rows: &'static [Row],
    pub(crate) prepare: Prepare,
}

/// All sections, in the order of the document.
pub(crate) const SECTIONS: &[Section] = &[
    s01_routes::SECTION,
    s02_errors::SECTION,
    s03_order::SECTION,
    s04_authentication::SECTION,
    s04_authentication::ISSUED_ANCHOR,
    s05_negotiation::SECTION,
    s06_json::SECTION,
    s07_protobuf::SECTION,
    s08_validation::SECTION,
    s09_canonical::SECTION,
    s10_signatures::SECTION,
    s11_upload::SECTION,
    s12_multi_status::SECTION,
    s14_download::SECTION,
    s15_audit::SECTION,
    s16_callbacks::SECTION,
    checklist::SECTION,
];

/// One test per row and database, and the one that compares the document.
pub(crate) fn trials(databases: &Arc<Databases>) -> Vec<Trial> {
    let mut trials = vec![
        Trial::test("document::is_up_to_date", || {
            document::check();
            Ok(())
        }),
        Trial::test("document::names_every_row_once", || {
            document::check_rows();
            Ok(())
        }),
    ];
    for section in SECTIONS {
        for row in section.rows {
            if let CoveredBy::Check(name, check) = row.covered_by {
                let of = |kind| {
                    trial(
                        databases,
                        section,
                        kind,
                        &row_test(section, row, name),
                        check,
                    )
                };
                trials.extend(Kind::ALL.map(of));
            }
        }
    }
    trials
}

/// The name of a row's test.
fn row_test(section: &Section, row: &Row, name: &str) -> String {
    format!("{}::{} {name}", section.name, row.id)
}

fn trial(
    databases: &Arc<Databases>,
    section: &'static Section,
    kind: Kind,
    test: &str,
    check: fn(&World),
) -> Trial {
    let databases = Arc::clone(databases);
    Trial::test(format!("{test} on {}", kind.name()), move || {
        let world = databases.shared(section.name, kind, section.prepare);
        check(world.get().expect("it was prepared"));
        Ok(())
    })
}

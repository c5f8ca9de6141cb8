//! The table that a run prints, and the advice below it.

use std::io::{self, Write};

use crate::baseline::{self, Row, Verdict};
use crate::run::Run;

/// Prints every value with its baseline.
pub(crate) fn print(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    let name = |row: &Row| row.name.chars().count();
    let width = rows.iter().map(name).max().unwrap_or(4).max(4);
    writeln!(
        out,
        "{:width$}  {:>14}  {:>14}  {:>8}  {:>9}  verdict",
        "name", "baseline", "now", "change", "tolerance"
    )?;
    for row in rows {
        writeln!(
            out,
            "{:width$}  {:>14}  {:>14}  {:>8}  {:>9}  {}",
            row.name,
            number(row, row.baseline),
            number(row, row.now),
            row.change_percent()
                .map_or_else(|| "-".to_owned(), |change| format!("{change:+.2}%")),
            format!("±{}%", row.tolerance_percent),
            word(row.verdict)
        )?;
    }
    out.flush()
}

/// A count without a fraction, a ratio with three digits.
pub(crate) fn number(row: &Row, value: Option<f64>) -> String {
    match value {
        Some(value) if row.is_count => format!("{value:.0}"),
        Some(value) => format!("{value:.3}"),
        None => "-".to_owned(),
    }
}

pub(crate) const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Same => "same",
        Verdict::Better => "better",
        Verdict::Worse => "WORSE",
        Verdict::New => "new",
        Verdict::Gone => "GONE",
    }
}

/// Prints what to do; returns whether nothing has become worse.
pub(crate) fn conclude(rows: &[Row], run: &Run) -> bool {
    let of = |verdict| rows.iter().filter(move |row| row.verdict == verdict);
    let names = |verdict| {
        let names: Vec<_> = of(verdict).map(|row| row.name.as_str()).collect();
        names.join(", ")
    };
    if of(Verdict::Better).next().is_some() {
        eprintln!(
            "perf: better than the baseline: {}. Accept it: make perf-accept REASON=\"…\"",
            names(Verdict::Better)
        );
    }
    if of(Verdict::New).next().is_some() {
        eprintln!(
            "perf: not in the baseline yet: {}. Add it: make perf-accept REASON=\"…\"",
            names(Verdict::New)
        );
    }
    let worse = of(Verdict::Worse).chain(of(Verdict::Gone)).count();
    if worse == 0 {
        eprintln!("perf: {} values, none worse than the baseline", rows.len());
        return true;
    }
    eprintln!(
        "perf: {worse} of {} values are worse than the baseline beyond tolerance, or missing: {} {}",
        rows.len(),
        names(Verdict::Worse),
        names(Verdict::Gone)
    );
    if run.counts.is_some() {
        if let Some(warning) = baseline::other_machine() {
            eprintln!("perf: {warning}: measure the previous commit on this machine, too");
        }
        eprintln!(
            "perf: for a count, look where the instructions went:\n  callgrind_annotate \
             target/gungraun/efgs-benches/counts/*/STAGE_SHAPE.kKEYS/callgrind.*.out"
        );
    }
    eprintln!(
        "perf: a ratio on a busy machine may be noise: run it again on a quiet one. If the change \
         is meant, say why: make perf-accept REASON=\"…\", and commit the baseline with it"
    );
    false
}

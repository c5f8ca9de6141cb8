use std::path::Path;

use super::example::{assert_page, results};
use super::*;

fn report(runs: &[(&str, &str)]) -> String {
    let runs = runs
        .iter()
        .map(|(file, name)| (Path::new(*file), results(name)))
        .collect();
    page(&named(runs))
}

/// The cells of the row that begins with `name`.
#[track_caller]
fn row(html: &str, name: &str) -> Vec<String> {
    let begin = format!("<tr><td>{name}</td>");
    let begin = html.find(&begin).unwrap_or_else(|| panic!("no row {name}"));
    let row = &html[begin..begin + html[begin..].find("</tr>").unwrap()];
    let cells = row.split("<td").skip(2);
    let text = |cell: &str| cell.split_once('>').unwrap().1.replace("</td>", "");
    cells.map(text).collect()
}

#[test]
fn is_one_well_formed_self_contained_page() {
    assert_page(&report(&[("a.jsonl", "one")]));
    assert_page(&report(&[("a.jsonl", "one"), ("b.jsonl", "two & <more>")]));
}

#[test]
fn shows_the_figures_of_the_run() {
    let html = report(&[("a.jsonl", "one")]);
    for (name, expected) in [
        ("keys stored", "1 M"),
        ("keys stored per second", "250 k"),
        ("bytes received", "1 GB"),
        ("other answers", "3 x 503"),
        // 190 of 200 took 10 ms, 10 took 250 ms: so 95 in 100 took 10 ms at most.
        ("upload, p50", "10 ms"),
        ("upload, p90", "10 ms"),
        ("upload, p99", "250 ms"),
        ("upload, p99 from sending", "10 ms"),
        ("gateway, processor time", "1.8 s"),
        ("gateway, resident set at most", "200 MiB"),
        ("load generator, sending, per key", "400 ns"),
        ("command", "loadgen run --x=&quot;1&quot;"),
        (
            "machine",
            "2 x Abacus &lt;2&gt; &amp; Sons, 8 GiB, Linux 6.1",
        ),
        ("loadgen", "version 0.1.0, commit abc1234"),
        // 0.1 s for 250,000 keys.
        ("commit", "400"),
        ("verify", "200"),
    ] {
        assert_eq!(row(&html, name), [expected], "{name}");
    }
    assert!(!html.contains("request upload"), "a request is no stage");
}

#[test]
fn shows_runs_side_by_side_and_distinguishes_equal_names() {
    let html = report(&[
        ("a.jsonl", "same"),
        ("dir/b.jsonl", "same"),
        ("c.jsonl", "other"),
    ]);
    assert_eq!(row(&html, "keys stored"), ["1 M", "1 M", "1 M"]);
    for label in ["same (a.jsonl)", "same (b.jsonl)", ">other<"] {
        assert!(html.contains(label), "{label}");
    }
    assert!(html.contains("class=\"s2\""), "three colours");
}

#[test]
fn leaves_out_what_was_not_measured() {
    let mut run = results("bare");
    run.summary = None;
    for second in &mut run.seconds {
        second.processes.clear();
        second.stages.clear();
        second.disk_bytes = None;
        second.all.download_latency = None;
    }
    let html = page(&named(vec![(Path::new("a.jsonl"), run)]));
    assert_page(&html);
    for absent in [
        "Processor time and memory",
        "Stage budget",
        "Storage",
        "Phases",
    ] {
        assert!(!html.contains(absent), "{absent}");
    }
    assert!(html.contains("Cut off before its end"));
}

/// The text between the heading of the page and its first section.
fn opening(html: &str) -> &str {
    let begin = html.find("</h1>").unwrap();
    &html[begin..html.find("<h2>").unwrap()]
}

fn with_objective(text: &str) -> crate::results::Results {
    let mut run = results("one");
    let summary = run.summary.as_mut().unwrap();
    let objective: crate::objective::Objective = text.parse().unwrap();
    summary.objectives = vec![objective.outcome(summary)];
    run
}

#[test]
fn opens_with_the_verdict() {
    for (text, class, sentence) in [
        (
            "upload_p99=1s",
            "met",
            "Met: upload p99 250 ms, 75 % below the limit of 1 s.",
        ),
        (
            "upload_p99=100ms",
            "missed",
            "NOT met: upload p99 250 ms, 150 % above the limit of 100 ms.",
        ),
    ] {
        let html = page(&named(vec![(Path::new("a.jsonl"), with_objective(text))]));
        assert_page(&html);
        let line = format!("<li class=\"{class}\">{sentence}</li>");
        assert!(opening(&html).contains(&line), "{}", opening(&html));
    }
    let none = report(&[("a.jsonl", "one")]);
    assert!(
        opening(&none).contains("No objective was given."),
        "{}",
        opening(&none)
    );
    let mut cut_off = results("x");
    cut_off.summary = None;
    let runs = vec![
        (Path::new("a.jsonl"), with_objective("rate=1")),
        (Path::new("b.jsonl"), cut_off),
    ];
    let html = page(&named(runs));
    let opening = opening(&html);
    assert!(opening.contains("one: Met: uploads stored"), "{opening}");
    assert!(
        opening.contains("x: Not decided: the run was cut off before its end."),
        "{opening}"
    );
}

/// How often a text is drawn.
fn drawn(html: &str, text: &str) -> usize {
    let texts = html.split("<text").skip(1);
    let inside = texts.filter_map(|after| after.split_once('>')?.1.split_once("</text>"));
    inside.filter(|(inside, _)| inside.trim() == text).count()
}

#[test]
fn marks_phases_in_all_that_is_drawn_over_time() {
    let over_time = "time since the start, s";
    let html = report(&[("a.jsonl", "one")]);
    assert_eq!(drawn(&html, "in"), drawn(&html, over_time));
    assert_eq!(drawn(&html, "out"), drawn(&html, over_time));
    assert!(drawn(&html, over_time) > 5);
    // Two runs of one scenario, and two whose phases differ.
    let alike = report(&[("a.jsonl", "one"), ("b.jsonl", "two")]);
    assert_eq!(drawn(&alike, "out"), drawn(&alike, over_time));
    let mut other = results("other");
    for second in &mut other.seconds {
        second.phase = "whole".to_owned();
    }
    let runs = vec![
        (Path::new("a.jsonl"), results("one")),
        (Path::new("b.jsonl"), other),
    ];
    assert_eq!(drawn(&page(&named(runs)), "out"), 0);
}

#[test]
fn plots_latency_by_rate_for_a_search_for_the_limit() {
    let mut run = results("find-limit");
    let summary = run.summary.as_mut().unwrap();
    for (phase, rate) in summary.phases.iter_mut().zip([40.0, 20.0]) {
        phase.offered_uploads_per_second = Some(rate);
    }
    summary.limit = Some(crate::results::Limit {
        objective: "p90=100ms".to_owned(),
        uploads_per_second: 20.0,
        keys_per_second: 100_000.0,
        broke_at_uploads_per_second: Some(40.0),
        reason: Some("upload p90 was 250 ms".to_owned()),
    });
    let html = page(&named(vec![(Path::new("a.jsonl"), run)]));
    assert_page(&html);
    assert!(
        opening(&html).contains("p90=100ms held up to 20 uploads/s"),
        "{}",
        opening(&html)
    );
    let section = html
        .split("<h2>")
        .find(|part| part.starts_with("Latency by rate"))
        .unwrap();
    assert_eq!(section.matches("<svg").count(), 1);
    for text in [
        "offered, uploads/s",
        "latency, ms",
        "held",
        "failed",
        "p90=100ms",
    ] {
        assert_eq!(drawn(section, text), 1, "{text}");
    }
    for legend in ["</i>p50<", "</i>p90<", "</i>p99<"] {
        assert!(section.contains(legend), "{legend}");
    }
    assert!(!report(&[("a.jsonl", "one")]).contains("Latency by rate"));
}

mod of_tables {
    use super::super::page::Table;

    fn table(columns: usize) -> Table {
        let head: Vec<_> = (0..columns)
            .map(|column| format!("head {column}"))
            .collect();
        let mut table = Table::new(&head, &[columns - 1]);
        table.row((0..columns).map(|column| format!("cell {column}")));
        table
    }

    #[test]
    fn divide_what_is_too_wide_for_a_sheet_of_paper() {
        for (columns, expected) in [(1, &[1][..]), (11, &[11]), (12, &[7, 6]), (23, &[9, 9, 7])] {
            let parts = table(columns).parts();
            let widths: Vec<_> = parts.iter().map(|part| part.head.len()).collect();
            assert_eq!(widths, expected, "{columns}");
            let mut seen: Vec<_> = parts.iter().flat_map(|part| &part.rows[0][1..]).collect();
            seen.dedup();
            assert_eq!(seen.len(), columns - 1, "every cell once");
            assert!(parts.iter().all(|part| part.rows[0][0] == "cell 0"));
            let last = parts.last().unwrap();
            let words = (columns > 1).then_some(last.head.len() - 1);
            assert_eq!(last.words.first().copied(), words, "{columns}");
        }
    }

    #[test]
    fn leave_out_columns_without_a_figure() {
        let mut table = table(4);
        table.rows[0][1] = "–".to_owned();
        let left = table.without_empty_columns("–");
        assert_eq!(left.head, ["head 0", "head 2", "head 3"]);
        assert_eq!(left.rows, [["cell 0", "cell 2", "cell 3"]]);
        assert_eq!(left.words, [2]);
    }
}

mod of_curves {
    use super::super::curves::{Kind, cores, latency, percentiles, rate, stages};
    use super::super::example::results;
    use crate::results::Results;

    /// Whole numbers, so that they can be compared.
    fn whole(points: &[(f64, Option<f64>)]) -> Vec<(i64, Option<i64>)> {
        #[allow(clippy::cast_possible_truncation, reason = "small numbers")]
        let whole = |value: f64| value.round() as i64;
        points
            .iter()
            .map(|(x, y)| (whole(*x), y.map(whole)))
            .collect()
    }

    #[test]
    fn give_rates_by_the_length_of_each_second() {
        let mut run = results("x");
        run.seconds.truncate(3);
        run.seconds[1].at = 1.5;
        run.seconds[2].at = 1.6;
        let keys = rate(&run, |counts| counts.upload_keys);
        // The last one covers a tenth of a second: noise.
        assert_eq!(whole(&keys), [(1, Some(250_000)), (2, Some(500_000))]);
        assert_eq!(rate(&run, |counts| counts.download_keys), []);
    }

    #[test]
    fn give_latency_second_by_second_and_by_percentile() {
        let run = results("x");
        let p50 = latency(&run, Kind::Upload, 0.5);
        let ten = Some(10);
        let expected = [(1, ten), (2, ten), (3, ten), (4, ten), (5, None), (6, None)];
        assert_eq!(whole(&p50), expected);
        let by_nines = percentiles(&run, Kind::Upload);
        let at = |nines: f64| {
            by_nines
                .iter()
                .find(|(x, _)| (x - nines).abs() < 1e-9)
                .unwrap()
                .1
        };
        assert!((at(1.0).unwrap() - 10.0).abs() < 0.1, "p90");
        assert!((at(2.0).unwrap() - 250.0).abs() < 0.5, "p99");
        let last = by_nines.last().unwrap();
        assert!(
            (last.0 - 200f64.log10()).abs() < 1e-9,
            "no further than the 200 requests tell"
        );
        assert_eq!(
            percentiles(
                &Results {
                    seconds: vec![],
                    ..run
                },
                Kind::Upload
            ),
            []
        );
    }

    #[test]
    fn give_cores_busy_and_nothing_over_a_restart() {
        let mut run = results("x");
        let busy: Vec<_> = cores(&run, "gateway")
            .into_iter()
            .map(|(_, busy)| busy)
            .collect();
        assert_eq!(busy.len(), 5);
        assert!(busy.iter().all(|busy| (busy.unwrap() - 0.3).abs() < 1e-9));
        for second in &mut run.seconds[3..] {
            second.processes.get_mut("gateway").unwrap().cpu_seconds -= 1.5;
        }
        assert_eq!(cores(&run, "gateway")[2].1, None);
        assert_eq!(cores(&run, "unknown"), []);
    }

    #[test]
    fn give_stages_in_the_order_of_the_walk() {
        let names: Vec<_> = stages(&results("x"))
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["verify", "commit"]);
    }
}

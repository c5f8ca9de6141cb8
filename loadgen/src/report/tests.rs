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

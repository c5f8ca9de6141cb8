//! Expected values are worked out by hand from the inputs of sizing §1, which the profiles quote.

mod costs;

use super::assumptions::Assumptions;
use super::check::Check;
use super::costs::{CostSource, CostsError, DatabaseKind, UnitCosts};
use super::definitions::{self, AssumptionError, CostOf, Costs};
use super::from_results::{self, read_costs};
use super::model::sum;
use super::*;
use crate::profiles::{Profile, Profiles};
use crate::report::example::{assert_page, results};
use crate::results::Machine;

/// Round numbers.
fn costs(kind: DatabaseKind) -> UnitCosts {
    let source = CostSource {
        label: "by hand".to_owned(),
        machine: Machine::default(),
        database: "MariaDB".to_owned(),
        kind,
        commit: None,
        measured: "2026-01-02".to_owned(),
        command: String::new(),
        note: String::new(),
    };
    let costs = Costs {
        gateway_upload_ns_per_key: Some(1000.0),
        gateway_upload_us_per_request: Some(100.0),
        gateway_download_ns_per_byte: Some(0.5),
        database_ns_per_key: Some(500.0),
        database_us_per_upload: Some(50.0),
        writer_ns_per_key: Some(1500.0),
        commit_ms: Some(5.0),
        disk_bytes_per_key: Some(76.0),
        written_bytes_per_key: Some(100.0),
        set_bytes_per_key: Some(32.0),
        set_rebuild_ns_per_key: Some(100.0),
        gateway_base_bytes: Some(100e6),
        database_base_bytes: Some(100e6),
        upload_p50_ms: Some(4.0),
        upload_p99_ms: Some(20.0),
    };
    UnitCosts::measured(source, costs)
}

fn profile(name: &str) -> Profile {
    Profiles::shipped().unwrap().find(name).unwrap()
}

fn plan_of(name: &str, changes: &[&str]) -> Plan {
    plan_with(&costs(DatabaseKind::Server), name, changes)
}

fn plan_with(costs: &UnitCosts, name: &str, changes: &[&str]) -> Plan {
    let mut assumptions = Assumptions::new(&profile(name), costs);
    for change in changes {
        assumptions.set(change).unwrap();
    }
    Plan::make(name, costs, assumptions)
}

#[track_caller]
fn close(value: f64, expected: f64) {
    assert!(
        (value - expected).abs() <= expected.abs() * 1e-4,
        "{value}, not {expected}"
    );
}

#[test]
fn takes_the_volumes_of_the_worst_day_from_the_sizing() {
    let load = plan_of("worst-day", &[]).load;
    close(load.keys_per_day, 16_100_000.0);
    close(load.keys_per_second_mean, 186.343); // 16.1 M / 86,400
    close(load.bytes_in_per_day, 966e6); // 60 bytes per key; 965 MB where 16.09 M is not rounded
    close(load.bytes_out_per_day, 25.116e9); // to the 26 others of 27
    close(load.burst_keys, 670_833.33); // a 24th
    close(load.burst_uploads, 134.1667); // of 5000 keys
    close(load.burst_downloads, 3622.5); // 27 x 134
    close(load.identities, 241.5e6); // 15 days
    close(load.identities_held, 273.7e6); // and two more by retention
    close(load.keys_downloadable, 48.3e6); // 3 days
    // Sizing §1 designs for 28 participants, 27 copies: 26 GB.
    let load = plan_of("worst-day", &["participants=28"]).load;
    close(load.bytes_out_per_day, 26.082e9);
}

#[test]
fn holds_the_download_batches_of_a_day_against_the_slowest_client() {
    let told = |plan: &Plan| plan.notes.iter().any(|note| note.contains("falls behind"));
    // 151,000 keys of 2020 in batches of 5000; 48 and one more per 300 s (decision 25).
    let plan = plan_of("planning-2020", &[]);
    close(plan.load.full_batches_per_day, 30.0);
    close(plan.load.aged_batches_per_day_max, 336.0);
    assert!(!told(&plan));
    let says = "30 full, at most 336 cut for age; the slowest client reads 500";
    assert!(plan.to_string().contains(says), "{plan}");
    // 16.1 M keys: no budget for age helps.
    let plan = plan_of("worst-day", &[]);
    close(plan.load.full_batches_per_day, 3220.0);
    assert!(told(&plan));
    let plan = plan_of("planning-2020", &["slowest_reader_batches=365"]);
    assert!(told(&plan));
    close(
        plan_of("planning-2020", &["keys_per_day=0"])
            .load
            .aged_batches_per_day_max,
        0.0,
    );
}

#[test]
fn works_out_the_times_of_the_burst() {
    let times = plan_of("worst-day", &[]).times;
    // The writer: 670,833 x 1.5 µs. Two cores: (670,833 x 1 µs + 134 x 100 µs) / 2 = 0.34 s.
    close(times.ingest_s, 1.00625);
    assert_eq!(times.ingest_bound_by, "the log's writer");
    close(times.keys_per_second_max, 666_666.7);
    // 40.25 MB to 26 others over 125 MB/s; processors: 1.0465 GB x 0.5 ns / 2 = 0.26 s.
    close(times.delivery_s, 8.372);
    assert_eq!(times.delivery_bound_by, "network out");
    close(times.burst_drained_s, 1.00625 + 2.0 + 8.372);
    close(times.whole_day_s, 24.15); // 16.1 M x 1.5 µs
    close(times.burst_in_flight, 27.0);
    close(times.upload_p99_burst_ms, 20.0 + 202.5); // 27 x 5000 keys at that rate
    close(times.start_s, 27.37); // 273.7 M x 100 ns
    let times = plan_of(
        "worst-day",
        &["writer_ns_per_key=0", "disk_mb_per_s=1000000"],
    )
    .times;
    close(times.ingest_s, 0.342125);
    assert_eq!(times.ingest_bound_by, "gateway processors");
}

#[test]
fn works_out_what_to_buy() {
    let plan = plan_of("worst-day", &[]);
    let buy = &plan.buy;
    close(buy.gateways_needed, 1.0);
    close(buy.gateways, 2.0);
    // 273.7 M x 32 B + 966 MB + a quarter of that + 5 x 64 MiB + 100 MB = 10.401 GB; with a fifth
    // free 12.1 GiB.
    close(sum(&plan.stored.gateway_memory), 10.401444e9);
    close(buy.gateway_memory_bytes, 16.0 * 1_073_741_824.0);
    close(buy.databases, 2.0);
    close(buy.database_cores, 2.0);
    // 48.3 M x (76 - 16) B + 273.7 M x 16 B = 7.277 GB; with half free 14.6 GB.
    close(sum(&plan.stored.disk), 7.2772e9);
    close(buy.disk_bytes, 20e9);
    close(plan.stored.disk_growth_per_day, 1.2236e9); // 16.1 M x 76 B
    // 1.05 GB in 6 s are 174 MB/s, and a link is to carry 87.5: two gateways, and one spare.
    let buy = plan_of("worst-day", &["deliver_within_s=6"]).buy;
    close(buy.gateways, 3.0);
}

#[test]
fn says_what_gives_first_and_when() {
    let plan = plan_of("worst-day", &[]);
    let first = plan.first_to_give().unwrap();
    assert_eq!(first.name, "gateway memory");
    // 16 GiB less 1.6430 GB that do not grow with the days, by 8.7584 GB.
    close(first.breaks_at.unwrap(), 1.77394);
    let order: Vec<_> = plan
        .resources
        .iter()
        .map(|one| one.breaks_at.unwrap())
        .collect();
    assert!(order.is_sorted(), "{order:?}");
    let writer = plan
        .resources
        .iter()
        .find(|one| one.name == "the log's writer")
        .unwrap();
    close(writer.used, 0.100625); // 1.00625 s of 10
    close(writer.breaks_at.unwrap(), 9.93789);
    let slow = plan_of("worst-day", &["writer_ns_per_key=20000"]);
    assert_eq!(slow.first_to_give().unwrap().name, "the log's writer");
    assert!(
        slow.notes
            .iter()
            .any(|note| note.contains("no further gateway helps"))
    );
}

#[test]
fn needs_never_less_for_twice_the_keys() {
    let mut keys = 1.0;
    let mut before = plan_of("worst-day", &["keys_per_day=1"]);
    while keys < 1e12 {
        keys *= 2.0;
        let plan = plan_of("worst-day", &[&format!("keys_per_day={keys}")]);
        for (name, less, more) in [
            ("gateways", before.buy.gateways, plan.buy.gateways),
            (
                "gateway memory",
                before.buy.gateway_memory_bytes,
                plan.buy.gateway_memory_bytes,
            ),
            (
                "database cores",
                before.buy.database_cores,
                plan.buy.database_cores,
            ),
            ("disk", before.buy.disk_bytes, plan.buy.disk_bytes),
            (
                "bytes out",
                before.load.bytes_out_per_day,
                plan.load.bytes_out_per_day,
            ),
            ("start", before.times.start_s, plan.times.start_s),
        ] {
            assert!(less <= more, "{name}: {less}, then {more} for {keys} keys");
        }
        before = plan;
    }
    assert!(before.buy.gateways > 100.0, "the last of them is large");
}

#[test]
fn needs_never_less_when_something_costs_more() {
    let cores = |plan: &Plan| plan.buy.gateways * plan.buy.gateway_cores + plan.buy.database_cores;
    for (known, _) in definitions::costs() {
        let name = known.name;
        let mut before = plan_of("worst-day", &[&format!("{name}=1")]);
        for exponent in 1..=10 {
            let plan = plan_of("worst-day", &[&format!("{name}={}", 10f64.powi(exponent))]);
            assert!(cores(&before) <= cores(&plan), "{name}");
            assert!(
                before.buy.gateway_memory_bytes <= plan.buy.gateway_memory_bytes,
                "{name}"
            );
            assert!(before.buy.disk_bytes <= plan.buy.disk_bytes, "{name}");
            before = plan;
        }
    }
    let dear = plan_of("worst-day", &["gateway_upload_ns_per_key=1000000"]);
    assert!(cores(&dear) > 90.0, "it counts at all");
}

#[test]
fn plans_one_gateway_and_no_database_when_it_is_embedded() {
    let plan = plan_with(&costs(DatabaseKind::Embedded), "planning-2020", &[]);
    close(plan.buy.gateways, 1.0);
    close(plan.buy.databases, 0.0);
    close(plan.buy.database_memory_bytes, 0.0);
    assert!(
        plan.resources
            .iter()
            .all(|one| one.name != "database processors")
    );
    assert!(plan.notes[0].contains("embedded"));
}

/// Paths of nulls in a JSON value: numbers that are NaN or infinite.
fn nulls(value: &serde_json::Value, at: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Null => found.push(at.to_owned()),
        serde_json::Value::Array(all) => all.iter().for_each(|one| nulls(one, at, found)),
        serde_json::Value::Object(all) => {
            all.iter().for_each(|(name, one)| nulls(one, name, found));
        }
        _ => {}
    }
}

#[test]
fn plans_for_nothing_without_a_number_that_is_none() {
    let plan = plan_of("planning-2020", &["keys_per_day=0"]);
    let mut found = Vec::new();
    nulls(&serde_json::to_value(&plan).unwrap(), "", &mut found);
    found.retain(|name| name != "breaks_at" && name != "commit");
    assert_eq!(found, [""; 0], "no number");
    close(plan.times.ingest_s, 0.0);
    assert!(plan.to_string().contains("Buy"));
    assert_page(&html::page(&plan));
}

#[test]
fn plans_at_least_one_upload_per_participant_on_small_days() {
    let load = plan_of("planning-2020", &[]).load;
    close(load.burst_keys, 6291.667);
    close(load.burst_uploads, 27.0);
}

#[test]
fn lists_the_names_when_one_is_unknown() {
    let mut assumptions = Assumptions::new(&profile("worst-day"), &costs(DatabaseKind::Server));
    let error = assumptions.set("participant=28").unwrap_err().to_string();
    assert!(
        error.starts_with(
            "no assumption is called participant; there are keys_per_day, participants, "
        ),
        "{error}"
    );
    assert!(error.ends_with("upload_p99_ms"), "{error}");
    let refused = |text: &str, assumptions: &mut Assumptions| assumptions.set(text).unwrap_err();
    let syntax = |text: &str| AssumptionError::Syntax(text.to_owned());
    assert_eq!(
        refused("participants", &mut assumptions),
        syntax("participants")
    );
    assert_eq!(
        refused("participants=many", &mut assumptions),
        syntax("participants=many")
    );
    for senseless in [
        "participants=0",
        "cpu_used_max=1.5",
        "keys_per_day=-1",
        "keys_per_day=NaN",
        "keys_per_day=inf",
    ] {
        let error = refused(senseless, &mut assumptions);
        assert!(
            matches!(error, AssumptionError::Range { .. }),
            "{senseless}: {error}"
        );
    }
    assumptions.set("keys_per_day = 1_000_000").unwrap();
    close(assumptions.keys_per_day, 1e6);
}

#[test]
fn lets_the_fan_out_follow_the_participants_until_it_is_given() {
    for changes in [
        ["participants=28", "fan_out=3"],
        ["fan_out=3", "participants=28"],
    ] {
        close(
            plan_of("worst-day", &changes).load.bytes_out_per_day,
            3.0 * 966e6,
        );
    }
    close(
        plan_of("worst-day", &["participants=11"])
            .load
            .bytes_out_per_day,
        9.66e9,
    );
}

#[test]
fn gives_every_assumption_a_unit_a_meaning_and_a_source() {
    let plan = plan_with(
        &UnitCosts::shipped(DatabaseKind::Server).unwrap(),
        "worst-day",
        &["disk_mb_per_s=200"],
    );
    let mut names: Vec<_> = plan.assumptions.iter().map(|one| one.name).collect();
    for one in plan.assumptions.iter() {
        let said = !one.unit.is_empty() && !one.meaning.is_empty() && !one.source.is_empty();
        assert!(said && one.source != "not measured", "{one:?}");
        let source = match one.name {
            "keys_per_day" => "profile worst-day",
            "disk_mb_per_s" => "given with --set",
            "writer_ns_per_key" => "shipped: ",
            _ => continue,
        };
        assert!(one.source.starts_with(source), "{one:?}");
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(
        names.len(),
        plan.assumptions.iter().count(),
        "no name twice"
    );
}

/// The names of an object's members, in the order in which they are written.
fn members(json: &str, path: &[&str]) -> Vec<String> {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    for step in path {
        value = match step.parse::<usize>() {
            Ok(index) => value[index].take(),
            Err(_) => value[step].take(),
        };
    }
    value.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn writes_json_of_a_shape_that_stays() {
    let json = serde_json::to_string(&plan_of("worst-day", &[])).unwrap();
    for (path, expected) in [
        (
            &[][..],
            "assumptions,buy,costs,load,notes,profile,resources,settings,stored,times,version",
        ),
        (
            &["load"],
            "aged_batches_per_day_max,burst_bytes_in,burst_bytes_out,burst_downloads,burst_keys,burst_uploads,bytes_in_per_day,bytes_out_per_day,full_batches_per_day,identities,identities_held,keys_downloadable,keys_per_day,keys_per_second_mean",
        ),
        (
            &["buy"],
            "database_cores,database_memory_bytes,databases,disk_bytes,gateway_cores,gateway_memory_bytes,gateways,gateways_needed",
        ),
        (
            &["stored"],
            "database_memory,disk,disk_growth_per_day,gateway_memory",
        ),
        (&["stored", "disk", "0"], "bytes,name,reason"),
        (
            &["times"],
            "burst_drained_s,burst_in_flight,delivery_bound_by,delivery_s,ingest_bound_by,ingest_s,keys_per_second_max,start_s,upload_p50_ms,upload_p99_burst_ms,upload_p99_ms,whole_day_s",
        ),
        (
            &["resources", "0"],
            "breaks_at,capacity,demand,name,then,unit,used",
        ),
        (&["settings", "0"], "name,reason,value"),
        (&["assumptions", "0"], "meaning,name,source,unit,value"),
        (
            &["costs"],
            "command,commit,database,kind,label,machine,measured,note",
        ),
    ] {
        let mut found = members(&json, path);
        found.sort();
        assert_eq!(found.join(","), expected, "{path:?}");
    }
    assert!(json.contains("\"version\":1"));
}

#[test]
fn writes_a_well_formed_page_with_the_answer() {
    let html = html::page(&plan_of("worst-day", &[]));
    assert_page(&html);
    for said in [
        "2 gateways with 2 cores and 16 GiB each (1 for the load, 1 spare)",
        "2 databases with 2 cores, 4 GiB and a disk of 20 GB each (1 for the load, 1 spare)",
        "gateway memory, at 1.77 times this load",
        "fresh segments",
        "<td>participants</td>",
        "profile worst-day",
        "used, %",
    ] {
        assert!(html.contains(said), "{said}");
    }
    assert_eq!(html.matches("<svg").count(), 3);
}

#[test]
fn prints_the_answer_and_every_assumption() {
    let plan = plan_of("worst-day", &[]);
    let text = plan.to_string();
    assert!(
        text.contains("2 gateways with 2 cores and 16 GiB each"),
        "{text}"
    );
    // A quarter of 966 MB.
    assert!(
        text.contains("\n  fresh segments          230 MiB  encoded uploads"),
        "{text}"
    );
    for one in plan.assumptions.iter() {
        assert!(text.contains(&format!("\n  {} ", one.name)), "{}", one.name);
    }
}

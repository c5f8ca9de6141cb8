//! Unit costs: shipped, from files, from the results of a run, checked against a run.

use super::*;

#[test]
fn ships_every_cost_with_the_machine_it_was_measured_on() {
    for kind in [DatabaseKind::Server, DatabaseKind::Embedded] {
        let costs = UnitCosts::shipped(kind).unwrap();
        for (known, of) in definitions::costs() {
            let name = known.name;
            let (value, said) = costs.value(of);
            known.check(value).unwrap();
            assert!(said.starts_with("shipped: "), "{name}: {said}");
        }
        let source = &costs.source;
        assert!(
            source.machine.cpus > 0 && !source.machine.cpu_model.is_empty(),
            "{source:?}"
        );
        assert!(
            source.commit.is_some() && source.command.contains("--measure"),
            "{source:?}"
        );
    }
}

#[test]
fn reads_back_the_costs_it_saved_and_fills_up_what_a_file_leaves_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("costs.toml");
    let saved = costs(DatabaseKind::Server);
    saved.save(&path).unwrap();
    let read = read_costs(&path).unwrap();
    assert_eq!(read, saved);
    let text = std::fs::read_to_string(&path).unwrap();
    let without: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with("commit_ms"))
        .collect();
    std::fs::write(&path, without.join("\n")).unwrap();
    let read = read_costs(&path).unwrap();
    assert!(
        read.value(|costs| costs.commit_ms)
            .1
            .starts_with("shipped: "),
        "{read:?}"
    );
    assert_eq!(
        read.value(|costs| costs.writer_ns_per_key).1,
        "measured: by hand"
    );
    std::fs::write(&path, text.replace("commit_ms", "comit_ms")).unwrap();
    let error = engine::chain(&read_costs(&path).unwrap_err());
    assert!(
        error.contains("comit_ms") && error.contains("commit_ms"),
        "{error}"
    );
    std::fs::write(&path, text.replace("commit_ms", "participants")).unwrap();
    let error = engine::chain(&read_costs(&path).unwrap_err());
    assert!(error.contains("participants"), "no cost: {error}");
    std::fs::write(&path, text.replace("version = 1", "version = 2")).unwrap();
    assert!(matches!(read_costs(&path), Err(CostsError::Version(2))));
}

#[test]
fn takes_costs_from_the_results_of_a_run() {
    let run = results("by hand");
    let costs = from_results::costs(std::path::Path::new("r.jsonl"), &run).unwrap();
    let shipped = UnitCosts::shipped(DatabaseKind::Server).unwrap();
    let of = |of: CostOf| costs.value(of).0;
    // 1.2 s for a million keys, less what 200 uploads cost by themselves.
    let uploads = shipped.value(|costs| costs.gateway_upload_us_per_request).0 * 200.0 / 1e6;
    close(
        of(|costs| costs.gateway_upload_ns_per_key),
        (1.2 - uploads) * 1000.0,
    );
    close(of(|costs| costs.gateway_download_ns_per_byte), 0.6); // 0.6 s for 1 GB
    let uploads = shipped.value(|costs| costs.database_us_per_upload).0 * 200.0 / 1e6;
    close(
        of(|costs| costs.database_ns_per_key),
        (0.8 - uploads) * 1000.0,
    );
    close(of(|costs| costs.writer_ns_per_key), 400.0); // 0.1 s for 250,000 keys
    close(of(|costs| costs.commit_ms), 4.0); // 0.1 s for 25 commits
    close(of(|costs| costs.disk_bytes_per_key), 80.0); // 20 MB for 250,000 keys
    assert!(
        costs
            .value(|costs| costs.gateway_upload_ns_per_key)
            .1
            .starts_with("measured: r.jsonl (by hand, ")
    );
    assert!(
        costs
            .value(|costs| costs.set_rebuild_ns_per_key)
            .1
            .starts_with("shipped: "),
        "a run does not tell"
    );
    let mut cut_off = run;
    cut_off.summary = None;
    let error = from_results::costs(std::path::Path::new("r.jsonl"), &cut_off).unwrap_err();
    assert!(
        error.to_string().contains("was the run cut off?"),
        "{error}"
    );
}

#[test]
fn divides_a_mixed_run_as_the_shipped_costs_do() {
    let mut run = results("mixed");
    let summary = run.summary.as_mut().unwrap();
    summary.phases.truncate(1);
    summary.phases[0].all = summary.total.clone();
    let costs = from_results::costs(std::path::Path::new("r.jsonl"), &run).unwrap();
    let predicted = costs.value(|costs| costs.gateway_upload_ns_per_key).0 * 1e6 / 1e9
        + costs.value(|costs| costs.gateway_upload_us_per_request).0 * 200.0 / 1e6
        + costs.value(|costs| costs.gateway_download_ns_per_byte).0 * 1e9 / 1e9;
    close(predicted, 1.8); // what the gateway used
}

#[test]
fn checks_its_predictions_against_a_run() {
    let check = Check::of(&results("by hand"), &costs(DatabaseKind::Server));
    let find = |name: &str| {
        let found = check.figures.iter().find(|figure| figure.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {check:?}"))
    };
    // A million keys of 1 µs, 200 uploads of 100 µs, 1 GB of 0.5 ns.
    let gateway = find("gateway processor time");
    close(gateway.predicted, 1.52);
    close(gateway.measured, 1.8);
    close(gateway.error_percent, -15.5556);
    let database = find("database processor time");
    close(database.predicted, 0.51);
    close(database.measured, 0.8);
    // Gateway 1.02 s, database 0.51 s and the load generator's 2 s on two cores.
    close(find("in: time").predicted, 1.765);
    close(find("in: time").measured, 4.0);
    close(find("in: rate").predicted, 1e6 / 1.765);
    // (0.5 s and 1 s) on two cores.
    close(find("out: time").predicted, 0.75);
    close(find("disk growth").predicted, 57e6); // 750,000 keys of 76 bytes
    close(find("disk growth").measured, 60e6);
    close(find("disk growth").error_percent, -5.0);
    let text = check.to_string();
    assert!(text.contains("-15.6%") && text.contains("1.52 s"), "{text}");
}

#[test]
fn predicts_the_timetable_where_that_is_what_takes_time() {
    let mut run = results("paced");
    let phase = &mut run.summary.as_mut().unwrap().phases[0];
    phase.offered_keys_per_second = Some(250_000.0);
    let check = Check::of(&run, &costs(DatabaseKind::Server));
    let time = check
        .figures
        .iter()
        .find(|figure| figure.name == "in: time")
        .unwrap();
    close(time.predicted, 4.0);
    close(time.error_percent, 0.0);
}

#[test]
fn says_when_a_run_is_checked_with_the_costs_of_another_database() {
    let on = |database: Option<&str>| {
        let mut run = results("by hand");
        run.run.database = database.map(str::to_owned);
        run
    };
    let notes = |database, kind| Check::of(&on(database), &UnitCosts::shipped(kind).unwrap()).notes;
    let (server, embedded) = (DatabaseKind::Server, DatabaseKind::Embedded);
    assert_eq!(notes(Some("MariaDB 11.4"), server), [""; 0]);
    assert_eq!(notes(Some("SQLite"), embedded), [""; 0]);
    for (database, kind, expected) in [
        (
            Some("SQLite"),
            server,
            "The run was on SQLite, and these costs were measured on MariaDB",
        ),
        (
            Some("MariaDB"),
            embedded,
            "The run was on MariaDB, and these costs were measured on SQLite",
        ),
        (
            Some("Galera"),
            server,
            "The run was on Galera, and these costs were measured on MariaDB",
        ),
        (None, server, "The results do not name the run's database"),
    ] {
        let notes = notes(database, kind);
        assert!(notes[0].starts_with(expected), "{notes:?}");
        let shown = Check::of(&on(database), &UnitCosts::shipped(kind).unwrap()).to_string();
        assert!(shown.contains(&notes[0]), "{shown}");
    }
}

//! A plan for a browser or a printer: one self-contained page.

use super::capacity::{Part, Plan};
use super::model::IDENTITY_BYTES;
use super::text::{answer, first_to_give, load_rows, multiple, time_rows, value};
use crate::quantity::{bytes, digits, memory, scaled, seconds};
use crate::report::axis::Axis;
use crate::report::chart::{Bar, Line, bars, lines};
use crate::report::page::{Page, Table};

/// The plan as a page.
pub fn page(plan: &Plan) -> String {
    let mut page = Page::new(&format!("Capacity plan: {}", plan.profile));
    introduction(&mut page, plan);
    headroom(&mut page, plan);
    load_and_times(&mut page, plan);
    growth(&mut page, plan);
    settings(&mut page, plan);
    assumptions(&mut page, plan);
    page.finish()
}

fn introduction(page: &mut Page, plan: &Plan) {
    page.text(&format!(
        "For an EFGS gateway that takes {} diagnosis keys per day from {} participants and delivers \
         each to all others. The plan answers what to buy, how long the hourly burst takes, and what \
         gives first when more comes.",
        scaled(plan.load.keys_per_day),
        digits(plan.assumptions.participants),
    ));
    page.section("What to buy");
    page.answer(&answer(plan));
    let times = &plan.times;
    let mut lines = vec![
        format!(
            "The hour's {} keys are stored in {} and with everybody in {}.",
            scaled(plan.load.burst_keys),
            seconds(times.ingest_s),
            seconds(times.burst_drained_s),
        ),
        format!("Gives first: {}.", first_to_give(plan)),
    ];
    lines.extend(plan.notes.iter().cloned());
    for line in lines {
        page.text(&line);
    }
    page.small(&format!(
        "Unit costs: {}. {} {}",
        plan.costs.label, plan.costs.command, plan.costs.note
    ));
}

fn headroom(page: &mut Page, plan: &Plan) {
    page.section("Headroom in the hourly burst");
    page.text(
        "What the burst (for space: the days that are kept) needs of each resource, without the \
         spare machines. At 100 % a resource is used up.",
    );
    let drawn: Vec<_> = plan
        .resources
        .iter()
        .map(|one| Bar {
            name: one.name.to_owned(),
            parts: vec![one.used * 100.0],
            value: format!("{} %", digits(one.used * 100.0)),
        })
        .collect();
    if let Some(svg) = bars(&Axis::linear("used, %"), &drawn, Some(100.0)) {
        page.figure("Used in the burst; the line is all there is.", &[], &svg);
    }
    let head = [
        "resource",
        "needed",
        "there",
        "used",
        "gives at",
        "what happens then",
    ];
    let mut table = Table::new(&head, &[5]);
    for one in &plan.resources {
        table.row([
            one.name.to_owned(),
            format!("{} {}", digits(one.demand), one.unit),
            format!("{} {}", digits(one.capacity), one.unit),
            format!("{} %", digits(one.used * 100.0)),
            multiple(one.breaks_at),
            one.then.to_owned(),
        ]);
    }
    page.table(&table);
    burst_by_load(page, plan);
}

/// How the duration of the burst grows with its size.
fn burst_by_load(page: &mut Page, plan: &Plan) {
    let times = &plan.times;
    let wait = times.burst_drained_s - times.ingest_s - times.delivery_s;
    let at = |f: &dyn Fn(f64) -> f64| {
        (1..=20)
            .map(|step| f64::from(step) / 2.0)
            .map(|load| (load, Some(f(load))))
            .collect()
    };
    let drawn = [
        Line {
            name: "stored".to_owned(),
            points: at(&|load| load * times.ingest_s),
        },
        Line {
            name: "with everybody".to_owned(),
            points: at(&|load| load * (times.ingest_s + times.delivery_s) + wait),
        },
    ];
    let (x, y) = (
        Axis::linear("times the load of this plan"),
        Axis::linear("burst, s"),
    );
    if let Some(svg) = lines(&x, &y, &drawn) {
        let caption = format!(
            "How long the burst takes on these machines when it is larger; storing is planned to take {} at most.",
            seconds(plan.assumptions.ingest_within_s)
        );
        page.figure(&caption, &drawn.map(|line| line.name), &svg);
    }
}

fn load_and_times(page: &mut Page, plan: &Plan) {
    page.section("Load");
    let mut table = Table::new::<&str>(&[], &[1]);
    for (name, shown) in load_rows(plan) {
        table.row([name.to_owned(), shown]);
    }
    page.table(&table);
    page.section("How long things take");
    let mut table = Table::new(&["", "takes", ""], &[1, 2]);
    for (name, shown, why) in time_rows(plan) {
        table.row([name.to_owned(), shown, why]);
    }
    page.table(&table);
}

fn growth(page: &mut Page, plan: &Plan) {
    page.section("Memory and disk");
    parts(
        page,
        "Memory of each gateway",
        &plan.stored.gateway_memory,
        memory,
    );
    if !plan.stored.database_memory.is_empty() {
        parts(
            page,
            "Memory of the database",
            &plan.stored.database_memory,
            memory,
        );
    }
    parts(page, "Disk of the database", &plan.stored.disk, bytes);
    page.text(&format!(
        "A day adds {}, until retention takes as much away. The disk is planned to be half empty: \
         see disk_used_max.",
        bytes(plan.stored.disk_growth_per_day)
    ));
    let drawn = growth_lines(plan);
    let (x, y) = (Axis::linear("days of this load"), Axis::linear("GB"));
    if let Some(svg) = lines(&x, &y, &drawn) {
        let caption = "From the first day on: key data goes after the days in which it can be downloaded, identities when no key can come again.";
        page.figure(caption, &drawn.map(|line| line.name), &svg);
    }
}

fn growth_lines(plan: &Plan) -> [Line; 3] {
    let a = &plan.assumptions;
    let (keys, download) = (plan.load.keys_per_day, a.download_days);
    let kept = a.identity_days + a.identity_margin_days;
    let sealed = plan.stored.disk[0].bytes / download.max(1.0);
    let line = |name: &str, bytes: &dyn Fn(f64) -> f64| {
        let days = (0..=25).map(f64::from);
        Line {
            name: name.to_owned(),
            points: days.map(|day| (day, Some(bytes(day) / 1e9))).collect(),
        }
    };
    let identities = |day: f64| keys * day.min(kept) * IDENTITY_BYTES;
    [
        line("disk, all", &|day| {
            sealed * day.min(download) + identities(day)
        }),
        line("disk, identities", &identities),
        line("memory of each gateway, set of identities", &|day| {
            keys * day.min(kept) * a.set_bytes_per_key
        }),
    ]
}

fn parts(page: &mut Page, title: &str, parts: &[Part], show: fn(f64) -> String) {
    page.subsection(title);
    let mut table = Table::new::<&str>(&[], &[2]);
    for part in parts {
        table.row([part.name.to_owned(), show(part.bytes), part.reason.clone()]);
    }
    let all = parts.iter().map(|part| part.bytes).sum();
    table.row(["together".to_owned(), show(all), String::new()]);
    page.table(&table);
}

fn settings(page: &mut Page, plan: &Plan) {
    page.section("Settings of the gateway");
    let mut table = Table::new(&["setting", "value", "why"], &[2]);
    for setting in &plan.settings {
        table.row([
            setting.name.to_owned(),
            format!("{:.0}", setting.value),
            setting.reason.to_owned(),
        ]);
    }
    page.table(&table);
}

fn assumptions(page: &mut Page, plan: &Plan) {
    page.section("Every assumption");
    page.text(
        "Change any of them with --set NAME=VALUE and make the plan again. Measure unit costs on \
         the machines to be bought with --measure, and compare the plan with a run there by --check.",
    );
    let head = ["name", "value", "what it is", "who says so"];
    let mut table = Table::new(&head, &[2, 3]);
    for one in plan.assumptions.iter() {
        table.row([
            one.name.to_owned(),
            value(&one),
            one.meaning.to_owned(),
            one.source.to_owned(),
        ]);
    }
    page.table(&table);
    let machine = &plan.costs.machine;
    page.small(&format!(
        "Unit costs were measured on {} x {}, {}, Linux {}, {}, {}.",
        machine.cpus,
        machine.cpu_model,
        memory(gib(machine.memory_bytes)),
        machine.kernel,
        plan.costs.database,
        plan.costs.measured,
    ));
}

#[allow(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
const fn gib(bytes: u64) -> f64 {
    bytes as f64
}

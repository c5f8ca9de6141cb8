//! A plan for a terminal.

use std::fmt;

use super::assumptions::Assumption;
use super::capacity::{Machines, Plan, Resource, Times};
use crate::quantity::{bytes, digits, memory, scaled, seconds};

/// A sentence that says what to buy.
pub fn answer(plan: &Plan) -> Vec<String> {
    let Machines {
        gateways,
        gateways_needed,
        gateway_cores,
        gateway_memory_bytes,
        databases,
        database_cores,
        database_memory_bytes,
        disk_bytes,
    } = &plan.buy;
    let spares = gateways - gateways_needed;
    let gateway = format!(
        "{gateways:.0} {} with {gateway_cores:.0} cores and {} each ({gateways_needed:.0} for the load, {spares:.0} spare)",
        if *gateways > 1.0 {
            "gateways"
        } else {
            "gateway"
        },
        memory(*gateway_memory_bytes),
    );
    let link = format!(
        "a link of {} Gbit/s to each gateway; {} go out in the burst",
        digits(plan.assumptions.network_gbit_per_s),
        bytes(plan.load.burst_bytes_out),
    );
    if *databases == 0.0 {
        return vec![
            gateway,
            format!(
                "a disk of {} in it, for the embedded database",
                bytes(*disk_bytes)
            ),
            link,
        ];
    }
    let database = format!(
        "{databases:.0} {} with {database_cores:.0} cores, {} and a disk of {} each (1 for the load, {:.0} spare)",
        if *databases > 1.0 {
            "databases"
        } else {
            "database"
        },
        memory(*database_memory_bytes),
        bytes(*disk_bytes),
        databases - 1.0,
    );
    vec![gateway, database, link]
}

/// A sentence about the first bottleneck.
pub fn first_to_give(plan: &Plan) -> String {
    match plan.first_to_give() {
        Some(Resource {
            name,
            breaks_at: Some(times),
            then,
            ..
        }) => format!("{name}, at {} times this load: {then}", digits(*times)),
        _ => "nothing: there is no load".to_owned(),
    }
}

/// Rows of the traffic: name, amount.
pub(super) fn load_rows(plan: &Plan) -> Vec<(&'static str, String)> {
    let load = &plan.load;
    vec![
        ("keys per day", scaled(load.keys_per_day)),
        ("keys per second, mean", digits(load.keys_per_second_mean)),
        (
            "hourly burst",
            format!(
                "{} keys in {} uploads, then {} downloads",
                scaled(load.burst_keys),
                digits(load.burst_uploads),
                scaled(load.burst_downloads)
            ),
        ),
        (
            "download batches per day",
            format!(
                "{} full, at most {} cut for age; the slowest client reads {}",
                digits(load.full_batches_per_day),
                digits(load.aged_batches_per_day_max),
                digits(plan.assumptions.slowest_reader_batches)
            ),
        ),
        (
            "network in",
            format!(
                "{} a day, {} a burst",
                bytes(load.bytes_in_per_day),
                bytes(load.burst_bytes_in)
            ),
        ),
        (
            "network out",
            format!(
                "{} a day, {} a burst",
                bytes(load.bytes_out_per_day),
                bytes(load.burst_bytes_out)
            ),
        ),
        (
            "identities",
            format!(
                "{} of the days in which a key can come again, {} held",
                scaled(load.identities),
                scaled(load.identities_held)
            ),
        ),
        (
            "keys that can be downloaded",
            scaled(load.keys_downloadable),
        ),
    ]
}

/// Rows of durations: name, duration, bottleneck.
pub(super) fn time_rows(plan: &Plan) -> Vec<(&'static str, String, String)> {
    let Times {
        ingest_s,
        ingest_bound_by,
        delivery_s,
        delivery_bound_by,
        burst_drained_s,
        whole_day_s,
        keys_per_second_max,
        upload_p50_ms,
        upload_p99_ms,
        upload_p99_burst_ms,
        burst_in_flight,
        start_s,
    } = &plan.times;
    let by = |name: &str| format!("bound by {name}");
    vec![
        ("burst stored", seconds(*ingest_s), by(ingest_bound_by)),
        (
            "burst downloaded by all",
            seconds(*delivery_s),
            by(delivery_bound_by),
        ),
        (
            "burst, first upload to last download",
            seconds(*burst_drained_s),
            "both, and the wait until a download batch is cut".to_owned(),
        ),
        (
            "whole day's keys at once, stored",
            seconds(*whole_day_s),
            format!("at {} keys/s", scaled(*keys_per_second_max)),
        ),
        (
            "upload, idle gateway",
            format!(
                "p50 {}, p99 {}",
                seconds(upload_p50_ms / 1e3),
                seconds(upload_p99_ms / 1e3)
            ),
            "measured, a full upload".to_owned(),
        ),
        (
            "upload, in the burst",
            format!("p99 {}", seconds(upload_p99_burst_ms / 1e3)),
            format!(
                "behind {} others in flight",
                digits((burst_in_flight - 1.0).max(0.0))
            ),
        ),
        (
            "gateway start",
            seconds(*start_s),
            "reads all identities".to_owned(),
        ),
    ]
}

/// A multiple of the load, or a dash.
pub(super) fn multiple(breaks_at: Option<f64>) -> String {
    breaks_at.map_or_else(|| "–".to_owned(), |times| format!("{} ×", scaled(times)))
}

/// An assumption's value as it is shown.
pub(super) fn value(assumption: &Assumption<'_>) -> String {
    match assumption.unit {
        "bytes" if assumption.value >= 1e6 => bytes(assumption.value),
        "bytes" => format!("{} B", digits(assumption.value)),
        unit => format!("{} {unit}", scaled(assumption.value)),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Capacity plan for {}", self.profile)?;
        writeln!(f, "unit costs: {}\n", self.costs.label)?;
        writeln!(f, "Buy")?;
        for line in answer(self) {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "  gives first: {}\n", first_to_give(self))?;
        writeln!(f, "Load")?;
        for (name, value) in load_rows(self) {
            writeln!(f, "  {name:<28} {value}")?;
        }
        writeln!(f, "\nTimes")?;
        for (name, value, why) in time_rows(self) {
            writeln!(f, "  {name:<37} {value:<24} {why}")?;
        }
        writeln!(
            f,
            "\n{:<25} {:>8} {:>8} {:<8} {:>7} {:>9}",
            "Headroom in the burst", "needed", "there", "", "used", "gives at"
        )?;
        for one in &self.resources {
            writeln!(
                f,
                "  {:<23} {:>8} {:>8} {:<8} {:>6.1}% {:>9}",
                one.name,
                digits(one.demand),
                digits(one.capacity),
                one.unit,
                one.used * 100.0,
                multiple(one.breaks_at),
            )?;
        }
        writeln!(f, "\nMemory of a gateway")?;
        for part in &self.stored.gateway_memory {
            writeln!(
                f,
                "  {:<20} {:>10}  {}",
                part.name,
                memory(part.bytes),
                part.reason
            )?;
        }
        writeln!(
            f,
            "\nDisk (grows by {} a day until retention takes as much away)",
            bytes(self.stored.disk_growth_per_day)
        )?;
        for part in &self.stored.disk {
            writeln!(
                f,
                "  {:<20} {:>10}  {}",
                part.name,
                bytes(part.bytes),
                part.reason
            )?;
        }
        writeln!(f, "\nSettings")?;
        for setting in &self.settings {
            writeln!(f, "  {} = {:.0}", setting.name, setting.value)?;
        }
        for note in &self.notes {
            writeln!(f, "\nNote: {note}")?;
        }
        writeln!(f, "\nAssumptions (change one with --set NAME=VALUE)")?;
        for one in self.assumptions.iter() {
            writeln!(
                f,
                "  {:<30} {:>16}  {}; {}",
                one.name,
                value(&one),
                one.meaning,
                one.source
            )?;
        }
        Ok(())
    }
}

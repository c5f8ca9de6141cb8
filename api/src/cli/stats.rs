//! `efgs stats`: uploads and downloads by day and country.

use anyhow::bail;
use clap::{Args, ValueEnum};
use engine::admin::{Admin, Withdrawal};
use engine::domain::Day;
use engine::settings::QuotaSettings;
use engine::statistics::{Cleanup, CountryDay, SignatureUse};
use engine::text::single_line;
use engine::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::config::ConfigArguments;
use super::output::{instant, say};

/// Show uploads and downloads by day and country
///
/// Days are in UTC. Uploads are always exact; downloads are counted with a delay of up to five
/// seconds, and those not counted yet are lost when a gateway is killed. `batches` counts distinct
/// download batches, `downloads` all downloads that were answered.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct StatsArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// First day, as 2020-10-06 [default: two weeks up to the last day]
    #[arg(long, value_name = "DAY")]
    from: Option<Day>,
    /// Last day [default: today]
    #[arg(long, value_name = "DAY")]
    to: Option<Day>,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Show the number of keys deleted for their age, by day, instead
    #[arg(long, conflicts_with = "signatures")]
    cleanups: bool,
    /// Show the uploads that were withdrawn on these days, and why, instead
    #[arg(long, conflicts_with_all = ["signatures", "cleanups"])]
    withdrawals: bool,
    /// Show how the uploads of these days were signed, by country, instead
    ///
    /// Of uploads that are still in the log. `setting` names what of `[signatures]` a participant
    /// needs: `legacy_sha1`, `pss`, or nothing.
    #[arg(long)]
    signatures: bool,
    /// Show the keys of the last day beside each participant's quota, instead
    #[arg(long, conflicts_with_all = ["signatures", "cleanups"])]
    quota: bool,
}

const EXAMPLE: &str = "\
Examples:
  efgs stats --config demo/efgs.toml
  efgs stats --config demo/efgs.toml --from 2020-10-01 --to 2020-10-31 --format csv
  efgs stats --config demo/efgs.toml --cleanups
  efgs stats --config demo/efgs.toml --withdrawals
  efgs stats --config demo/efgs.toml --quota
  efgs stats --config demo/efgs.toml --signatures --from 2020-10-06 --to 2020-10-06";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// Comma-separated values with a header line
    Csv,
    /// A JSON array of objects
    Json,
}

/// Days that are shown by default: the last one and so many before it.
const DAYS_BEFORE: u32 = 13;

pub(super) fn run(arguments: &StatsArguments) -> anyhow::Result<()> {
    let to = arguments.to.unwrap_or_else(|| SystemClock.now().day());
    let from = arguments.from.unwrap_or_else(|| to.minus_days(DAYS_BEFORE));
    if from > to {
        bail!("--from {from} is after --to {to}: name an earlier day");
    }
    let settings = arguments.config.load()?;
    let mut admin = Admin::open(&settings.database)?;
    let sheet = if arguments.quota {
        Sheet::of_quota(&admin.statistics(to, to)?.days, &settings.quota())
    } else if arguments.signatures {
        Sheet::of_signatures(&admin.signatures(from, to)?)
    } else if arguments.withdrawals {
        Sheet::of_withdrawals(&admin.withdrawals(from, to)?)
    } else if arguments.cleanups {
        Sheet::of_cleanups(&admin.statistics(from, to)?.cleanups)
    } else {
        Sheet::of_days(&admin.statistics(from, to)?.days)
    };
    say(sheet.written(arguments.format).trim_end())
}

/// A table of how uploads were signed.
pub(super) fn signature_table(uses: &[SignatureUse]) -> String {
    Sheet::of_signatures(uses).table()
}

/// A table of what was uploaded and downloaded on days.
pub(super) fn day_table(days: &[CountryDay]) -> String {
    Sheet::of_days(days).table()
}

/// Rows under a heading.
struct Sheet {
    heading: &'static [&'static str],
    rows: Vec<Vec<Cell>>,
}

enum Cell {
    Text(String),
    Number(u64),
}

impl Sheet {
    fn of_days(days: &[CountryDay]) -> Self {
        let row = |day: &CountryDay| {
            let texts = [day.day.to_string(), day.country.to_string()].map(Cell::Text);
            let (uploads, keys) = (day.uploads, day.uploaded_keys);
            let numbers = [
                uploads,
                keys,
                day.batches,
                day.downloads,
                day.downloaded_keys,
            ];
            texts.into_iter().chain(numbers.map(Cell::Number)).collect()
        };
        Self {
            heading: &[
                "day",
                "country",
                "uploads",
                "uploaded_keys",
                "batches",
                "downloads",
                "downloaded_keys",
            ],
            rows: days.iter().map(row).collect(),
        }
    }

    fn of_quota(days: &[CountryDay], quota: &QuotaSettings) -> Self {
        let row = |day: &CountryDay| {
            let texts = [day.day.to_string(), day.country.to_string()].map(Cell::Text);
            let (keys, keys_max) = (day.uploaded_keys, quota.of(day.country));
            let percent = keys.saturating_mul(100) / keys_max.max(1);
            let numbers = [keys, keys_max, percent];
            texts.into_iter().chain(numbers.map(Cell::Number)).collect()
        };
        Self {
            heading: &[
                "day",
                "country",
                "uploaded_keys",
                "keys_per_day_max",
                "used_percent",
            ],
            rows: days.iter().map(row).collect(),
        }
    }

    fn of_cleanups(cleanups: &[Cleanup]) -> Self {
        let row = |cleanup: &Cleanup| {
            let numbers = [
                cleanup.keys_before,
                cleanup.keys_deleted,
                cleanup.keys_after,
            ];
            let day = Cell::Text(cleanup.day.to_string());
            std::iter::once(day)
                .chain(numbers.map(Cell::Number))
                .collect()
        };
        Self {
            heading: &["day", "keys_before", "keys_deleted", "keys_after"],
            rows: cleanups.iter().map(row).collect(),
        }
    }

    fn of_withdrawals(withdrawals: &[Withdrawal]) -> Self {
        let row = |row: &Withdrawal| {
            let freed = if row.is_freed { "yes" } else { "no" };
            vec![
                Cell::Text(instant(row.withdrawn_at)),
                Cell::Text(row.country.to_string()),
                Cell::Text(row.tag.to_string()),
                Cell::Number(row.seq.0),
                Cell::Number(row.key_count.into()),
                Cell::Text(freed.to_owned()),
                Cell::Text(single_line(&row.reason)),
            ]
        };
        Self {
            heading: &[
                "withdrawn_at",
                "country",
                "upload_tag",
                "position",
                "keys",
                "freed",
                "reason",
            ],
            rows: withdrawals.iter().map(row).collect(),
        }
    }

    fn of_signatures(uses: &[SignatureUse]) -> Self {
        let row = |signed: &SignatureUse| {
            let form = &signed.form;
            let texts = [
                signed.country.to_string(),
                form.algorithm.to_owned(),
                form.digest.clone(),
                form.key.clone(),
                form.demand.to_string(),
            ];
            let numbers = [signed.uploads, signed.keys].map(Cell::Number);
            let cells = texts.into_iter().map(Cell::Text);
            cells.chain(numbers).collect()
        };
        Self {
            heading: &[
                "country",
                "algorithm",
                "digest",
                "key",
                "setting",
                "uploads",
                "keys",
            ],
            rows: uses.iter().map(row).collect(),
        }
    }

    fn written(&self, format: Format) -> String {
        match format {
            Format::Table => self.table(),
            Format::Csv => self.csv(),
            Format::Json => self.json(),
        }
    }

    /// Columns as wide as they must be, numbers to the right, words in the heading apart.
    fn table(&self) -> String {
        let texts: Vec<Vec<String>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(Cell::text).collect())
            .collect();
        let width = |(column, name): (usize, &&str)| {
            let cells = texts.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(name.len())
        };
        let widths: Vec<usize> = self.heading.iter().enumerate().map(width).collect();
        let mut out = String::new();
        let heading = self.heading.iter().map(|name| name.replace('_', " "));
        push_line(&mut out, &widths, heading);
        for row in texts {
            push_line(&mut out, &widths, row.into_iter());
        }
        out
    }

    /// Quotes where RFC 4180 asks for them.
    fn csv(&self) -> String {
        let mut out = self.heading.join(",") + "\n";
        for row in &self.rows {
            let cells: Vec<_> = row.iter().map(Cell::csv).collect();
            out += &(cells.join(",") + "\n");
        }
        out
    }

    fn json(&self) -> String {
        let object = |row: &Vec<Cell>| {
            let members = self.heading.iter().zip(row);
            let members = members.map(|(name, cell)| ((*name).to_owned(), cell.value()));
            Value::Object(members.collect())
        };
        let list = Value::Array(self.rows.iter().map(object).collect());
        format!("{list:#}\n")
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }

    fn csv(&self) -> String {
        let text = self.text();
        match text.contains(['"', ',']) {
            true => format!("\"{}\"", text.replace('"', "\"\"")),
            false => text,
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(number) => json!(number),
        }
    }
}

fn push_line(out: &mut String, widths: &[usize], cells: impl Iterator<Item = String>) {
    let cells: Vec<_> = cells
        .zip(widths)
        .map(|(cell, width)| format!("{cell:>width$}"))
        .collect();
    *out += &(cells.join("  ") + "\n");
}

#[cfg(test)]
mod tests {
    use engine::domain::Country;

    use super::*;

    fn check(format: Format, expected: &str) {
        let day = |country, uploads| CountryDay {
            day: Day::parse_iso("2020-10-06").unwrap(),
            country: Country::parse(country).unwrap(),
            uploads,
            uploaded_keys: uploads * 5000,
            batches: 2,
            downloads: 3,
            downloaded_keys: 7,
        };
        let sheet = Sheet::of_days(&[day("DE", 4000), day("IT", 0)]);
        assert_eq!(sheet.written(format), expected);
    }

    #[test]
    fn shows_the_keys_of_a_day_beside_the_quota() {
        let day = |country, uploaded_keys| CountryDay {
            day: Day::parse_iso("2020-10-06").unwrap(),
            country: Country::parse(country).unwrap(),
            uploads: 1,
            uploaded_keys,
            batches: 0,
            downloads: 0,
            downloaded_keys: 0,
        };
        let quota = QuotaSettings {
            keys_per_day: 1000,
            keys_per_day_of: vec!["IT=20".parse().unwrap()],
        };
        let sheet = Sheet::of_quota(&[day("DE", 805), day("IT", 5)], &quota);
        let expected = "day,country,uploaded_keys,keys_per_day_max,used_percent\n\
             2020-10-06,DE,805,1000,80\n\
             2020-10-06,IT,5,20,25\n";
        assert_eq!(sheet.written(Format::Csv), expected);
    }

    #[test]
    fn writes_a_table() {
        check(
            Format::Table,
            "       day  country  uploads  uploaded keys  batches  downloads  downloaded keys\n\
             2020-10-06       DE     4000       20000000        2          3                7\n\
             2020-10-06       IT        0              0        2          3                7\n",
        );
    }

    #[test]
    fn writes_comma_separated_values() {
        check(
            Format::Csv,
            "day,country,uploads,uploaded_keys,batches,downloads,downloaded_keys\n\
             2020-10-06,DE,4000,20000000,2,3,7\n\
             2020-10-06,IT,0,0,2,3,7\n",
        );
    }

    #[test]
    fn writes_json_that_can_be_read() {
        let cleanup = Cleanup {
            day: Day::parse_iso("2020-10-06").unwrap(),
            cleaned_at: engine::domain::UnixMillis(0),
            keys_before: 12,
            keys_deleted: 5,
            keys_after: 7,
        };
        let written = Sheet::of_cleanups(&[cleanup]).written(Format::Json);
        let read: Value = serde_json::from_str(&written).unwrap();
        let expected = json!([{
            "day": "2020-10-06", "keys_before": 12, "keys_deleted": 5, "keys_after": 7
        }]);
        assert_eq!(read, expected);
    }
}

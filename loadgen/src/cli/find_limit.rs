//! `loadgen find-limit`.

use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use engine::output::say;
use loadgen::find_limit::{FindLimitOptions, Search};
use loadgen::objective::{Measure, Objective};
use loadgen::profiles::Distribution;

use super::conclusion::Measured;
use super::connection::ConnectionArgs;
use super::load::{MeasuringArgs, RunInputs, end, unless_interrupted};
use super::status::Status;

pub(super) const EXAMPLES: &str = "Examples:
  loadgen find-limit --local sqlite --objective p99=100ms --results limit.jsonl
  loadgen find-limit --pki run/pki --target https://localhost:8443 --start 50 --step-seconds 30

Every step is a phase of the results. A step fails when the latency exceeds
the objective, when more uploads than allowed are not answered 201, or when sending falls behind. The
exit status is 99 when the objective held at no rate.";

#[derive(Debug, Args)]
pub(super) struct FindLimitArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    measuring: MeasuringArgs,
    /// Latency objective, from the scheduled arrival to 201: p50, p90, p99, p99.9 or max, as
    /// `upload_p99=250ms` or `p99=250ms`.
    #[arg(long, value_name = "PERCENTILE=TIME", default_value = "p99=250ms")]
    objective: Objective,
    /// Share of the uploads that may be answered other than with 201.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    errors_max: f64,
    /// Uploads per second of the first step.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    start: f64,
    /// Length of a step, in seconds.
    #[arg(long, value_name = "S", default_value_t = 15)]
    step_seconds: u64,
    /// Stop when the highest rate that held and the lowest that failed differ by at most this
    /// share.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    precision: f64,
    /// Keys per upload.
    #[arg(long, value_name = "N", default_value_t = 5000)]
    upload_keys: u32,
    /// Participants that take part, the most populous first.
    #[arg(long, value_name = "N", default_value_t = 27)]
    participants: usize,
    /// Connections per participant, each with one upload in flight.
    #[arg(long, value_name = "N", default_value_t = 2)]
    connections: usize,
    /// Seed of every key and every arrival.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl FindLimitArgs {
    pub(super) async fn run(self) -> anyhow::Result<Status> {
        let options = self.options()?;
        let config = self.connection.config()?;
        let summary_file = self.measuring.summary_file()?;
        let environment =
            self.measuring
                .environment(&self.connection, &config, self.participants)?;
        let text = format!(
            "# {} with at most {} errors, steps of {} s, {} keys in an upload\n",
            options.objective, options.errors_max, self.step_seconds, options.upload_keys
        );
        let inputs = RunInputs {
            name: "find-limit",
            text: &text,
            participants: self.participants,
            distribution: Distribution::Even,
            seed: self.seed.or(config.seed),
            record: None,
            summary_file,
        };
        let measured = self
            .measuring
            .experiment(&environment, &self.connection, inputs)?;
        let done = unless_interrupted(search(&options, measured)).await;
        end(environment)?;
        done
    }

    fn options(&self) -> anyhow::Result<FindLimitOptions> {
        ensure!(
            self.start > 0.0 && self.step_seconds > 0 && self.precision > 0.0,
            "--start, --step-seconds and --precision must be more than 0"
        );
        if self.upload_keys == 0 || self.connections == 0 || self.participants == 0 {
            bail!("--upload-keys, --connections and --participants must be at least 1");
        }
        ensure!(
            matches!(self.objective.measure(), Measure::Upload(_))
                && self.objective.phase().is_none(),
            "find-limit raises the upload rate until uploads are too slow: give --objective \
             p99=250ms or another latency of uploads; --errors-max limits errors"
        );
        Ok(FindLimitOptions {
            objective: self.objective.clone(),
            errors_max: self.errors_max,
            start: self.start,
            step: Duration::from_secs(self.step_seconds),
            precision: self.precision,
            upload_keys: self.upload_keys,
            connections: self.connections,
        })
    }
}

async fn search(options: &FindLimitOptions, mut measured: Measured) -> anyhow::Result<Status> {
    say(format_args!(
        "{:>12} {:>12} {:>10} {:>10} {:>10}  {}",
        "uploads/s", "keys/s", "p50 ms", "p99 ms", "max ms", options.objective
    ))?;
    let mut search = Search::new(options.start, options.precision);
    let mut number = 0;
    while let Some(rate) = search.next() {
        number += 1;
        let mut phase = options.phase(number, rate);
        phase.ahead = measured.experiment.fits(&phase);
        let step = measured.experiment.phase(&phase).await?;
        let broke = options.broken_by(&step);
        let latency = step
            .all
            .upload
            .map(|upload| upload.corrected)
            .unwrap_or_default();
        let [p50, p99, max] = [latency.p50, latency.p99, latency.max]
            .map(|micros| Duration::from_micros(micros).as_secs_f64() * 1000.0);
        say(format_args!(
            "{rate:>12.1} {:>12.0} {p50:>10.1} {p99:>10.1} {max:>10.1}  {}",
            rate * f64::from(options.upload_keys),
            broke.as_deref().unwrap_or("held")
        ))?;
        search.tell(rate, broke);
    }
    ensure!(
        number > 0,
        "--start must be between 0.1 and 100000 uploads per second"
    );
    measured.conclude(Some(search.limit(options)), &[]).await
}

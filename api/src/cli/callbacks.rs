//! `efgs callback`: subscriptions to new download batches.

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use engine::admin::Admin;
use engine::callbacks::{CallbackId, SubscriptionState};
use engine::domain::{Country, UnixMillis};
use engine::text::single_line;
use engine::{Clock as _, SystemClock};
use serde_json::{Value, json};

use super::config::ConfigArguments;
use super::output::{instant, say};

pub(super) const GROUP_EXAMPLE: &str = "\
Example: how subscriptions fare
  efgs callback list --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
pub(super) enum CallbackCommand {
    List(ListArguments),
    /// Enable a subscription that was disabled
    ///
    /// Delivery continues where it stopped, as far as the download batches can still be downloaded.
    /// Running gateways follow within two seconds.
    #[command(
        after_help = "Example:\n  efgs callback enable --config demo/efgs.toml --country DE 1"
    )]
    Enable(Named),
    /// Disable a subscription, until it is enabled or its participant subscribes again
    #[command(
        after_help = "Example:\n  efgs callback disable --config demo/efgs.toml --country DE 1"
    )]
    Disable(Named),
    /// Remove a subscription, as its participant can
    #[command(
        after_help = "Example:\n  efgs callback remove --config demo/efgs.toml --country DE 1"
    )]
    Remove(Named),
}

/// Show all callback subscriptions and their state
///
/// Country, id, state, the next download batch to announce and when, how many are pending, the URL,
/// and why the last attempt failed. A subscription is disabled when too many attempts in a row have
/// failed (`[callback] attempts_max`): its participant no longer sees it, and a new PUT of it continues
/// where it stopped.
#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLE)]
pub(super) struct ListArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Output format
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

const LIST_EXAMPLE: &str = "\
Examples:
  efgs callback list --config demo/efgs.toml
  efgs callback list --config demo/efgs.toml --format json";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One line per subscription
    Table,
    /// A JSON array of objects
    Json,
}

/// Which subscription.
#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    config: ConfigArguments,
    /// Whose subscription
    #[arg(long, value_name = "CC")]
    country: Country,
    /// The participant's own name for it
    #[arg(value_parser = CallbackId::parse)]
    id: CallbackId,
}

pub(super) fn run(command: &CallbackCommand) -> anyhow::Result<()> {
    match command {
        CallbackCommand::List(arguments) => list(arguments),
        CallbackCommand::Enable(named) => change(named, "enabled", Admin::enable_subscription),
        CallbackCommand::Disable(named) => change(named, "disabled", Admin::disable_subscription),
        CallbackCommand::Remove(named) => change(named, "removed", Admin::remove_subscription),
    }
}

fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let max_age_days = settings.download().max_age_days;
    let mut admin = Admin::open(&settings.database)?;
    let states = admin.subscriptions(SystemClock.now().day(), max_age_days)?;
    match arguments.format {
        Format::Table => states.iter().map(line).try_for_each(say),
        Format::Json => say(Value::from_iter(states.iter().map(object))),
    }
}

fn change<E: std::error::Error + Send + Sync + 'static>(
    named: &Named,
    done: &str,
    change: impl Fn(&mut Admin, Country, &CallbackId) -> Result<bool, E>,
) -> anyhow::Result<()> {
    let Named {
        config,
        country,
        id,
    } = named;
    let mut admin = Admin::open(&config.load()?.database)?;
    if !change(&mut admin, *country, id)? {
        bail!("{country} has no callback subscription {id}: efgs callback list shows all");
    }
    say(format_args!("{done} {country} {id}"))
}

pub(super) fn line(state: &SubscriptionState) -> String {
    let (country, id, url) = (state.country, &state.callback_id, &state.url);
    let next = match state.next_batch {
        None => "nothing pending".to_owned(),
        Some(tag) if state.disabled_at.is_some() => format!("next {tag} (disabled)"),
        Some(tag) if state.next_attempt_at == UnixMillis(0) => format!("next {tag} now"),
        Some(tag) => format!("next {tag} from {}", instant(state.next_attempt_at)),
    };
    let behind = state.batches_behind;
    let mut line = format!(
        "{country}  {id}  {}  {next}  {behind} behind  {url}",
        condition(state)
    );
    if let Some(failure) = &state.last_failure {
        line += &format!("  failed {}: {}", instant(failure.at), failure.reason);
    }
    // A receiver can influence this text: it must not inject lines.
    single_line(&line)
}

/// Active, failing or disabled.
fn condition(state: &SubscriptionState) -> String {
    let failed = state.failed_attempts;
    match state.disabled_at {
        Some(at) => format!("disabled {} after {failed} failed attempts", instant(at)),
        None if failed > 0 => format!("failing, {failed} failed attempts"),
        None => "active".to_owned(),
    }
}

fn object(state: &SubscriptionState) -> Value {
    let failure = state.last_failure.as_ref();
    let next_attempt = Some(state.next_attempt_at).filter(|at| *at != UnixMillis(0));
    json!({
        "country": state.country.as_str(),
        "callbackId": state.callback_id.as_str(),
        "url": state.url,
        "disabledSince": state.disabled_at.map(instant),
        "failedAttempts": state.failed_attempts,
        "lastFailureAt": failure.map(|failure| instant(failure.at)),
        "lastError": failure.map(|failure| &failure.reason),
        "nextBatchTag": state.next_batch.map(|tag| tag.to_string()),
        "nextAttemptAt": next_attempt.map(instant),
        "batchesBehind": state.batches_behind,
    })
}

#[cfg(test)]
mod tests {
    use engine::callbacks::LastFailure;
    use engine::domain::BatchTag;

    use super::*;

    fn state() -> SubscriptionState {
        SubscriptionState {
            country: Country::parse("DE").unwrap(),
            callback_id: CallbackId::parse("1").unwrap(),
            url: "https://example.org".into(),
            disabled_at: None,
            failed_attempts: 0,
            last_failure: None,
            next_batch: BatchTag::parse("20201006-7").ok(),
            next_attempt_at: UnixMillis(0),
            batches_behind: 3,
        }
    }

    #[test]
    fn says_in_a_line_how_a_subscription_fares() {
        let check = |state: &SubscriptionState, expected: &str| assert_eq!(line(state), expected);
        let active = state();
        let line = "DE  1  active  next 20201006-7 now  3 behind  https://example.org";
        check(&active, line);
        let failing = SubscriptionState {
            failed_attempts: 2,
            next_attempt_at: UnixMillis(1_602_028_800_000),
            last_failure: Some(LastFailure {
                at: UnixMillis(1_602_028_000_000),
                reason: "TLS:\r\nDE  forged".into(),
            }),
            ..state()
        };
        check(
            &failing,
            "DE  1  failing, 2 failed attempts  next 20201006-7 from 2020-10-07T00:00:00Z  \
             3 behind  https://example.org  failed 2020-10-06T23:46:40Z: TLS:\u{fffd}\u{fffd}DE  forged",
        );
        let disabled = SubscriptionState {
            failed_attempts: 6,
            disabled_at: Some(UnixMillis(1_602_028_800_000)),
            ..state()
        };
        check(
            &disabled,
            "DE  1  disabled 2020-10-07T00:00:00Z after 6 failed attempts  next 20201006-7 (disabled)  \
             3 behind  https://example.org",
        );
        assert_eq!(object(&failing)["lastError"], "TLS:\r\nDE  forged");
        assert_eq!(object(&disabled)["disabledSince"], "2020-10-07T00:00:00Z");
        assert_eq!(object(&disabled)["nextAttemptAt"], Value::Null);
    }
}

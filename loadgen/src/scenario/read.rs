//! Reads scenarios from TOML and validates them.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::model::{Arrivals, Burst, Operation, Phase, Rate, Stream};
use crate::hostile::Kind;
use crate::profiles::Distribution;

/// Keys per upload unless a stream sets it: the maximum that the reference accepts.
const UPLOAD_KEYS: u32 = 5000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawScenario {
    #[serde(default)]
    pub(super) description: String,
    #[serde(default = "twenty_seven")]
    pub(super) participants: usize,
    #[serde(default = "even")]
    pub(super) distribution: Distribution,
    pub(super) phases: Vec<RawPhase>,
}

const fn twenty_seven() -> usize {
    27
}

const fn even() -> Distribution {
    Distribution::Even
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPhase {
    pub(super) name: String,
    seconds: Option<f64>,
    #[serde(default)]
    ahead: bool,
    #[serde(default)]
    restart: bool,
    #[serde(default = "one")]
    pub(super) repeat: u32,
    streams: Vec<RawStream>,
}

const fn one() -> u32 {
    1
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawOperation {
    Upload,
    Download,
    Follow,
    Hostile,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawArrivals {
    Poisson,
    Fixed,
    Closed,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStream {
    name: String,
    does: RawOperation,
    arrivals: RawArrivals,
    per_second: Option<f64>,
    keys_per_second: Option<f64>,
    burst: Option<Burst>,
    upload_keys: Option<u32>,
    keys: Option<u64>,
    duplicates: Option<f64>,
    kinds: Option<Vec<Kind>>,
    participants: Option<usize>,
    #[serde(default)]
    skip: usize,
    #[serde(default = "one_connection")]
    connections: usize,
    #[serde(default)]
    bytes_per_second: u32,
    #[serde(default)]
    retry_seconds: f64,
    #[serde(default)]
    expect: BTreeSet<u16>,
    #[serde(default)]
    expect_broken: bool,
}

const fn one_connection() -> usize {
    1
}

pub(super) fn read_phase(
    raw: &RawPhase,
    participants: usize,
) -> Result<Phase, (String, &'static str)> {
    let refuse = |reason| Err((raw.name.clone(), reason));
    let names: BTreeSet<_> = raw.streams.iter().map(|stream| &stream.name).collect();
    if raw.streams.is_empty() || names.len() < raw.streams.len() {
        return refuse("needs streams, each with a name of its own");
    }
    if raw
        .seconds
        .is_some_and(|seconds| !(seconds > 0.0 && seconds <= 7.0 * 86_400.0))
    {
        return refuse("seconds must be more than 0 and at most a week");
    }
    if raw.repeat == 0 {
        return refuse("repeat must be at least 1");
    }
    let mut streams = Vec::new();
    for stream in &raw.streams {
        let located = |reason| (format!("{}/{}", raw.name, stream.name), reason);
        streams.push(read_stream(stream, raw, participants).map_err(located)?);
    }
    let counted = |stream: &Stream| matches!(stream.does, Operation::Upload { keys: Some(_), .. });
    let follows = |stream: &Stream| stream.does == Operation::Follow;
    if raw.seconds.is_none() && !streams.iter().any(counted) && !streams.iter().all(follows) {
        return refuse(
            "needs seconds, or a stream of uploads with keys, or only streams that follow",
        );
    }
    Ok(Phase {
        name: raw.name.clone(),
        seconds: raw.seconds,
        ahead: raw.ahead,
        restart: raw.restart,
        streams,
    })
}

fn read_stream(
    raw: &RawStream,
    phase: &RawPhase,
    participants: usize,
) -> Result<Stream, &'static str> {
    let left = participants.saturating_sub(raw.skip);
    if left == 0
        || raw
            .participants
            .is_some_and(|count| count == 0 || count > left)
    {
        return Err("names more participants than the scenario has, or none");
    }
    if raw.connections == 0 {
        return Err("connections must be at least 1");
    }
    let does = read_operation(raw)?;
    let arrivals = read_arrivals(raw, &does)?;
    let endless = match does {
        Operation::Upload { keys: None, .. } => {
            arrivals == Arrivals::Closed || phase.seconds.is_none()
        }
        _ => false,
    };
    if phase.ahead && endless {
        return Err("what is made ahead must be bounded: give keys, or a timetable and seconds");
    }
    Ok(Stream {
        name: raw.name.clone(),
        does,
        arrivals,
        participants: raw.participants,
        skip: raw.skip,
        connections: raw.connections,
        bytes_per_second: raw.bytes_per_second,
        retry_seconds: raw.retry_seconds.max(0.0),
        expect: raw.expect.clone(),
        expect_broken: raw.expect_broken,
    })
}

fn read_operation(raw: &RawStream) -> Result<Operation, &'static str> {
    let uploads = matches!(raw.does, RawOperation::Upload);
    if !uploads && (raw.upload_keys, raw.keys, raw.duplicates) != (None, None, None) {
        return Err("upload_keys, keys and duplicates are for uploads");
    }
    if matches!(raw.does, RawOperation::Hostile) != raw.kinds.is_some() {
        return Err("hostile streams list their kinds, and only they");
    }
    Ok(match raw.does {
        RawOperation::Upload => {
            let upload_keys = raw.upload_keys.unwrap_or(UPLOAD_KEYS);
            let duplicates = raw.duplicates.unwrap_or(0.0);
            if upload_keys == 0 || raw.keys == Some(0) || !(0.0..=1.0).contains(&duplicates) {
                return Err("upload_keys and keys must be at least 1, duplicates from 0 to 1");
            }
            Operation::Upload {
                upload_keys,
                keys: raw.keys,
                duplicates,
            }
        }
        RawOperation::Download => Operation::Download,
        RawOperation::Follow => Operation::Follow,
        RawOperation::Hostile => match raw.kinds.clone().unwrap_or_default() {
            kinds if kinds.is_empty() => return Err("kinds must list at least one"),
            kinds => Operation::Hostile(kinds),
        },
    })
}

fn read_arrivals(raw: &RawStream, does: &Operation) -> Result<Arrivals, &'static str> {
    let per_second = match (raw.per_second, raw.keys_per_second, does) {
        (Some(requests), None, _) => Some(requests),
        (None, Some(keys), Operation::Upload { upload_keys, .. }) => {
            Some(keys / f64::from(*upload_keys))
        }
        (None, None, _) => None,
        _ => return Err("give per_second (requests), or for uploads keys_per_second"),
    };
    let rate = match (raw.arrivals, per_second) {
        (RawArrivals::Closed, None) if raw.burst.is_none() => return Ok(Arrivals::Closed),
        (RawArrivals::Closed, _) => return Err("closed arrivals have neither rate nor burst"),
        (_, Some(per_second)) if per_second > 0.0 && per_second <= 1e6 => per_second,
        _ => return Err("arrivals need a rate, more than 0 and at most a million per second"),
    };
    if let Some(burst) = raw.burst {
        let fits = burst.lasts_seconds > 0.0 && burst.lasts_seconds < burst.every_seconds;
        let is_share = burst.share > 0.0 && burst.share <= 1.0;
        if !(fits && is_share) {
            return Err(
                "a burst is shorter than its period, with a share of more than 0, at most 1",
            );
        }
    }
    let rate = Rate {
        per_second: rate,
        burst: raw.burst,
    };
    Ok(match raw.arrivals {
        RawArrivals::Fixed => Arrivals::Fixed(rate),
        _ => Arrivals::Poisson(rate),
    })
}

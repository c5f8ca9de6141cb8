//! The volume of a phase, as far as its streams specify it.

use super::making::memory_bytes;
use crate::scenario::{Arrivals, Operation, Phase, Stream};

/// Memory that all uploads of a phase take, as far as they are bounded.
pub(super) fn needed_bytes(phase: &Phase) -> u64 {
    let needs = |stream: &Stream| match (&stream.does, stream.arrivals) {
        (
            Operation::Upload {
                keys: Some(keys),
                upload_keys,
                ..
            },
            _,
        ) => memory_bytes(*keys, *upload_keys),
        (
            Operation::Upload { upload_keys, .. },
            Arrivals::Poisson(rate) | Arrivals::Fixed(rate),
        ) => {
            // A random timetable may have a few more than its mean.
            let uploads = rate.per_second * phase.seconds.unwrap_or(0.0) * 1.1;
            let keys = uploads * f64::from(*upload_keys);
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a positive estimate; what is too large saturates"
            )]
            memory_bytes(keys.ceil() as u64, *upload_keys)
        }
        _ => 0,
    };
    phase.streams.iter().map(needs).sum()
}

/// The load that the timetables of a phase specify.
#[derive(Default)]
pub(super) struct Offered {
    pub(super) uploads_per_second: Option<f64>,
    pub(super) keys_per_second: Option<f64>,
}

pub(super) fn offered(phase: &Phase) -> Offered {
    let mut offered = Offered::default();
    for stream in &phase.streams {
        if let (
            Operation::Upload { upload_keys, .. },
            Arrivals::Poisson(rate) | Arrivals::Fixed(rate),
        ) = (&stream.does, stream.arrivals)
        {
            *offered.uploads_per_second.get_or_insert(0.0) += rate.per_second;
            *offered.keys_per_second.get_or_insert(0.0) +=
                rate.per_second * f64::from(*upload_keys);
        }
    }
    offered
}

/// Whether a phase uploads at all.
pub(super) fn uploads(phase: &Phase) -> bool {
    let uploads = |stream: &Stream| matches!(stream.does, Operation::Upload { .. });
    phase.streams.iter().any(uploads)
}

/// Keys that a phase uploads, for its progress bar; `None` when that is not known: connections that are
/// kept busy, and downloads.
pub(super) fn due_keys(phase: &Phase) -> Option<u64> {
    let keys = phase.streams.iter().map(|stream| match stream.does {
        Operation::Upload { keys, .. } => keys.unwrap_or(0),
        _ => 0,
    });
    let counted: u64 = keys.sum();
    let timed = phase.seconds.unwrap_or(0.0) * offered(phase).keys_per_second.unwrap_or(0.0);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive estimate; what is too large saturates"
    )]
    let keys = counted.max(timed as u64);
    (keys > 0).then_some(keys)
}

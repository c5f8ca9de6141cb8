//! The tasks of a phase: the dispatcher and the connections of every stream.

use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::error::LoadError;
use super::making::Stock;
use super::stream::RunningStream;
use super::{downloads, hostile, uploads};
use crate::client::Connection;
use crate::hostile::Hostile;
use crate::scenario::{Arrivals, Operation, Phase};
use crate::schedule::Timetable;

/// A stream with everything that it needs to start.
pub(super) struct Prepared {
    pub(super) running: Arc<RunningStream>,
    pub(super) timetable: Option<Timetable>,
    /// Uploads prepared ahead, and those that follow.
    pub(super) stock: Option<Stock>,
    /// Open connections, by member.
    pub(super) connections: Vec<(usize, Connection)>,
}

impl Prepared {
    /// Whether the phase waits for it to end by itself.
    fn is_counted(&self) -> bool {
        matches!(
            self.running.stream.does,
            Operation::Upload { keys: Some(_), .. }
        )
    }
}

/// The tasks of a phase.
pub(super) struct Tasks {
    /// Streams whose end the phase waits for.
    counted: JoinSet<()>,
    others: JoinSet<()>,
    has_counted: bool,
    /// Whether the queued requests have been dropped.
    pub(super) is_cut: bool,
}

impl Tasks {
    pub(super) fn start(
        phase: &Phase,
        prepared: Vec<Prepared>,
        hostile: &Arc<Hostile>,
        begun: Instant,
    ) -> Self {
        let mut tasks = Self {
            counted: JoinSet::new(),
            others: JoinSet::new(),
            has_counted: prepared.iter().any(Prepared::is_counted),
            is_cut: false,
        };
        let until_complete = phase.seconds.is_none() && !tasks.has_counted;
        for stream in prepared {
            let set = match stream.is_counted() {
                true => &mut tasks.counted,
                false => &mut tasks.others,
            };
            start_stream(set, stream, hostile, begun, until_complete);
        }
        tasks
    }

    pub(super) fn is_over(&self) -> bool {
        self.counted.is_empty() && self.others.is_empty()
    }

    pub(super) fn are_counted_over(&self) -> bool {
        self.has_counted && self.counted.is_empty()
    }

    pub(super) async fn join_next(&mut self) -> Result<(), LoadError> {
        let ended = tokio::select! {
            Some(ended) = self.counted.join_next() => ended,
            Some(ended) = self.others.join_next() => ended,
            else => return Ok(()),
        };
        Ok(ended?)
    }
}

fn start_stream(
    set: &mut JoinSet<()>,
    prepared: Prepared,
    hostile: &Arc<Hostile>,
    begun: Instant,
    until_complete: bool,
) {
    let Prepared {
        running,
        timetable,
        stock,
        connections,
    } = prepared;
    let closed = running.stream.arrivals == Arrivals::Closed;
    let timetable = timetable.filter(|_| stock.is_none());
    if let Some((ahead, more)) = stock {
        let running = Arc::clone(&running);
        set.spawn(async move { running.dispatch_uploads(ahead, more, begun).await });
    }
    if let Some(timetable) = timetable {
        let running = Arc::clone(&running);
        set.spawn(async move { running.dispatch(timetable, begun).await });
    }
    for (member, connection) in connections {
        let running = Arc::clone(&running);
        match &running.stream.does {
            Operation::Upload { .. } => {
                set.spawn(uploads::work(running, member, connection, begun));
            }
            Operation::Download => {
                set.spawn(downloads::work(running, member, connection, closed));
            }
            Operation::Follow => {
                set.spawn(downloads::follow(
                    running,
                    member,
                    connection,
                    until_complete,
                ));
            }
            Operation::Hostile(kinds) => {
                let kinds = kinds.as_slice().into();
                let hostile = Arc::clone(hostile);
                set.spawn(hostile::work(
                    running, member, connection, hostile, kinds, closed,
                ));
            }
        }
    }
}

//! Sends hostile requests and compares the responses with what the protocol demands.

use std::sync::Arc;

use super::deliver::first_line;
use super::stream::RunningStream;
use crate::client::Connection;
use crate::hostile::{Hostile, HostileRequest, Kind};

/// Sends the stream's kinds in rotation, by the timetable or until the phase stops.
pub(super) async fn work(
    running: Arc<RunningStream>,
    member: usize,
    mut connection: Connection,
    hostile: Arc<Hostile>,
    kinds: Arc<[Kind]>,
    closed: bool,
) {
    let participant = running.members[member];
    let wrong_caller = &running.shared.participants.wrong_callers[participant];
    let mut wrong_caller = running.connection_as(wrong_caller, 0);
    for turn in 0_usize.. {
        let number = match closed {
            true if running.is_stopping() => return,
            true => turn,
            false => match running.requests[member].pop().await {
                Some(due) => due.number,
                None => return,
            },
        };
        let kind = kinds[number % kinds.len()];
        let index = running.first_index + u32::try_from(number).unwrap_or(u32::MAX >> 12);
        let request = hostile.request(kind, participant, index);
        let connection = match kind {
            Kind::WrongCertificate => &mut wrong_caller,
            _ => &mut connection,
        };
        send(&running, connection, request).await;
    }
}

async fn send(running: &RunningStream, connection: &mut Connection, request: HostileRequest) {
    running.tally.sending();
    let HostileRequest {
        kind,
        method,
        path,
        headers,
        body,
    } = request;
    let bytes = body.len() as u64;
    let answer = connection.send(method, &path, &headers, body).await;
    running.tally.moved(bytes, 0);
    let status = answer.as_ref().ok().map(|answer| answer.status);
    running.refused(status);
    if status == Some(kind.status()) || running.expects(status) {
        return;
    }
    let (answered, example) = match &answer {
        Ok(answer) => (answer.status.to_string(), first_line(&answer.body)),
        Err(error) => ("nothing".to_owned(), engine::chain(error)),
    };
    let what = format!("{kind:?} answered {answered} instead of {}", kind.status());
    running.unexpected(&what, &example);
}

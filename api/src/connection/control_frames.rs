//! A budget of HTTP/2 frames that carry nothing.
//!
//! - *In*: the bytes of a connection as they are read and written.
//! - *Out*: whether the peer has sent more control frames than anything that it does explains.
//! - *Refuses*: no frame by itself; h2 checks those.
//! - *Runs on*: the connection's task; a few comparisons per frame.
//!
//! h2 bounds resets and continuations, but answers any number of pings and settings. A frame of 9
//! bytes takes as long as one of 16 KiB.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::time::Instant;

use crate::bounds::CONTROL_FRAMES_MAX;

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// One more frame per this time: a client that measures its line sends some pings per second.
const REFILL_MS: u128 = 10;
/// One more frame per this many bytes written: window updates follow what a peer is sent, two per
/// frame of up to 16 KiB.
const WRITTEN_BYTES_PER_FRAME: u64 = 512;

/// Frames with content, whose number others bound: DATA, HEADERS and CONTINUATION (RFC 9113 §6).
const CARRYING: [u8; 3] = [0, 1, 9];

/// The budget of a connection.
#[derive(Debug)]
pub(super) struct ControlFrames {
    reading: Reading,
    left: u32,
    refilled_at: Instant,
    /// Written since the last refill.
    written_bytes: u64,
}

/// Where in a connection's bytes the next ones are.
#[derive(Debug)]
enum Reading {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// So many bytes of a frame's head.
    Head([u8; HEAD_BYTES], usize),
    /// So many bytes of a frame's content are to come.
    Content(usize),
    /// It is not HTTP/2.
    Other,
}

impl ControlFrames {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            reading: Reading::Preface(0),
            left: CONTROL_FRAMES_MAX,
            refilled_at: now,
            written_bytes: 0,
        }
    }

    /// Bytes were written.
    pub(super) const fn note_written(&mut self, bytes: usize) {
        self.written_bytes = self.written_bytes.saturating_add(bytes as u64);
    }

    /// Bytes were read. False when the budget is used up.
    pub(super) fn admit(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        while !bytes.is_empty() {
            let (taken, frame) = self.reading.take(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if frame.is_some_and(|frame| is_control(&frame)) && !self.draw(now) {
                return false;
            }
            if matches!(self.reading, Reading::Other) {
                return true;
            }
        }
        true
    }

    fn draw(&mut self, now: Instant) -> bool {
        if self.left == 0 {
            self.refill(now);
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or_default();
        left.is_some()
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let for_time = elapsed.as_millis() / REFILL_MS;
        let for_bytes = u128::from(self.written_bytes / WRITTEN_BYTES_PER_FRAME);
        let refilled = u32::try_from(for_time.saturating_add(for_bytes));
        if refilled == Ok(0) {
            return;
        }
        self.left = refilled.map_or(CONTROL_FRAMES_MAX, |frames| frames.min(CONTROL_FRAMES_MAX));
        (self.refilled_at, self.written_bytes) = (now, 0);
    }
}

/// Whether a frame carries nothing of a request; empty DATA that does not end one does not, either.
fn is_control(head: &[u8; HEAD_BYTES]) -> bool {
    let [high, middle, low, kind, flags, ..] = *head;
    let is_empty_data = kind == 0 && [high, middle, low] == [0; 3] && flags & 1 == 0;
    !CARRYING.contains(&kind) || is_empty_data
}

impl Reading {
    /// Takes some of the bytes, and returns how many, and the head of a frame if that is complete.
    fn take(&mut self, bytes: &[u8]) -> (usize, Option<[u8; HEAD_BYTES]>) {
        match self {
            Self::Other => (bytes.len(), None),
            Self::Preface(seen) => {
                let rest = PREFACE.get(*seen..).unwrap_or_default();
                let taken = rest.len().min(bytes.len());
                let is_preface = rest.get(..taken) == bytes.get(..taken);
                *seen = seen.saturating_add(taken);
                let is_whole = *seen == PREFACE.len();
                match (is_preface, is_whole) {
                    (false, _) => *self = Self::Other,
                    (true, true) => *self = Self::Head([0; HEAD_BYTES], 0),
                    (true, false) => {}
                }
                (taken, None)
            }
            Self::Head(head, seen) => {
                let rest = head.get_mut(*seen..).unwrap_or_default();
                let taken = rest.len().min(bytes.len());
                for (to, from) in rest.iter_mut().zip(bytes) {
                    *to = *from;
                }
                *seen = seen.saturating_add(taken);
                if *seen < HEAD_BYTES {
                    return (taken, None);
                }
                let head = *head;
                let [high, middle, low, ..] = head;
                *self = Self::following(u32::from_be_bytes([0, high, middle, low]) as usize);
                (taken, Some(head))
            }
            Self::Content(left) => {
                let taken = bytes.len().min(*left);
                *self = Self::following(left.saturating_sub(taken));
                (taken, None)
            }
        }
    }

    /// What follows a head, or a part of the content.
    const fn following(content_bytes: usize) -> Self {
        match content_bytes {
            0 => Self::Head([0; HEAD_BYTES], 0),
            left => Self::Content(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1][..], content].concat()
    }

    fn ping() -> Vec<u8> {
        frame(6, 0, &[0; 8])
    }

    /// How many of the frames are admitted, read in pieces of this size.
    fn admitted(
        frames: &mut ControlFrames,
        one: &[u8],
        count: usize,
        piece: usize,
        now: Instant,
    ) -> usize {
        let admits =
            |frames: &mut ControlFrames| one.chunks(piece).all(|piece| frames.admit(piece, now));
        (0..count).take_while(|_| admits(frames)).count()
    }

    fn connected(now: Instant) -> ControlFrames {
        let mut frames = ControlFrames::new(now);
        assert!(frames.admit(PREFACE, now));
        frames
    }

    #[test]
    fn admits_so_many_control_frames_however_they_are_cut() {
        let (now, max) = (Instant::now(), CONTROL_FRAMES_MAX as usize);
        for one in [
            ping(),
            frame(4, 0, &[]),
            frame(3, 0, &[0; 4]),
            frame(0, 0, &[]),
            frame(200, 0, b"x"),
        ] {
            for piece in [1, 5, 9, 17] {
                let mut frames = connected(now);
                assert_eq!(
                    admitted(&mut frames, &one, 3 * max, piece, now),
                    max,
                    "{one:?}"
                );
            }
        }
    }

    #[test]
    fn counts_no_frame_that_carries_a_request() {
        let (now, max) = (Instant::now(), CONTROL_FRAMES_MAX as usize);
        for one in [
            frame(1, 4, b"block"),
            frame(0, 0, b"body"),
            frame(0, 1, b""),
            frame(9, 4, b"more"),
        ] {
            let mut frames = connected(now);
            assert_eq!(
                admitted(&mut frames, &one, 3 * max, 100, now),
                3 * max,
                "{one:?}"
            );
        }
    }

    #[test]
    fn refills_with_time_and_with_what_is_written() {
        let (start, max) = (Instant::now(), CONTROL_FRAMES_MAX as usize);
        // Without content, so that the next one begins where one is refused.
        let settings = frame(4, 0, &[]);
        let mut frames = connected(start);
        assert_eq!(admitted(&mut frames, &settings, 3 * max, 100, start), max);
        let later = start + Duration::from_secs(1);
        assert_eq!(admitted(&mut frames, &settings, 3 * max, 100, later), 100);
        frames.note_written(16 << 10);
        assert_eq!(admitted(&mut frames, &settings, 3 * max, 100, later), 32);
        let much_later = start + Duration::from_secs(3600);
        assert_eq!(
            admitted(&mut frames, &settings, 3 * max, 100, much_later),
            max
        );
    }

    #[test]
    fn looks_at_nothing_else_than_http2() {
        let (now, max) = (Instant::now(), CONTROL_FRAMES_MAX as usize);
        let mut frames = ControlFrames::new(now);
        assert!(frames.admit(b"PRI * HTTP/1.1\r\n", now));
        assert_eq!(admitted(&mut frames, &ping(), 3 * max, 100, now), 3 * max);
    }
}

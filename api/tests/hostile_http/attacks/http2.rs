//! HTTP/2 by hand, for what no client library sends.

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Types of frames (RFC 9113 §6).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Frame {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
}

pub(crate) fn frame(kind: Frame, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind as u8, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let setting =
        |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let payload: Vec<u8> = values.iter().flat_map(setting).collect();
    frame(Frame::Settings, 0, 0, &payload)
}

/// A request's header block: all fields as literals, without the dynamic table (RFC 7541 §6.2.2).
pub(crate) fn request(
    stream: u32,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    is_whole: bool,
) -> Vec<u8> {
    let own = [
        (":method", method),
        (":scheme", "https"),
        (":path", path),
        (":authority", "gateway"),
    ];
    let mut block = Vec::new();
    for (name, value) in own.iter().chain(headers) {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    let end = if is_whole { END_STREAM } else { 0 };
    frame(Frame::Headers, END_HEADERS | end, stream, &block)
}

/// A string of up to 127 + 2^14 octets.
fn text(block: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length @ 0..127) => block.push(length),
        _ => {
            let rest = text.len() - 127;
            let low = u8::try_from(rest & 0x7f).unwrap() | 0x80;
            block.extend([127, low, u8::try_from(rest >> 7).unwrap()]);
        }
    }
    block.extend_from_slice(text.as_bytes());
}

/// Whether a header block came back.
pub(crate) fn has_headers(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        if head[3] == Frame::Headers as u8 {
            return true;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        bytes = rest.get(length..).unwrap_or_default();
    }
    false
}

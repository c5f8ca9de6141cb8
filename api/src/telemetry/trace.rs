//! Ids that correlate the log lines of a request, as the reference's tracer assigns them: a trace id
//! of 32 and a span id of 16 hexadecimal digits.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderMap;
use tracing::Span;

use crate::participant::Arrival;

/// The span of a request: every line inside it carries its ids, whatever the filter.
///
/// A proxy may name the trace that a request belongs to (W3C `traceparent`, or `X-B3-TraceId`). On
/// the other ports such headers come from the clients and are ignored.
pub(crate) fn request_span(arrival: Arrival, headers: &HeaderMap) -> Span {
    let forwarded = match arrival {
        Arrival::Proxy(_) => forwarded_trace(headers),
        Arrival::MutualTls(_) | Arrival::Operations => None,
    };
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut digits = [0; 32];
    digits[..16].copy_from_slice(&hexadecimal(id(number, 1)));
    digits[16..].copy_from_slice(&hexadecimal(id(number, 0)));
    let own_trace = std::str::from_utf8(&digits).unwrap_or_default();
    let span_id = own_trace.get(16..).unwrap_or_default();
    let trace_id = forwarded.unwrap_or(own_trace);
    tracing::error_span!("request", traceId = trace_id, spanId = span_id)
}

/// In lower case. Every request needs three, so this avoids the cost of `format!`.
fn hexadecimal(number: u64) -> [u8; 16] {
    let bytes = number.to_be_bytes();
    std::array::from_fn(|at| {
        let (high, low) = (bytes[at / 2] >> 4, bytes[at / 2] & 15);
        b"0123456789abcdef"[usize::from(if at % 2 == 0 { high } else { low })]
    })
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// An id that is unique in this process, and very likely among all processes.
fn id(number: u64, half: usize) -> u64 {
    static PROCESS: OnceLock<[u64; 2]> = OnceLock::new();
    let process = PROCESS.get_or_init(|| [random(), random()]);
    mix(process[half].wrapping_add(number))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without random bytes, ids repeat between processes, which only makes logs harder to read.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// The finalizer of `SplitMix64`: a bijection, so that different numbers stay different.
const fn mix(number: u64) -> u64 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The trace id that a proxy forwards; only hexadecimal digits, so that it is safe in a log line.
fn forwarded_trace(headers: &HeaderMap) -> Option<&str> {
    let header = |name| headers.get(name)?.to_str().ok();
    let of_parent = header("traceparent").and_then(|text| text.split('-').nth(1));
    let trace_id = of_parent.or_else(|| header("x-b3-traceid"))?;
    let is_id = matches!(trace_id.len(), 16 | 32)
        && trace_id.bytes().all(|byte| byte.is_ascii_hexdigit())
        && trace_id.bytes().any(|byte| byte != b'0');
    is_id.then_some(trace_id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn generates_unique_ids() {
        let ids: HashSet<u64> = (0..1000).map(|number| id(number, 0)).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn writes_hexadecimal_digits() {
        // printf %016x
        assert_eq!(&hexadecimal(81_985_529_216_486_895), b"0123456789abcdef");
        assert_eq!(&hexadecimal(u64::MAX - 15), b"fffffffffffffff0");
    }

    #[test]
    fn uses_valid_trace_ids_of_a_proxy_only() {
        let trace = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            forwarded_trace(&headers).map(str::to_owned)
        };
        // The example of W3C Trace Context §3.2, and that of the B3 specification.
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let id = Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned());
        assert_eq!(trace("traceparent", parent), id);
        let id = Some("463ac35c9f6413ad48485a3953bb6124".to_owned());
        assert_eq!(
            trace("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"),
            id
        );
        for (name, value) in [
            ("traceparent", ""),
            ("traceparent", "00"),
            (
                "traceparent",
                "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            ),
            (
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e473\"-00f067aa0ba902b7-01",
            ),
            ("x-b3-traceid", "463ac35c9f6413ad48485a3953bb61240"),
        ] {
            assert_eq!(trace(name, value), None, "{value}");
        }
    }
}

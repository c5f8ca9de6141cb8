//! A response, completely read.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use engine::clock::Clock;
use http::HeaderMap;
use http::header::RETRY_AFTER;

/// A response, completely read.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value, if it is present and visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The delay that `Retry-After` asks for, in either of its forms.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds.or_else(|| {
            let now = Duration::from_millis(engine::SystemClock.now().0);
            let then = httpdate::parse_http_date(text).ok()?;
            let then = then.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(then.saturating_sub(now))
        })
    }
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    engine::SystemClock.now().seconds()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn reads_both_forms_of_retry_after() {
        let answer = |value: &str| Answer {
            status: 503,
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]),
            body: Bytes::new(),
        };
        assert_eq!(answer("7").retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(
            answer("Tue, 06 Oct 2020 12:00:00 GMT").retry_after(),
            Some(Duration::ZERO)
        );
        let far = answer("Fri, 31 Dec 9999 00:00:00 GMT")
            .retry_after()
            .unwrap();
        assert!(far > Duration::from_secs(86_400));
        assert_eq!(answer("soon").retry_after(), None);
    }
}

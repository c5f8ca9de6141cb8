//! stub
pub(crate) const JOURNEYS: &[(&str, crate::Journey)] = &[];

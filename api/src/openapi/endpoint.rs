//! A path of a port, as its router and the API description both know it.

use super::describe::Operation;

/// A path, its methods and their descriptions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    /// Parameters are in braces.
    pub(crate) path: &'static str,
    /// The methods that it supports, as `Allow` lists them.
    pub(crate) methods: &'static str,
    /// Descriptions of its methods; HEAD and OPTIONS are derived.
    pub(crate) operations: &'static [fn() -> Operation],
}

//! Resolves host names. A seam: tests inject a resolver of their own.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;

/// A pending lookup.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Resolves host names to addresses.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// Resolves a host to all its addresses. The caller bounds the time, and how many run at once.
    fn resolve(&self, host: &str) -> Resolving;
}

/// The operating system's resolver. A lookup occupies a thread until the system's time-out, which may
/// take half a minute.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

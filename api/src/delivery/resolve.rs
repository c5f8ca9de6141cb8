//! Resolves host names. A seam: tests inject a resolver of their own.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Concurrent lookups. Each holds a thread until the system gives up, which may take half a minute,
/// longer than any caller waits.
const LOOKUPS_MAX: usize = 32;

/// A pending lookup.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Resolves host names to addresses.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// Resolves a host to all its addresses. The caller bounds the time.
    fn resolve(&self, host: &str) -> Resolving;
}

/// The operating system's resolver.
#[derive(Clone)]
pub struct SystemResolver(Arc<Semaphore>);

impl fmt::Debug for SystemResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemResolver")
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LOOKUPS_MAX)))
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: &str) -> Resolving {
        let (permits, host) = (Arc::clone(&self.0), host.to_owned());
        Box::pin(async move {
            let permit = permits.acquire_owned().await.map_err(io::Error::other)?;
            // A separate task: the permit stays taken when the caller stops waiting.
            let lookup = tokio::spawn(async move {
                let _busy = permit;
                let found = tokio::net::lookup_host((host, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

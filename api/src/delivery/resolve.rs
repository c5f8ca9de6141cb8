//! Names to addresses. A seam: tests put a resolver of their own here.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::Semaphore;

/// Lookups of the system under way. Each holds a thread until the system gives up, which may take
/// half a minute, longer than anybody waits for it.
const LOOKUPS_MAX: usize = 32;

/// The addresses of a host, some time.
pub type Resolving = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Knows the addresses of hosts.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of a host by name. Whoever asks bounds the time.
    fn resolve(&self, host: &str) -> Resolving;
}

/// What the operating system knows.
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
            // A task of its own: when nobody waits any more, the permit is still taken.
            let lookup = tokio::spawn(async move {
                let _busy = permit;
                let found = tokio::net::lookup_host((host, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}

//! Admission: the right to be in flight (stub, being built).

use crate::domain::Country;
use crate::error::Overload;

/// The right to be in flight with a number of body bytes; given back when dropped.
#[derive(Debug)]
pub struct Permit(());

/// Gives out permits, refuses at once, never waits.
#[derive(Debug, Default)]
pub struct Admission(());

impl Admission {
    /// Asks for room for one upload of `country` whose body has up to `bytes` bytes.
    ///
    /// # Errors
    /// [`Overload`] when a bound is reached.
    pub fn admit(&self, _country: Country, _bytes: usize) -> Result<Permit, Overload> {
        Ok(Permit(()))
    }
}

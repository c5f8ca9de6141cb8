//! Admission: the right to be in flight.
//!
//! - *In*: a participant that wants to send a body, and how large it may become.
//! - *Out*: a [`Permit`], given back when it is dropped.
//! - *Refuses*: what would pass a bound ([`Overload`]), at once; it never waits.
//! - *Assumes*: the largest body fits into one participant's share of the bytes; the settings ensure
//!   it.
//! - *Runs on*: the calling thread; one short lock per batch, and none per key.
//!
//! Weighed against one atomic counter per bound: three bounds must hold together, which a lock makes
//! obvious, and thousands of batches per second leave it idle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use metrics::gauge;

use crate::domain::Country;
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::overload::{Overload, OverloadBound};

/// Gives out permits, refuses at once, never waits.
#[derive(Debug)]
pub struct Admission(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: Load,
    most_of_one: Load,
    in_flight: Mutex<InFlight>,
}

/// Batches, and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Uploads.
    pub batches: usize,
    /// Bytes of their bodies.
    pub bytes: usize,
}

#[derive(Debug, Default)]
struct InFlight {
    total: Load,
    /// Invariant: sums up to `total`, and has no entry without batches.
    by_country: HashMap<Country, Load>,
}

impl Admission {
    /// Admits up to `batches_max` uploads with up to `bytes_max` body bytes in total; of one
    /// participant, one part in [`limits::PARTICIPANT_SHARE_DIVISOR`] of either.
    pub fn new(batches_max: usize, bytes_max: usize) -> Self {
        let share = |bound: usize| (bound / limits::PARTICIPANT_SHARE_DIVISOR).max(1);
        Self(Arc::new(Shared {
            most: Load {
                batches: batches_max,
                bytes: bytes_max,
            },
            most_of_one: Load {
                batches: share(batches_max),
                bytes: share(bytes_max),
            },
            in_flight: Mutex::default(),
        }))
    }

    /// Requests a permit for one upload of `country` with a body of up to `bytes` bytes.
    ///
    /// # Errors
    /// [`Overload`] when a bound is reached.
    pub fn admit(&self, country: Country, bytes: usize) -> Result<Permit, Overload> {
        let load = Load { batches: 1, bytes };
        self.0.take(country, load).map_err(Overload::at)?;
        gauge!("efgs_admission_in_flight_batches").increment(1);
        gauge!("efgs_admission_in_flight_bytes").increment(as_gauge(bytes));
        Ok(Permit {
            shared: Arc::clone(&self.0),
            country,
            bytes,
        })
    }

    /// Most batches and bytes that one participant may have in flight.
    pub fn share(&self) -> Load {
        self.0.most_of_one
    }

    /// Batches in flight of the participant that has most, and bytes likewise.
    pub fn largest(&self) -> Load {
        let in_flight = self.0.lock();
        let loads = || in_flight.by_country.values();
        let batches = loads().map(|load| load.batches).max();
        let bytes = loads().map(|load| load.bytes).max();
        Load {
            batches: batches.unwrap_or_default(),
            bytes: bytes.unwrap_or_default(),
        }
    }

    /// Uploads in flight.
    pub fn batches_in_flight(&self) -> usize {
        self.0.lock().total.batches
    }

    /// Body bytes in flight.
    pub fn bytes_in_flight(&self) -> usize {
        self.0.lock().total.bytes
    }
}

/// The default bounds of [`limits`].
impl Default for Admission {
    fn default() -> Self {
        Self::new(limits::BATCHES_IN_FLIGHT_MAX, limits::BYTES_IN_FLIGHT_MAX)
    }
}

/// The right to be in flight with a number of body bytes; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    country: Country,
    bytes: usize,
}

impl Permit {
    /// Body bytes that the permit allows.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what the body does not need, once its size is known. Does not grow the permit.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = Load {
            batches: 0,
            bytes: self.bytes.saturating_sub(bytes),
        };
        self.shared.give_back(self.country, surplus);
        self.bytes -= surplus.bytes;
        gauge!("efgs_admission_in_flight_bytes").decrement(as_gauge(surplus.bytes));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let load = Load {
            batches: 1,
            bytes: self.bytes,
        };
        self.shared.give_back(self.country, load);
        gauge!("efgs_admission_in_flight_batches").decrement(1);
        gauge!("efgs_admission_in_flight_bytes").decrement(as_gauge(self.bytes));
    }
}

impl Shared {
    fn take(&self, country: Country, load: Load) -> Result<(), OverloadBound> {
        let mut in_flight = self.lock();
        let of_country = in_flight.by_country.get(&country).copied();
        let total = in_flight.total.plus(load);
        let of_country = of_country.unwrap_or_default().plus(load);
        if !of_country.fits(self.most_of_one) {
            return Err(OverloadBound::ParticipantShare);
        }
        if total.batches > self.most.batches {
            return Err(OverloadBound::Batches);
        }
        if total.bytes > self.most.bytes {
            return Err(OverloadBound::Bytes);
        }
        in_flight.total = total;
        in_flight.by_country.insert(country, of_country);
        Ok(())
    }

    fn give_back(&self, country: Country, load: Load) {
        let mut in_flight = self.lock();
        in_flight.total = in_flight.total.minus(load);
        if let Some(of_country) = in_flight.by_country.get_mut(&country) {
            *of_country = of_country.minus(load);
            if of_country.batches == 0 {
                in_flight.by_country.remove(&country);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock_ignoring_poison()
    }
}

impl Load {
    fn plus(self, other: Self) -> Self {
        Self {
            batches: self.batches.saturating_add(other.batches),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        debug_assert!(other.fits(self), "only what was taken is given back");
        Self {
            batches: self.batches.saturating_sub(other.batches),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    fn fits(self, bound: Self) -> bool {
        self.batches <= bound.batches && self.bytes <= bound.bytes
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "bytes in flight are far below 2^53"
)]
fn as_gauge(bytes: usize) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn country(index: u8) -> Country {
        Country::parse(&format!("A{}", char::from(b'A' + index % 26))).unwrap()
    }

    fn bound_of(refused: Result<Permit, Overload>) -> OverloadBound {
        refused.unwrap_err().bound
    }

    #[test]
    fn gives_back_on_drop_and_on_shrinking() {
        let admission = Admission::new(8, 4000);
        let mut permit = admission.admit(country(0), 1000).unwrap();
        assert_eq!(
            (admission.batches_in_flight(), admission.bytes_in_flight()),
            (1, 1000)
        );
        permit.shrink_to(300);
        assert_eq!((permit.bytes(), admission.bytes_in_flight()), (300, 300));
        permit.shrink_to(900);
        assert_eq!((permit.bytes(), admission.bytes_in_flight()), (300, 300));
        drop(permit);
        assert_eq!(
            (admission.batches_in_flight(), admission.bytes_in_flight()),
            (0, 0)
        );
    }

    #[test]
    fn names_the_bound_that_is_reached() {
        let admission = Admission::new(4, 400);
        let _one = admission.admit(country(0), 100).unwrap();
        let share = OverloadBound::ParticipantShare;
        assert_eq!(bound_of(admission.admit(country(0), 0)), share);
        assert_eq!(bound_of(admission.admit(country(1), 101)), share);
        let _others: Vec<_> = (1..4)
            .map(|at| admission.admit(country(at), 10).unwrap())
            .collect();
        assert_eq!(
            bound_of(admission.admit(country(9), 1)),
            OverloadBound::Batches
        );

        let admission = Admission::new(100, 400);
        let _four: Vec<_> = (0..4)
            .map(|at| admission.admit(country(at), 100).unwrap())
            .collect();
        let refused = admission.admit(country(4), 1).unwrap_err();
        assert_eq!(
            (refused.bound, refused.retry_after),
            (OverloadBound::Bytes, std::time::Duration::from_secs(1))
        );
    }

    #[test]
    fn leaves_room_for_others_when_one_country_floods() {
        let admission = Admission::default();
        let mut flood = Vec::new();
        flood.extend((0..1000).filter_map(|_| admission.admit(country(0), 100_000).ok()));
        assert_eq!(
            flood.len(),
            limits::BATCHES_IN_FLIGHT_MAX / limits::PARTICIPANT_SHARE_DIVISOR
        );
        let others: Vec<_> = (1..4)
            .map(|at| admission.admit(country(at), limits::UPLOAD_BODY_BYTES_MAX))
            .collect();
        assert!(others.iter().all(Result::is_ok));
    }

    #[test]
    fn counts_right_from_many_threads() {
        let admission = Admission::new(16, 1600);
        std::thread::scope(|scope| {
            for at in 0..8 {
                let admission = &admission;
                scope.spawn(move || {
                    for _ in 0..500 {
                        if let Ok(mut permit) = admission.admit(country(at), 100) {
                            permit.shrink_to(50);
                        }
                        assert!(admission.batches_in_flight() <= 16);
                        assert!(admission.bytes_in_flight() <= 1600);
                    }
                });
            }
        });
        let in_flight = admission.0.lock();
        assert_eq!(in_flight.total, Load::default());
        assert!(in_flight.by_country.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Admit(u8, usize),
        Shrink(usize, usize),
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0u8..6, 0usize..400).prop_map(|(country, bytes)| Step::Admit(country, bytes)),
            1 => (any::<usize>(), 0usize..400).prop_map(|(at, bytes)| Step::Shrink(at, bytes)),
            2 => any::<usize>().prop_map(Step::Drop),
        ]
    }

    proptest! {
        /// Against the plain list of permits that are held.
        #[test]
        fn admits_exactly_what_fits(
            batches_max in 1usize..20,
            bytes_max in 1usize..2000,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let admission = Admission::new(batches_max, bytes_max);
            let share_batches = (batches_max / 4).max(1);
            let share_bytes = (bytes_max / 4).max(1);
            let mut held: Vec<Permit> = Vec::new();
            for step in steps {
                match step {
                    Step::Admit(of, bytes) => {
                        let sum = |permits: &[&Permit]| permits.iter().map(|p| p.bytes()).sum::<usize>();
                        let all: Vec<&Permit> = held.iter().collect();
                        let own: Vec<&Permit> =
                            held.iter().filter(|p| p.country == country(of)).collect();
                        let fits = all.len() < batches_max
                            && sum(&all) + bytes <= bytes_max
                            && own.len() < share_batches
                            && sum(&own) + bytes <= share_bytes;
                        let admitted = admission.admit(country(of), bytes);
                        prop_assert_eq!(admitted.is_ok(), fits);
                        held.extend(admitted);
                    }
                    Step::Shrink(at, bytes) if !held.is_empty() => {
                        let at = at % held.len();
                        held[at].shrink_to(bytes);
                    }
                    Step::Drop(at) if !held.is_empty() => {
                        drop(held.swap_remove(at % held.len()));
                    }
                    Step::Shrink(..) | Step::Drop(_) => {}
                }
                prop_assert_eq!(admission.batches_in_flight(), held.len());
                let bytes: usize = held.iter().map(Permit::bytes).sum();
                prop_assert_eq!(admission.bytes_in_flight(), bytes);
            }
            held.clear();
            prop_assert_eq!(admission.0.lock().total, Load::default());
            prop_assert!(admission.0.lock().by_country.is_empty());
        }
    }
}

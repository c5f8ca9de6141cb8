//! The participants of a run.

use std::cmp::Reverse;
use std::path::Path;
use std::sync::Arc;

use super::error::LoadError;
use crate::client::{Caller, Protocol};
use crate::participants::{self, Participant};
use crate::profiles::{Distribution, Profiles};

/// The participants of a run with their clients, the most populous first.
#[derive(Debug)]
pub struct Participants {
    /// Make and sign uploads; empty when the uploads are already made.
    pub(super) identities: Arc<Vec<Participant>>,
    pub(super) callers: Vec<Arc<Caller>>,
    /// Clients that authenticate with the certificate that signs.
    pub(super) wrong_callers: Vec<Arc<Caller>>,
    pub(super) weights: Vec<u64>,
}

impl Participants {
    /// Reads the folder that `efgs init` writes, and keeps the `count` most populous participants:
    /// all of them, when there are fewer.
    ///
    /// # Errors
    /// When a file is missing or malformed.
    pub fn read(
        pki: &Path,
        count: usize,
        distribution: Distribution,
        protocol: Protocol,
    ) -> Result<Self, LoadError> {
        let profiles = Profiles::shipped()?;
        let server_ca = participants::read_server_ca(pki)?;
        let mut chosen = participants::read(pki)?;
        chosen.sort_by_key(|someone| (Reverse(profiles.people(someone.country)), someone.country));
        chosen.truncate(count);
        let caller = |someone: &Participant| Caller::new(someone, &server_ca, protocol);
        let wrong_caller = |someone: &Participant| {
            let folder = pki.join(someone.country.as_str());
            let signing = participants::read_identity(&folder, "signing")?;
            let caller = Caller::with_identity(someone.country, &signing, &server_ca, protocol);
            Ok::<_, LoadError>(Arc::new(caller?))
        };
        let weight = |someone: &Participant| match distribution {
            Distribution::Population => profiles.people(someone.country),
            Distribution::Even => 1,
        };
        Ok(Self {
            callers: chosen
                .iter()
                .map(|someone| caller(someone).map(Arc::new))
                .collect::<Result<_, _>>()?,
            wrong_callers: chosen.iter().map(wrong_caller).collect::<Result<_, _>>()?,
            weights: chosen.iter().map(weight).collect(),
            identities: Arc::new(chosen),
        })
    }

    /// Clients that send what is already made and signed.
    pub(super) fn of(callers: &[Arc<Caller>]) -> Self {
        Self {
            weights: vec![1; callers.len()],
            wrong_callers: Vec::new(),
            callers: callers.to_vec(),
            identities: Arc::default(),
        }
    }

    /// The participant of one country alone.
    pub(crate) fn only(self, country: &str) -> Self {
        let is_it = |caller: &&Arc<Caller>| caller.country.as_str() == country;
        let is_its = |someone: &Participant| someone.country.as_str() == country;
        // Nobody else has them yet.
        let identities = Arc::into_inner(self.identities).unwrap_or_default();
        Self {
            callers: self.callers.iter().filter(is_it).cloned().collect(),
            wrong_callers: Vec::new(),
            weights: vec![1],
            identities: Arc::new(identities.into_iter().filter(is_its).collect()),
        }
    }

    /// Number of participants.
    pub fn len(&self) -> usize {
        self.callers.len()
    }

    /// Whether there are no participants.
    pub fn is_empty(&self) -> bool {
        self.callers.is_empty()
    }
}

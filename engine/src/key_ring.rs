//! The keys of an installation, as its database names them: check values of all of them are in
//! `installation`, so that gateways with other keys, or without one of them, are found out.
//!
//! - *In*: the keys of this gateway, the rows of `installation`.
//! - *Out*: which sealing keys this gateway lacks: it cannot open what others seal with them.
//! - *Refuses*: keys that are not the installation's ([`WrongKey`], [`StartError::UnfitKeys`]).
//! - *Runs on*: the start, the `trust` thread, and the command line and reload, which read the key file again.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::database::{Database, SqlError};
use crate::failure::{StartError, WrongKey};
use crate::seal::Keys;
use crate::store::{IDENTITY_KEY, SealingKeyRow, Store, sealing_key_name};

/// The sealing keys of this gateway beside those of the installation.
#[derive(Debug)]
pub(crate) struct KeyRing {
    keys: Keys,
    /// Ascending.
    missing: ArcSwap<Vec<u32>>,
}

impl KeyRing {
    pub(crate) fn load(keys: &Keys, store: &mut Store) -> Result<Self, SqlError> {
        let ring = Self {
            keys: keys.clone(),
            missing: ArcSwap::default(),
        };
        ring.refresh(store)?;
        Ok(ring)
    }

    /// Ids of the sealing keys that other gateways know and this one does not.
    pub(crate) fn missing(&self) -> Arc<Vec<u32>> {
        self.missing.load_full()
    }

    /// Looks which keys the installation has by now.
    pub(crate) fn refresh(&self, store: &mut Store) -> Result<(), SqlError> {
        let missing = missing_keys(&self.keys, store)?;
        if **self.missing.load() != missing {
            match missing.as_slice() {
                [] => tracing::info!("all sealing keys of the installation are configured"),
                ids => tracing::error!(
                    ?ids,
                    "sealing keys of the installation are missing here: copy the key file from the \
                     gateway where it was rotated"
                ),
            }
            self.missing.store(Arc::new(missing));
        }
        Ok(())
    }
}

/// Ids of the sealing keys that the installation has and these keys lack, ascending.
pub(crate) fn missing_keys(keys: &Keys, store: &mut Store) -> Result<Vec<u32>, SqlError> {
    let own = keys.sealing_checks();
    let is_missing =
        |row: &SealingKeyRow| !row.is_retired() && own.iter().all(|(id, _)| *id != row.id);
    let rows = store.sealing_keys()?.into_iter();
    let mut missing: Vec<_> = rows.filter(is_missing).map(|row| row.id).collect();
    missing.sort_unstable();
    Ok(missing)
}

/// Refuses keys that are not those of the database. Only reads.
pub(crate) fn check_keys(
    keys: &Keys,
    store: &mut Store,
    database: &Database,
) -> Result<(), StartError> {
    for (name, check) in checks(keys) {
        let agreed = store
            .installation_value(&name)
            .map_err(|error| database.unreachable(error))?;
        if let Some(agreed) = agreed {
            check_agreed(keys, &name, &agreed, &check)?;
        }
    }
    Ok(())
}

/// All gateways of an installation have the same identity key, and know the same sealing keys.
pub(crate) fn agree_on_keys(
    keys: &Keys,
    store: &mut Store,
    database: &Database,
) -> Result<(), StartError> {
    for (name, check) in checks(keys) {
        let agreed = store
            .agree_on(&name, &check)
            .map_err(|error| database.unreachable(error))?;
        check_agreed(keys, &name, &agreed, &check)?;
    }
    Ok(())
}

/// Check values of keys, by name.
fn checks(keys: &Keys) -> Vec<(String, [u8; 32])> {
    let sealing = keys.sealing_checks().into_iter();
    let sealing = sealing.map(|(id, check)| (sealing_key_name(id), check));
    let identity = (IDENTITY_KEY.to_owned(), keys.identity_check());
    std::iter::once(identity).chain(sealing).collect()
}

/// A retired key may still stand in a key file, but no longer seal: gateways that do not have it any
/// more could not open what it seals.
fn check_agreed(
    keys: &Keys,
    name: &str,
    agreed: &[u8],
    check: &[u8; 32],
) -> Result<(), StartError> {
    if agreed == check {
        return Ok(());
    }
    if !SealingKeyRow::is_retired_value(agreed) {
        return Err(WrongKey(name.to_owned()).into());
    }
    if name == sealing_key_name(keys.newest_sealing_key()) {
        return Err(StartError::UnfitKeys(format!(
            "the {name} configured is retired, and a newer one seals: copy the key file from the \
             gateway where it was rotated"
        )));
    }
    Ok(())
}

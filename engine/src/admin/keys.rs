//! Sealing keys that are no longer needed.

use crate::failure::{DatabaseError, WrongKey};
use crate::seal::Keys;
use crate::store::{IDENTITY_KEY, SealingKeyRow, Store};

/// Why a sealing key is not retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// The key file is another installation's.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
    /// Neither the key file nor the database knows the key.
    #[error("there is no key {0}: efgs key list shows all keys")]
    Unknown(u32),
    /// It is the key that seals.
    #[error("key {0} seals: rotate first with efgs key rotate")]
    Seals(u32),
    /// The next rotation makes it seal.
    #[error("key {0} stands by: the next efgs key rotate makes it seal")]
    StandsBy(u32),
    /// The log has uploads that only this key opens.
    #[error(
        "{uploads} stored uploads are sealed with key {id}: they are deleted in the night after they are older \
         than [download] max_age_days; try again then"
    )]
    InUse {
        /// The key.
        id: u32,
        /// How many.
        uploads: u64,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

pub(super) fn retire(store: &mut Store, keys: &Keys, id: u32) -> Result<(), RetireError> {
    let failed = |error: crate::database::SqlError| error.doing("retiring a sealing key");
    let agreed = store.installation_value(IDENTITY_KEY).map_err(failed)?;
    if agreed.is_some_and(|agreed| agreed != keys.identity_check()) {
        return Err(WrongKey(IDENTITY_KEY.to_owned()).into());
    }
    let sealing = keys.newest_sealing_key();
    let is_configured = keys.sealing_checks().iter().any(|(known, _)| *known == id);
    let rows = store.sealing_keys().map_err(failed)?;
    let is_named = rows.iter().any(|row: &SealingKeyRow| row.id == id);
    match id.cmp(&sealing) {
        _ if !is_configured && !is_named => return Err(RetireError::Unknown(id)),
        std::cmp::Ordering::Equal => return Err(RetireError::Seals(id)),
        std::cmp::Ordering::Greater => return Err(RetireError::StandsBy(id)),
        std::cmp::Ordering::Less => {}
    }
    match store.count_sealed_with(id).map_err(failed)? {
        0 => Ok(store.retire_sealing_key(id).map_err(failed)?),
        uploads => Err(RetireError::InUse { id, uploads }),
    }
}

//! Withdrawing one upload: its keys are no longer served (decision 33).

use crate::clock::{Clock, SystemClock};
use crate::database::SqlError;
use crate::domain::{BatchTag, Country, Day, UploadTag};
use crate::failure::{DatabaseError, WrongKey};
use crate::seal::Keys;
use crate::store::{Store, Withdrawal, WithdrawalError, WithdrawalRequest};

/// Longest reason, in characters.
const REASON_CHARACTERS_MAX: usize = 200;

/// Attempts against others that withdraw at the same time.
const ATTEMPTS_MAX: u32 = 8;

/// What was withdrawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// Position of the upload in the log.
    pub position: u64,
    /// Number of its keys.
    pub key_count: u32,
    /// The download batch that it is in, if it was cut.
    pub batch: Option<BatchTag>,
    /// Whether it was withdrawn before.
    pub was_withdrawn: bool,
}

/// Why nothing was withdrawn.
#[derive(Debug, thiserror::Error)]
pub enum WithdrawError {
    /// A reason is for people.
    #[error("give a reason of 1 to {REASON_CHARACTERS_MAX} characters on one line")]
    Reason,
    /// There is no such upload, or its tag was freed and not used since.
    #[error(
        "the log has no upload {tag} of {country}: check the tag, and efgs stats --withdrawals \
         whether it was freed"
    )]
    Unknown {
        /// The uploader.
        country: Country,
        /// The tag.
        tag: UploadTag,
    },
    /// Gateways would take it for another participant's.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
    /// The withdrawals are not as they were written, or what was written was changed at once.
    #[error(
        "nothing is withdrawn for certain: {0}; look at it with efgs db verify, and at the triggers \
         of the database"
    )]
    Changed(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

pub(super) fn withdraw(
    store: &mut Store,
    keys: &Keys,
    upload: (Country, &UploadTag),
    reason: &str,
    free: bool,
) -> Result<Withdrawn, WithdrawError> {
    let characters = reason.trim().chars();
    let count = characters.clone().count();
    if !(1..=REASON_CHARACTERS_MAX).contains(&count) || characters.clone().any(char::is_control) {
        return Err(WithdrawError::Reason);
    }
    let doing = |error: SqlError| error.doing("withdrawing an upload");
    let (country, tag) = upload;
    let accepted = store.accepted().map_err(doing)?;
    let request = WithdrawalRequest {
        country,
        tag,
        reason: reason.trim(),
        free,
        now: SystemClock.now(),
    };
    let mut tries = 0;
    let found = loop {
        tries += 1;
        match store.withdraw(keys.chain(), &accepted, &request) {
            Err(WithdrawalError::Database(SqlError::Duplicate(_) | SqlError::Conflict(_)))
                if tries < ATTEMPTS_MAX => {}
            Err(WithdrawalError::Database(error)) => return Err(doing(error).into()),
            Err(WithdrawalError::Fault(fault)) => {
                return Err(WithdrawError::Changed(fault.to_string()));
            }
            Ok(found) => break found,
        }
    };
    let Some(found) = found else {
        let tag = tag.clone();
        return Err(WithdrawError::Unknown { country, tag });
    };
    Ok(Withdrawn {
        position: found.seq.0,
        key_count: found.key_count,
        batch: store.batch_of(found.seq).map_err(doing)?,
        was_withdrawn: found.is_withdrawn,
    })
}

/// What was withdrawn on these days, in order, no matter who wrote it.
pub(super) fn withdrawals(
    store: &mut Store,
    from: Day,
    to: Day,
) -> Result<Vec<Withdrawal>, DatabaseError> {
    let list = store.withdrawal_list();
    let list = list.map_err(|error| error.doing("reading the withdrawals"))?;
    let mut rows = list.into_readable();
    rows.retain(|row| (from..=to).contains(&row.withdrawn_at.day()));
    Ok(rows)
}

//! The log as a hash chain: anyone who can write the database but lacks the key cannot change, move,
//! insert or delete rows undetected.
//!
//! - *In*: the columns of a row of the log, of a download batch or of a withdrawal, and what was
//!   stored with them.
//! - *Out*: a row's [`Link`], a download batch's [`BatchDigest`], a [`WithdrawalDigest`]; or a
//!   `Mismatch`.
//! - *Refuses*: rows that were changed, do not follow the one before them, or have lost their link.
//! - *Assumes*: the identity key of the installation is secret. Rows from before the chain carry no
//!   link, and come first. What ends a log too early shows no mismatch: `continuity` notices that.
//! - *Runs on*: a CPU job (columns), the commit thread (links), any thread that reads rows.
//!
//! A link is HMAC-SHA-256 over the link before it, the position and a digest of the columns, which a
//! CPU job makes while the position is unknown: the commit thread adds four blocks of SHA-256 per
//! upload. The columns are hashed by HMAC as well, apart from the two that are long: identities
//! and batch signature go through GHASH (AES-256-GCM with nothing but associated data) first. Its
//! result never leaves the HMAC, so that one nonce for all of them gives nothing away: a universal
//! hash, and a pseudo-random function over it. Weighed against HMAC over the identities
//! themselves: 10 to 50 ns per key, by whether the processor has instructions for SHA-256, where
//! GHASH takes about 2.

mod key;
mod walk;
mod withdrawals;

pub(crate) use key::{
    BatchColumns, BatchDigest, ChainKey, ColumnsDigest, Link, LinkDigest, LogColumns,
    WithdrawalColumns, WithdrawalDigest,
};
pub(crate) use walk::{Accepted, BatchUploads, BatchWalk, Broken, LogWalk};
pub(crate) use withdrawals::{WithdrawalMark, WithdrawalMismatch, WithdrawalWalk};

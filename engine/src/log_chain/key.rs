//! The key of the chain, and what is computed with it.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;

use crate::domain::{
    BatchTag, ContentDigest, Country, KeyIdentity, Seq, Thumbprint, UnixMillis, UploadTag,
};

/// Keyed digest of a row and all rows before it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct LinkDigest(pub(crate) [u8; 32]);

/// Keyed digest of the columns of a row, wherever it stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ColumnsDigest(pub(crate) [u8; 32]);

/// Keyed digest of a download batch and the link of its last row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchDigest(pub(crate) [u8; 32]);

/// Keyed digest of a withdrawal and all before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct WithdrawalDigest(pub(crate) [u8; 32]);

/// What a row of the log carries of the chain.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) digest: LinkDigest,
    /// Beside the digest that covers it, so that the order of rows can be checked without reading
    /// their identities.
    pub(crate) columns: ColumnsDigest,
}

impl Link {
    /// As it is stored: the digest, then that of the columns.
    pub(crate) fn to_bytes(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.digest.0);
        bytes[32..].copy_from_slice(&self.columns.0);
        bytes
    }

    /// Reads what [`Self::to_bytes`] returns.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (digest, columns) = bytes.split_first_chunk()?;
        Some(Self {
            digest: LinkDigest(*digest),
            columns: ColumnsDigest(columns.try_into().ok()?),
        })
    }
}

/// The columns of a row of the log, apart from its position and its sealed keys, which
/// authenticate themselves and are deleted earlier.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogColumns<'a> {
    pub(crate) created_at: UnixMillis,
    pub(crate) country: Country,
    pub(crate) tag: &'a UploadTag,
    pub(crate) key_count: u32,
    pub(crate) format_version: u64,
    pub(crate) uploader: &'a Thumbprint,
    pub(crate) signer: &'a Thumbprint,
    pub(crate) content: &'a ContentDigest,
    pub(crate) batch_signature: &'a str,
    pub(crate) identities: &'a [KeyIdentity],
}

/// The columns of a download batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchColumns {
    pub(crate) ordinal: u64,
    pub(crate) tag: BatchTag,
    pub(crate) seqs: RangeInclusive<u64>,
    pub(crate) key_count: u64,
}

/// The columns of a withdrawal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WithdrawalColumns<'a> {
    pub(crate) number: u64,
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) tag: &'a UploadTag,
    pub(crate) key_count: u32,
    pub(crate) is_freed: bool,
    pub(crate) withdrawn_at: UnixMillis,
    pub(crate) reason: &'a str,
}

/// Makes and checks the digests. One per installation, since it comes from the identity key.
#[derive(Clone)]
pub(crate) struct ChainKey(Arc<Secrets>);

struct Secrets {
    mac: hmac::Key,
    ghash: LessSafeKey,
}

impl ChainKey {
    /// From two secrets that are used for nothing else.
    pub(crate) fn new(mac: &[u8; 32], ghash: &[u8; 32]) -> Self {
        let ghash = UnboundKey::new(&AES_256_GCM, ghash).expect("a secret has the cipher's length");
        Self(Arc::new(Secrets {
            mac: hmac::Key::new(hmac::HMAC_SHA256, mac),
            ghash: LessSafeKey::new(ghash),
        }))
    }

    /// The digest of a row's columns.
    pub(crate) fn columns(&self, row: &LogColumns<'_>) -> ColumnsDigest {
        let mut mac = self.begin(b"columns of an upload");
        for number in [
            row.created_at.0,
            u64::from(row.key_count),
            row.format_version,
            row.identities.len() as u64,
            row.batch_signature.len() as u64,
        ] {
            mac.update(&number.to_be_bytes());
        }
        mac.update(&row.country.letters());
        mac.update(&row.uploader.0);
        mac.update(&row.signer.0);
        mac.update(&row.content.0);
        mac.update(&self.ghash(row.identities, row.batch_signature));
        // The only part of variable length, so it comes last.
        mac.update(row.tag.as_str().as_bytes());
        ColumnsDigest(finish(mac))
    }

    /// The digest of a row at a position after the row that `before` belongs to; the first of the
    /// chain follows none.
    pub(crate) fn link(
        &self,
        before: Option<LinkDigest>,
        seq: Seq,
        columns: ColumnsDigest,
    ) -> Link {
        let mut mac = self.begin(b"link");
        mac.update(&before.map_or([0; 32], |before| before.0));
        mac.update(&seq.0.to_be_bytes());
        mac.update(&columns.0);
        Link {
            digest: LinkDigest(finish(mac)),
            columns,
        }
    }

    /// The digest of a download batch, whose last row has this link, if it is in the chain.
    pub(crate) fn batch(&self, batch: &BatchColumns, last: Option<LinkDigest>) -> BatchDigest {
        let mut mac = self.begin(b"download batch");
        for number in [
            batch.ordinal,
            u64::from(batch.tag.day.compact_number()),
            u64::from(batch.tag.number),
            *batch.seqs.start(),
            *batch.seqs.end(),
            batch.key_count,
        ] {
            mac.update(&number.to_be_bytes());
        }
        mac.update(&last.map_or([0; 32], |last| last.0));
        BatchDigest(finish(mac))
    }

    /// The digest of a withdrawal after another; the first follows none.
    pub(crate) fn withdrawal(
        &self,
        before: Option<WithdrawalDigest>,
        row: &WithdrawalColumns<'_>,
    ) -> WithdrawalDigest {
        let mut mac = self.begin(b"withdrawal");
        mac.update(&before.map_or([0; 32], |before| before.0));
        for number in [
            row.number,
            row.seq.0,
            u64::from(row.key_count),
            u64::from(row.is_freed),
            row.withdrawn_at.0,
            row.reason.len() as u64,
        ] {
            mac.update(&number.to_be_bytes());
        }
        mac.update(&row.country.letters());
        mac.update(row.reason.as_bytes());
        mac.update(row.tag.as_str().as_bytes());
        WithdrawalDigest(finish(mac))
    }

    /// Vouches for the last withdrawal: there is none after it.
    pub(crate) fn end_of_withdrawals(
        &self,
        number: u64,
        last: Option<WithdrawalDigest>,
    ) -> [u8; 32] {
        let mut mac = self.begin(b"end of withdrawals");
        mac.update(&number.to_be_bytes());
        mac.update(&last.map_or([0; 32], |last| last.0));
        finish(mac)
    }

    /// Vouches for a mark of retention: it has deleted rows up to a position, the last of which had
    /// this link.
    pub(crate) fn forgotten(&self, to: Seq, last: Option<LinkDigest>) -> [u8; 32] {
        let mut mac = self.begin(b"forgotten");
        mac.update(&to.0.to_be_bytes());
        mac.update(&last.map_or([0; 32], |last| last.0));
        finish(mac)
    }

    /// What stands for a row that does not fit, exactly as it is: an operator can accept it.
    pub(super) fn acceptance(&self, of: &[u8], number: u64, parts: &[&[u8; 32]]) -> [u8; 32] {
        let mut mac = self.begin(of);
        mac.update(&number.to_be_bytes());
        for part in parts {
            mac.update(*part);
        }
        finish(mac)
    }

    /// No label begins with another one and what may follow it, since all have a length in front.
    fn begin(&self, label: &[u8]) -> hmac::Context {
        let mut mac = hmac::Context::with_key(&self.0.mac);
        mac.update(&(label.len() as u64).to_be_bytes());
        mac.update(label);
        mac
    }

    fn ghash(&self, identities: &[KeyIdentity], batch_signature: &str) -> [u8; 16] {
        let mut bytes = Vec::with_capacity(size_of_val(identities) + batch_signature.len());
        for identity in identities {
            bytes.extend_from_slice(&identity.0);
        }
        bytes.extend_from_slice(batch_signature.as_bytes());
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let tag = self
            .0
            .ghash
            .seal_in_place_separate_tag(nonce, Aad::from(&bytes), &mut []);
        let tag = tag.expect("a row is far below what the cipher can take");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }
}

fn finish(mac: hmac::Context) -> [u8; 32] {
    let tag = mac.sign();
    tag.as_ref().try_into().expect("SHA-256 gives 32 bytes")
}

/// Does not show the key.
impl fmt::Debug for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChainKey(..)")
    }
}

/// Its bytes say nothing to people.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link(..)")
    }
}

impl fmt::Debug for LinkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkDigest(..)")
    }
}

impl fmt::Debug for WithdrawalDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WithdrawalDigest(..)")
    }
}

impl fmt::Debug for ColumnsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ColumnsDigest(..)")
    }
}

impl fmt::Debug for BatchDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BatchDigest(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Day;

    fn key() -> ChainKey {
        ChainKey::new(&[1; 32], &[2; 32])
    }

    fn columns_of(change: impl FnOnce(&mut LogColumns<'_>)) -> ColumnsDigest {
        let (tag, thumbprint, content) = (
            UploadTag::parse("a").unwrap(),
            Thumbprint([1; 32]),
            ContentDigest([2; 32]),
        );
        let mut row = LogColumns {
            created_at: UnixMillis(1_602_028_800_000),
            country: Country::parse("DE").unwrap(),
            tag: &tag,
            key_count: 2,
            format_version: 256,
            uploader: &thumbprint,
            signer: &thumbprint,
            content: &content,
            batch_signature: "MIIB",
            identities: &[KeyIdentity([3; 16]), KeyIdentity([4; 16])],
        };
        change(&mut row);
        key().columns(&row)
    }

    #[test]
    fn a_mark_of_retention_holds_for_one_position_and_one_last_link() {
        let mark = |to, link: Option<u8>| {
            let link = link.map(|octet| LinkDigest([octet; 32]));
            key().forgotten(Seq(to), link)
        };
        assert_eq!(mark(7, Some(1)), mark(7, Some(1)));
        for other in [mark(8, Some(1)), mark(7, Some(2)), mark(7, None)] {
            assert_ne!(mark(7, Some(1)), other);
        }
    }

    #[test]
    fn differs_wherever_one_column_does() {
        let changes: [fn(&mut LogColumns<'_>); 12] = [
            |row| row.created_at = row.created_at.plus_millis(1),
            |row| row.country = Country::parse("FR").unwrap(),
            |row| row.key_count = 3,
            |row| row.format_version = 257,
            |row| row.uploader = &Thumbprint([9; 32]),
            |row| row.signer = &Thumbprint([9; 32]),
            |row| row.content = &ContentDigest([9; 32]),
            |row| row.batch_signature = "MIIC",
            |row| row.identities = &[KeyIdentity([4; 16]), KeyIdentity([3; 16])],
            |row| row.identities = &[KeyIdentity([3; 16])],
            |row| row.identities = &[],
            // What one column loses, the other gains.
            |row| {
                row.identities = &[KeyIdentity([3; 16])];
                row.batch_signature = "\u{4}\u{4}\u{4}\u{4}\u{4}\u{4}\u{4}\u{4}\
                    \u{4}\u{4}\u{4}\u{4}\u{4}\u{4}\u{4}\u{4}MIIB";
            },
        ];
        let unchanged = columns_of(|_| {});
        assert_eq!(columns_of(|_| {}), unchanged);
        for (at, change) in changes.into_iter().enumerate() {
            assert_ne!(columns_of(change), unchanged, "change {at}");
        }
        let other = UploadTag::parse("b").unwrap();
        let key = key();
        let changed = {
            let (thumbprint, content) = (Thumbprint([1; 32]), ContentDigest([2; 32]));
            key.columns(&LogColumns {
                created_at: UnixMillis(1_602_028_800_000),
                country: Country::parse("DE").unwrap(),
                tag: &other,
                key_count: 2,
                format_version: 256,
                uploader: &thumbprint,
                signer: &thumbprint,
                content: &content,
                batch_signature: "MIIB",
                identities: &[KeyIdentity([3; 16]), KeyIdentity([4; 16])],
            })
        };
        assert_ne!(changed, unchanged, "the tag");
    }

    #[test]
    fn links_to_what_is_before_and_to_the_position() {
        let key = key();
        let columns = columns_of(|_| {});
        let first = key.link(None, Seq(1), columns);
        let others = [
            key.link(None, Seq(2), columns),
            key.link(Some(first.digest), Seq(1), columns),
            key.link(None, Seq(1), columns_of(|row| row.key_count = 3)),
            ChainKey::new(&[1; 32], &[3; 32]).link(None, Seq(1), ColumnsDigest([0; 32])),
            ChainKey::new(&[3; 32], &[2; 32]).link(None, Seq(1), columns),
        ];
        for (at, other) in others.into_iter().enumerate() {
            assert_ne!(other.digest, first.digest, "{at}");
        }
        assert_eq!(Link::from_bytes(&first.to_bytes()), Some(first));
        assert_eq!(Link::from_bytes(&first.to_bytes()[1..]), None);
    }

    #[test]
    fn covers_a_whole_download_batch() {
        let key = key();
        let day = Day::parse_iso("2020-10-07").unwrap();
        let batch = BatchColumns {
            ordinal: 2,
            tag: BatchTag { day, number: 1 },
            seqs: 3..=4,
            key_count: 5,
        };
        let last = Some(LinkDigest([1; 32]));
        let unchanged = key.batch(&batch, last);
        let changes: [fn(&mut BatchColumns); 6] = [
            |batch| batch.ordinal = 3,
            |batch| batch.tag.number = 2,
            |batch| batch.tag.day = batch.tag.day.next(),
            |batch| batch.seqs = 2..=4,
            |batch| batch.seqs = 3..=5,
            |batch| batch.key_count = 6,
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = batch.clone();
            change(&mut other);
            assert_ne!(key.batch(&other, last), unchanged, "change {at}");
        }
        assert_ne!(key.batch(&batch, None), unchanged);
    }

    #[test]
    fn covers_a_whole_withdrawal_and_the_one_before_it() {
        let key = key();
        let (tag, other_tag) = (UploadTag::parse("a"), UploadTag::parse("ba"));
        let (tag, other_tag) = (tag.unwrap(), other_tag.unwrap());
        let unchanged = WithdrawalColumns {
            number: 1,
            seq: Seq(2),
            country: Country::parse("DE").unwrap(),
            tag: &tag,
            key_count: 3,
            is_freed: false,
            withdrawn_at: UnixMillis(4),
            reason: "lab",
        };
        let digest = key.withdrawal(None, &unchanged);
        let changes: [fn(&mut WithdrawalColumns<'_>); 7] = [
            |row| row.number = 2,
            |row| row.seq = Seq(1),
            |row| row.country = Country::parse("FR").unwrap(),
            |row| row.key_count = 4,
            |row| row.is_freed = true,
            |row| row.withdrawn_at = UnixMillis(5),
            |row| row.reason = "lad",
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = unchanged;
            change(&mut other);
            assert_ne!(key.withdrawal(None, &other), digest, "change {at}");
        }
        // What the reason loses, the tag gains.
        let moved = WithdrawalColumns {
            tag: &other_tag,
            reason: "la",
            ..unchanged
        };
        assert_ne!(key.withdrawal(None, &moved), digest);
        assert_ne!(key.withdrawal(Some(digest), &unchanged), digest);
        let end = key.end_of_withdrawals(1, Some(digest));
        assert_ne!(key.end_of_withdrawals(2, Some(digest)), end);
        assert_ne!(key.end_of_withdrawals(1, None), end);
    }

    #[test]
    fn never_shows_the_key() {
        assert_eq!(format!("{:?}", key()), "ChainKey(..)");
    }
}

//! Uploads whose keys and tags an operator has freed (decision 33): they leave the set and the tags.
//!
//! The order matters. A gateway that stores a freed key again has read the withdrawal before. So rows of
//! the log are applied only after the withdrawals that were read after them: otherwise the
//! withdrawal of the earlier upload would remove the later upload's keys from the set.

use super::Writer;
use crate::database::SqlError;
use crate::persist::freed_uploads::{Freed, read_freed};

impl Writer {
    /// Looks for withdrawals when that is due.
    pub(super) fn follow_withdrawals(&mut self) {
        if self.store.is_none() || self.continuity.has_gone_back() || !self.freed.is_look_due() {
            return;
        }
        if let Err(error) = self.look_for_withdrawals() {
            self.database
                .log_error("persist", &error, "cannot follow the withdrawals");
            self.store = None;
        }
    }

    fn look_for_withdrawals(&mut self) -> Result<(), SqlError> {
        let Some(store) = self.store.as_mut() else {
            return Ok(());
        };
        let Some(freed) = read_freed(store, &self.continuity, self.freed.applied_to)? else {
            self.store = None;
            return Ok(());
        };
        if !freed.rows.is_empty() {
            store.make_reads_durable()?;
        }
        self.apply_freed(freed);
        Ok(())
    }

    /// Takes freed keys and tags out of memory. Behind our position there are none in it: those of
    /// rows that are read later are left out when they are applied.
    pub(super) fn apply_freed(&mut self, freed: Freed) {
        self.apply_stored();
        for (row, identities) in freed.rows {
            if row.is_freed && row.seq <= self.position && !self.freed.contain(row.seq) {
                self.set.remove(&identities);
                let (seq, country, tag) = (row.seq.0, row.country, row.tag.as_str());
                tracing::info!(stage = "persist", seq, %country, batchTag = tag, "upload freed");
            }
            self.freed.note(&row, &self.state.tags);
        }
        self.freed.applied_to = freed.to;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::continuity::Continuity;
    use crate::database::Database;
    use crate::domain::{
        ContentDigest, Country, FORMAT_VERSION, Thumbprint, UnixMillis, UploadTag,
    };
    use crate::domain::{KeyIdentity, Seq};
    use crate::log_chain::{ChainKey, LogColumns};
    use crate::persist::StartProgress;
    use crate::persist::{AfterCommit, Writer};
    use crate::settings::DatabaseUrl;
    use crate::store::Store;
    use crate::store::{UploadRow, WithdrawalRequest, migrate};

    #[derive(Debug)]
    struct NothingToDo;

    impl AfterCommit for NothingToDo {
        fn stored(&self, _: Seq, _: bytes::Bytes) {}

        fn log_grown(&self) {}
    }

    fn append(store: &mut Store, seq: u64, tag: &UploadTag, identities: &[KeyIdentity]) {
        let (thumbprint, content) = (Thumbprint([1; 32]), ContentDigest([1; 32]));
        let columns = LogColumns {
            created_at: UnixMillis(0),
            country: Country::parse("DE").unwrap(),
            tag,
            key_count: 2,
            format_version: FORMAT_VERSION,
            uploader: &thumbprint,
            signer: &thumbprint,
            content: &content,
            batch_signature: "",
            identities,
        };
        let before = store.link_before(Seq(seq), &chain()).unwrap();
        let row = UploadRow {
            seq: Seq(seq),
            created_at: columns.created_at,
            country: columns.country,
            tag,
            key_count: columns.key_count,
            format_version: columns.format_version,
            uploader: &thumbprint,
            signer: &thumbprint,
            content: &content,
            link: chain().link(before, Seq(seq), chain().columns(&columns)),
            batch_signature: "",
            identities,
            sealed: &[],
        };
        store.append(None, &[row]).unwrap();
    }

    fn chain() -> ChainKey {
        ChainKey::new(&[1; 32], &[2; 32])
    }

    /// Between two looks at the log, keys are freed, stored again by another gateway with one left
    /// out, and another upload that was never seen is freed, too.
    #[test]
    fn keys_that_were_stored_again_behind_a_withdrawal_stay_known() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::new(DatabaseUrl::Sqlite(folder.path().join("db")));
        migrate(&database).unwrap();
        let mut other = Store::open(&database).unwrap();
        let (tag, unseen) = (UploadTag::parse("a"), UploadTag::parse("b"));
        let (tag, unseen) = (tag.unwrap(), unseen.unwrap());
        let [one, two, three] = [1, 2, 3].map(|byte| KeyIdentity([byte; 16]));
        append(&mut other, 1, &tag, &[one, two]);
        let continuity =
            Arc::new(Continuity::start(&database, None, &chain(), &mut other).unwrap());
        let since = UnixMillis(0);
        let after_commit = Box::new(NothingToDo);
        let progress = StartProgress::default();
        let mut writer = Writer::start(
            database,
            &mut other,
            since,
            after_commit,
            continuity,
            &progress,
        )
        .unwrap();
        let known = |writer: &Writer| writer.state.set.find_known(&[one, two, three]);
        assert_eq!(known(&writer), [0, 1]);

        let country = Country::parse("DE").unwrap();
        let withdraw = |store: &mut Store, tag: &UploadTag| {
            let request = WithdrawalRequest {
                country,
                tag,
                reason: "test",
                free: true,
                now: since,
            };
            let found = store.withdraw(&chain(), &Default::default(), &request);
            assert!(found.unwrap().is_some());
        };
        withdraw(&mut other, &tag);
        append(&mut other, 2, &tag.in_use(2), &[one]);
        append(&mut other, 3, &unseen, &[three]);
        withdraw(&mut other, &unseen);
        writer.follow();
        assert_eq!(known(&writer), [0]);
        assert_eq!(writer.position, Seq(3));
        let content = ContentDigest([1; 32]);
        let state = |tag| writer.state.tags.state(country, tag, &content);
        assert_eq!(state(&tag), crate::dedup::TagState::SameContent);
        assert_eq!(state(&unseen), crate::dedup::TagState::Free);
    }
}

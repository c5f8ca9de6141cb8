//! The rules of the protocol, each of which can be disabled: then the checker must find a run that
//! breaks a promise, or the rule is unnecessary.

/// A rule of the protocol. The comment says what happens without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A position holds one row. Without: a later insert replaces the row.
    PrimaryKey,
    /// After a lost race the upload is checked again. Without: it is sent at the next position.
    CheckAgain,
    /// An unknown outcome is not a success: the row is looked for. Without: answers 201.
    LookForOwnRow,
    /// After too many lost races the tail of the log is locked. Without: the gateway keeps racing.
    LockOnTail,
    /// A commit checks that the row before is the one we know. Without: appends behind a hole.
    CommitChecksRow,
    /// Following checks the row at our position. Without: only reads what is newer.
    FollowChecks,
    /// The check compares what identifies the row. Without: any row at the position will do.
    Chain,
    /// The check looks at the newest download batch, too. Without: at the log only.
    CheckCoversBatches,
    /// An answer from memory is given only when the database still has the row at our position.
    /// Without: at once.
    ConfirmBeforeAnswer,
    /// A gateway that notices stops and reports it. Without: it accepts the database's state.
    Stop,
    /// A gateway keeps its state in a file beside the database, and compares it with the database
    /// at start. Without: no file.
    StateFile,
    /// The file has the digest of the newest row. Without: its position only.
    FileHasDigest,
    /// The file has the digest of the newest download batch. Without: its number only.
    FileHasBatch,
    /// The file is written before an upload is answered. Without: when the log is followed next.
    FileBeforeAnswer,
    /// The number of a download batch is in the file before the cut is sent. Without: once it is
    /// cut.
    FileBeforeCut,
    /// A cut is fenced by the lease's token. Without: any gateway that assumes
    /// that it has the lease cuts.
    FenceToken,
    /// The fence compares the holder, too. Without: the token only, which a rolled-back database
    /// gives to another gateway.
    FenceHolder,
    /// A cut goes behind the newest download batch that the cutter knows, or nowhere. Without: adds
    /// its number whatever is there.
    CutBehindNewest,
    /// A cut checks that its rows are those that the cutter knows. Without: takes them for granted.
    CutChecksRows,
    /// A cut checks the epoch. Without: continues with the numbers that the cutter had in mind.
    CutChecksEpoch,
    /// A new epoch skips the numbers that anybody's file remembers. Without: continues after those
    /// of the database.
    RecoveredSkips,
}

impl Rule {
    pub(crate) const ALL: [Self; 21] = [
        Self::PrimaryKey,
        Self::CheckAgain,
        Self::LookForOwnRow,
        Self::LockOnTail,
        Self::CommitChecksRow,
        Self::FollowChecks,
        Self::Chain,
        Self::CheckCoversBatches,
        Self::ConfirmBeforeAnswer,
        Self::Stop,
        Self::StateFile,
        Self::FileHasDigest,
        Self::FileHasBatch,
        Self::FileBeforeAnswer,
        Self::FileBeforeCut,
        Self::FenceToken,
        Self::FenceHolder,
        Self::CutBehindNewest,
        Self::CutChecksRows,
        Self::CutChecksEpoch,
        Self::RecoveredSkips,
    ];
}

impl Rule {
    /// A scenario that shows what the rule is for: the first in which something breaks without it.
    pub(crate) const fn scenario(self) -> &'static str {
        match self {
            Self::PrimaryKey | Self::CheckAgain | Self::LookForOwnRow => "retries",
            Self::LockOnTail => "races",
            Self::FenceToken => "leases",
            Self::FileHasDigest => "the log is rolled back",
            Self::FileHasBatch => "a batch is rolled back",
            Self::FileBeforeCut | Self::FenceHolder | Self::CutChecksEpoch => "numbers go back",
            Self::CommitChecksRow
            | Self::FollowChecks
            | Self::Chain
            | Self::CheckCoversBatches
            | Self::ConfirmBeforeAnswer
            | Self::Stop
            | Self::StateFile
            | Self::FileBeforeAnswer
            | Self::CutBehindNewest
            | Self::CutChecksRows
            | Self::RecoveredSkips => "alone and back",
        }
    }
}

/// The rules in force: all, or all but one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) without: Option<Rule>,
}

impl Rules {
    pub(crate) fn has(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

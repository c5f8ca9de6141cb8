//! The state: a database, gateways with their files, participants, and an observer's notes.

use std::collections::BTreeMap;

use crate::rules::{Rule, Rules};

/// An upload, as an index into [`UPLOADS`].
pub(crate) type Upload = u8;
/// A gateway, by its index.
pub(crate) type Name = u8;

/// What makes two uploads the same, or not.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) tag: u8,
    /// One bit per key.
    pub(crate) keys: u8,
}

/// `B` has the key of `A` under another tag; `C` and `D` share nothing with others.
pub(crate) const UPLOADS: [Content; 4] = [
    Content { tag: 0, keys: 1 },
    Content { tag: 1, keys: 1 },
    Content { tag: 2, keys: 2 },
    Content { tag: 3, keys: 4 },
];
pub(crate) const A: Upload = 0;
pub(crate) const B: Upload = 1;
pub(crate) const C: Upload = 2;
pub(crate) const D: Upload = 3;

/// Rows by position, the first at index 0; nothing in a hole. The digest of a row's chain is
/// a function of all rows up to it: two logs have the same digest at a position if they are equal
/// up to there.
pub(crate) type Log = Vec<Option<Upload>>;

/// A download batch: a number and a range of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Batch {
    pub(crate) number: u8,
    pub(crate) first: u8,
    pub(crate) last: u8,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Lease {
    pub(crate) token: u8,
    pub(crate) holder: Option<Name>,
    pub(crate) has_expired: bool,
}

/// An insert at the position behind `behind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Append {
    pub(crate) upload: Upload,
    /// All that the sender knows to be there.
    pub(crate) behind: Log,
}

/// What the database says to an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Stored,
    Taken,
    /// The row before is not the one that the sender knows.
    GoneBack,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Database {
    pub(crate) log: Log,
    pub(crate) batches: Vec<Batch>,
    pub(crate) lease: Lease,
    pub(crate) epoch: u8,
    /// Numbers of download batches of this epoch begin here, at the earliest.
    pub(crate) first_number: u8,
    pub(crate) locked_by: Option<Name>,
    /// Sent over connections that are gone, and not executed yet.
    pub(crate) late: Vec<Append>,
}

/// The end of what download batches cover.
pub(crate) fn covered(batches: &[Batch]) -> u8 {
    batches.last().map_or(0, |batch| batch.last)
}

pub(crate) fn length(log: &Log) -> u8 {
    u8::try_from(log.len()).expect("short logs")
}

impl Database {
    /// Whether the row at the end of `known` is there and the same.
    pub(crate) fn has_row(&self, known: &Log, rules: Rules) -> bool {
        match known.len() {
            0 => true,
            end if rules.has(Rule::Chain) => self.log.get(..end) == Some(known.as_slice()),
            end => self.log.get(end - 1).is_some_and(Option::is_some),
        }
    }

    pub(crate) fn execute(&mut self, append: &Append, rules: Rules) -> Outcome {
        if rules.has(Rule::CommitChecksRow) && !self.has_row(&append.behind, rules) {
            return Outcome::GoneBack;
        }
        let index = append.behind.len();
        if self.log.get(index).is_some_and(Option::is_some) && rules.has(Rule::PrimaryKey) {
            return Outcome::Taken;
        }
        let len = self.log.len().max(index + 1);
        self.log.resize(len, None);
        self.log[index] = Some(append.upload);
        Outcome::Stored
    }

    pub(crate) fn stores(&self, upload: Upload) -> bool {
        self.log.contains(&Some(upload))
    }
}

/// Whether a key of an upload is in a log.
pub(crate) fn has_a_key_of(log: &Log, upload: Upload) -> bool {
    let keys = |upload: Upload| UPLOADS[usize::from(upload)].keys;
    log.iter()
        .flatten()
        .any(|&stored| keys(stored) & keys(upload) != 0)
}

/// A gateway's progress with its upload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) enum Work {
    #[default]
    Nothing,
    /// A participant's request, to be checked.
    Check(u8),
    Sent(u8, Append),
    /// The database's response, in transit.
    Answered(u8, Append, Outcome),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Run {
    #[default]
    Up,
    Down,
    /// Has noticed that the database was rolled back: waits for the operator.
    Stopped,
}

/// What a gateway stores outside of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct StateFile {
    pub(crate) epoch: u8,
    /// Stands for the newest position and the digest there.
    pub(crate) log: Log,
    /// The newest download batch that the database had: its number and its digest.
    pub(crate) batch: Option<Batch>,
    /// The highest number that was sent to be cut, whether it was or not.
    pub(crate) sent_number: u8,
}

impl StateFile {
    pub(crate) fn number(&self) -> u8 {
        self.batch.map_or(0, |batch| batch.number)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gateway {
    pub(crate) run: Run,
    pub(crate) is_connected: bool,
    /// Stands for the set, the tags, the position and the digest there.
    pub(crate) log: Log,
    /// The catalog.
    pub(crate) batches: Vec<Batch>,
    pub(crate) epoch: u8,
    pub(crate) first_number: u8,
    pub(crate) work: Work,
    pub(crate) lost_races: u8,
    /// The token of the lease that it assumes to hold.
    pub(crate) lease: Option<u8>,
    /// Cut, but not served yet.
    pub(crate) cut: Option<Batch>,
    pub(crate) file: StateFile,
}

/// A participant's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    ToSend,
    At(Name),
    Acknowledged,
    Refused,
}

/// What may still go wrong, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Faults {
    pub(crate) crashes: u8,
    pub(crate) lost_connections: u8,
    /// Of a holder that is up.
    pub(crate) expired_leases: u8,
    pub(crate) going_back: u8,
}

/// A published download batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Published {
    /// One, or the number is forked.
    pub(crate) contents: Vec<Log>,
    /// In which it was published first.
    pub(crate) epoch: u8,
    /// A bit for each gateway that served it.
    pub(crate) by: u8,
}

/// An observer's notes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Onlooker {
    /// A bit for each upload that was answered 201.
    pub(crate) acknowledged: u8,
    /// Uploads that the database had and lost.
    pub(crate) lost: u8,
    pub(crate) went_back: bool,
    /// A gateway has noticed the last rollback and reported it.
    pub(crate) was_told: bool,
    pub(crate) published: BTreeMap<u8, Published>,
    /// A bit for each number with which an epoch began.
    pub(crate) epoch_starts: u16,
    /// A number was given two contents by gateways that could not know better.
    pub(crate) is_forked: bool,
    /// A number was given two contents by one that could.
    pub(crate) has_two_contents: bool,
    /// Refused or confirmed from memory, and stored nowhere.
    pub(crate) answered_wrongly: bool,
    pub(crate) cut_without_lease: bool,
    /// Of the last step only: it says nothing about what can come.
    pub(crate) sight: Option<Sight>,
}

/// What should occur at least once, as a check of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Sight {
    Replay,
    Claim,
    FencedOff,
    /// A row is stored that was sent over a connection that is gone.
    LateRow,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) database: Database,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) requests: Vec<Request>,
    pub(crate) faults: Faults,
    pub(crate) seen: Onlooker,
}

//! What there is: a database, gateways with their files, participants, and what an onlooker noted.

use std::collections::BTreeMap;

use crate::rules::{Rule, Rules};

/// An upload, as an index into [`UPLOADS`].
pub type Upload = u8;
/// A gateway, by its index.
pub type Name = u8;

/// What makes two uploads the same, or not.
#[derive(Debug)]
pub struct Content {
    pub tag: u8,
    /// A bit a key.
    pub keys: u8,
}

/// `B` has the key of `A` under another tag; `C` and `D` share nothing with others.
pub const UPLOADS: [Content; 4] = [
    Content { tag: 0, keys: 1 },
    Content { tag: 1, keys: 1 },
    Content { tag: 2, keys: 2 },
    Content { tag: 3, keys: 4 },
];
pub const A: Upload = 0;
pub const B: Upload = 1;
pub const C: Upload = 2;
pub const D: Upload = 3;

/// Rows by position, the first at index 0; nothing in a hole. The digest of a row's chain is
/// a function of all rows up to it: two logs have the same digest at a position if they are equal up
/// to there.
pub type Log = Vec<Option<Upload>>;

/// A download batch: a number and a range of positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Batch {
    pub number: u8,
    pub first: u8,
    pub last: u8,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Lease {
    pub token: u8,
    pub holder: Option<Name>,
    pub has_expired: bool,
}

/// An insert at the position behind `behind`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Append {
    pub upload: Upload,
    /// All that the sender knows to be there.
    pub behind: Log,
}

/// What the database says to an insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Stored,
    Taken,
    /// The row before is not the one that the sender knows.
    GoneBack,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Database {
    pub log: Log,
    pub batches: Vec<Batch>,
    pub lease: Lease,
    pub epoch: u8,
    /// Numbers of download batches of this epoch begin here, at the earliest.
    pub first_number: u8,
    pub locked_by: Option<Name>,
    /// Sent over connections that are gone, and not executed yet.
    pub late: Vec<Append>,
}

/// The end of what download batches cover.
pub fn covered(batches: &[Batch]) -> u8 {
    batches.last().map_or(0, |batch| batch.last)
}

pub fn length(log: &Log) -> u8 {
    u8::try_from(log.len()).expect("short logs")
}

impl Database {
    /// Whether the row at the end of `known` is there and the same.
    pub fn has_row(&self, known: &Log, rules: Rules) -> bool {
        match known.len() {
            0 => true,
            end if rules.has(Rule::Chain) => self.log.get(..end) == Some(known.as_slice()),
            end => self.log.get(end - 1).is_some_and(Option::is_some),
        }
    }

    pub fn execute(&mut self, append: &Append, rules: Rules) -> Outcome {
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

    pub fn stores(&self, upload: Upload) -> bool {
        self.log.contains(&Some(upload))
    }
}

/// Whether a key of an upload is in a log.
pub fn has_a_key_of(log: &Log, upload: Upload) -> bool {
    let keys = |upload: Upload| UPLOADS[usize::from(upload)].keys;
    log.iter()
        .flatten()
        .any(|&stored| keys(stored) & keys(upload) != 0)
}

/// Where a gateway is with the upload that it works on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Work {
    #[default]
    Nothing,
    /// Of a participant's request, to be judged.
    Judge(u8),
    Sent(u8, Append),
    /// What the database said, on its way back.
    Answered(u8, Append, Outcome),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Run {
    #[default]
    Up,
    Down,
    /// Has noticed that the database went back: waits for the operator.
    Stopped,
}

/// What a gateway remembers outside of the database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct StateFile {
    pub epoch: u8,
    /// Stands for the newest position and the digest there.
    pub log: Log,
    /// The highest number of a download batch that the database had.
    pub number: u8,
    /// The highest number that was sent to be cut, whether it was or not.
    pub sent_number: u8,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Gateway {
    pub run: Run,
    pub is_connected: bool,
    /// Stands for the set, the tags, the position and the digest there.
    pub log: Log,
    /// The catalog.
    pub batches: Vec<Batch>,
    pub epoch: u8,
    pub first_number: u8,
    pub work: Work,
    pub lost_races: u8,
    /// The token of the lease that it believes to have.
    pub lease: Option<u8>,
    /// Cut, but not served yet.
    pub cut: Option<Batch>,
    pub file: StateFile,
}

/// A participant's request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    ToSend,
    At(Name),
    Acknowledged,
    Refused,
}

/// What may still go wrong, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    pub crashes: u8,
    pub lost_connections: u8,
    /// Of a holder that is up.
    pub expired_leases: u8,
    pub going_back: u8,
}

/// A download batch that somebody could fetch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Published {
    /// One, or the number is forked.
    pub contents: Vec<Log>,
    /// In which it was published first.
    pub epoch: u8,
    /// A bit for each gateway that served it.
    pub by: u8,
}

/// What an onlooker notes who sees everything and does nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Onlooker {
    /// A bit for each upload that was answered 201.
    pub acknowledged: u8,
    /// Uploads that the database had and lost.
    pub lost: u8,
    pub went_back: bool,
    /// Since it went back, somebody has noticed and said so.
    pub was_told: bool,
    pub published: BTreeMap<u8, Published>,
    /// A bit for each number with which an epoch began.
    pub epoch_starts: u16,
    /// A number was given two contents by gateways that could not know better.
    pub is_forked: bool,
    /// A number was given two contents by one that could.
    pub has_two_contents: bool,
    /// Refused or confirmed from memory, and stored nowhere.
    pub answered_wrongly: bool,
    pub cut_without_lease: bool,
    /// Of the last step only: it says nothing about what can come.
    pub sight: Option<Sight>,
}

/// What should be seen at least once, for the model's own sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sight {
    Replay,
    Claim,
    FencedOff,
    /// A row is stored that was sent over a connection that is gone.
    LateRow,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    pub database: Database,
    pub gateways: Vec<Gateway>,
    pub requests: Vec<Request>,
    pub faults: Faults,
    pub seen: Onlooker,
}

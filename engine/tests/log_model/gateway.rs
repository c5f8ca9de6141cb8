//! The steps of a gateway.

use crate::model::{LOST_RACES_MAX, Late, Protocol};
use crate::rules::{Rule, Rules};
use crate::state::{
    Append, Batch, Database, Gateway, Lease, Log, Name, Outcome, Published, Request, Run, Sight,
    State, StateFile, Upload, Work, covered, has_a_key_of, length,
};

impl Protocol {
    /// Whether the database is the one that the gateway knows: the row at its position, and the
    /// newest download batch.
    pub(crate) fn is_remembered(&self, database: &Database, gateway: &Gateway) -> bool {
        let known = gateway.batches.as_slice();
        let has_batches = !self.rules.has(Rule::CheckCoversBatches)
            || database.batches.get(..known.len()) == Some(known);
        database.has_row(&gateway.log, self.rules) && has_batches
    }
}

/// A gateway that operates on the state.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    state: &'a mut State,
    name: Name,
    protocol: &'a Protocol,
}

impl<'a> Step<'a> {
    pub(crate) fn new(state: &'a mut State, name: Name, protocol: &'a Protocol) -> Self {
        Self {
            state,
            name,
            protocol,
        }
    }

    fn own(&mut self) -> &mut Gateway {
        &mut self.state.gateways[usize::from(self.name)]
    }

    const fn rules(&self) -> Rules {
        self.protocol.rules
    }

    fn upload_of(&self, request: u8) -> Upload {
        self.protocol.requests[usize::from(request)]
    }

    fn is_remembered(&self) -> bool {
        let gateway = &self.state.gateways[usize::from(self.name)];
        self.protocol.is_remembered(&self.state.database, gateway)
    }

    /// The check of every reconnect, follow and commit. False if the gateway has stopped.
    fn check(&mut self) -> bool {
        if !self.rules().has(Rule::FollowChecks) || self.is_remembered() {
            return true;
        }
        self.notice();
        self.own().run == Run::Up
    }

    /// The database went back.
    fn notice(&mut self) {
        if self.rules().has(Rule::Stop) {
            self.state.seen.was_told = true;
            self.end(Run::Stopped);
        } else {
            let database = self.state.database.clone();
            let own = self.own();
            own.log = database.log;
            own.batches = database.batches;
            own.lease = None;
        }
    }

    fn end(&mut self, run: Run) {
        let name = self.name;
        if let Work::Check(request) | Work::Sent(request, _) | Work::Answered(request, ..) =
            self.own().work
        {
            // No answer: the participant retries, at any gateway.
            self.state.requests[usize::from(request)] = Request::ToSend;
        }
        if self.state.database.locked_by == Some(name) {
            self.state.database.locked_by = None;
        }
        let own = self.own();
        *own = Gateway {
            run,
            epoch: own.epoch,
            file: std::mem::take(&mut own.file),
            ..Gateway::default()
        };
    }

    pub(crate) fn crash(&mut self) {
        if let Work::Sent(_, append) = &self.own().work {
            let append = append.clone();
            self.state.database.late.push(append);
        }
        self.end(Run::Down);
    }

    pub(crate) fn lose_connection(&mut self, late: Late) {
        let name = self.name;
        if self.state.database.locked_by == Some(name) {
            self.state.database.locked_by = None;
        }
        match std::mem::take(&mut self.own().work) {
            Work::Sent(request, append) => {
                if late == Late::Executed {
                    self.state.database.late.push(append);
                }
                self.own().work = Work::Check(request);
                if !self.rules().has(Rule::LookForOwnRow) {
                    self.acknowledge(request);
                }
            }
            Work::Answered(request, ..) => self.own().work = Work::Check(request),
            work => self.own().work = work,
        }
        let own = self.own();
        own.is_connected = false;
        own.lease = None;
        // The download batch, if it was cut, is visible to every gateway.
        own.cut = None;
    }

    pub(crate) fn connect(&mut self) {
        self.own().is_connected = true;
        self.follow();
    }

    /// Reads the log after the gateway's position.
    pub(crate) fn follow(&mut self) {
        if !self.check() {
            return;
        }
        let Database {
            log,
            epoch,
            first_number,
            ..
        } = self.state.database.clone();
        let own = self.own();
        if log.len() > own.log.len() {
            let known = own.log.len();
            own.log.extend_from_slice(&log[known..]);
        }
        (own.epoch, own.first_number) = (epoch, first_number);
        self.remember_log();
    }

    fn remember_log(&mut self) {
        let own = self.own();
        own.file.log.clone_from(&own.log);
        own.file.epoch = own.epoch;
    }

    pub(crate) fn check_upload(&mut self) {
        let Work::Check(request) = self.own().work else {
            return;
        };
        let upload = self.upload_of(request);
        if self.own().lost_races >= LOST_RACES_MAX && self.rules().has(Rule::LockOnTail) {
            self.state.seen.sight = Some(Sight::Claim);
            self.state.database.locked_by = Some(self.name);
            self.follow();
            if self.own().run != Run::Up {
                return;
            }
        }
        let log = &self.state.gateways[usize::from(self.name)].log;
        let (is_stored, is_duplicate) = (log.contains(&Some(upload)), has_a_key_of(log, upload));
        if is_duplicate {
            self.answer_from_memory(request, is_stored);
        } else {
            let behind = log.clone();
            self.own().work = Work::Sent(request, Append { upload, behind });
        }
    }

    fn answer_from_memory(&mut self, request: u8, is_stored: bool) {
        if self.rules().has(Rule::ConfirmBeforeAnswer) && !self.check() {
            return;
        }
        let upload = self.upload_of(request);
        let database = &mut self.state.database;
        if database.locked_by == Some(self.name) {
            database.locked_by = None;
        }
        let is_right = match is_stored {
            true => database.stores(upload),
            false => has_a_key_of(&database.log, upload),
        };
        self.state.seen.answered_wrongly |= !is_right;
        if is_stored {
            self.state.seen.sight = Some(Sight::Replay);
            self.acknowledge(request);
        } else {
            self.state.requests[usize::from(request)] = Request::Refused;
            self.done();
        }
    }

    fn acknowledge(&mut self, request: u8) {
        self.state.seen.acknowledged |= 1 << self.upload_of(request);
        self.state.requests[usize::from(request)] = Request::Acknowledged;
        self.done();
    }

    fn done(&mut self) {
        let own = self.own();
        own.work = Work::Nothing;
        own.lost_races = 0;
    }

    pub(crate) fn execute(&mut self) {
        let Work::Sent(request, append) = std::mem::take(&mut self.own().work) else {
            return;
        };
        let rules = self.rules();
        let database = &mut self.state.database;
        let outcome = database.execute(&append, rules);
        if database.locked_by == Some(self.name) {
            database.locked_by = None;
        }
        self.own().work = Work::Answered(request, append, outcome);
    }

    pub(crate) fn receive(&mut self) {
        let Work::Answered(request, append, outcome) = self.own().work.clone() else {
            return;
        };
        match outcome {
            Outcome::Stored => {
                self.own().log.push(Some(append.upload));
                if self.rules().has(Rule::FileBeforeAnswer) {
                    self.remember_log();
                }
                self.acknowledge(request);
            }
            Outcome::GoneBack => {
                self.own().work = Work::Check(request);
                self.notice();
            }
            Outcome::Taken => {
                let own = self.own();
                own.work = Work::Check(request);
                own.lost_races += 1;
                self.follow();
                self.resend(request, append.upload);
            }
        }
    }

    /// What [`Rule::CheckAgain`] forbids.
    fn resend(&mut self, request: u8, upload: Upload) {
        let own = self.own();
        if own.run == Run::Up {
            let behind = own.log.clone();
            if !self.rules().has(Rule::CheckAgain) {
                self.own().work = Work::Sent(request, Append { upload, behind });
            }
        }
    }

    pub(crate) fn take_lease(&mut self) {
        if !self.check() {
            return;
        }
        let name = self.name;
        let lease = &mut self.state.database.lease;
        if lease.holder != Some(name) {
            *lease = Lease {
                token: lease.token + 1,
                holder: Some(name),
                has_expired: false,
            };
        }
        lease.has_expired = false;
        let token = lease.token;
        self.refresh();
        let (epoch, first_number) = (self.state.database.epoch, self.state.database.first_number);
        let own = self.own();
        if own.run == Run::Up {
            own.lease = Some(token);
            (own.epoch, own.first_number) = (epoch, first_number);
        }
    }

    /// One transaction, if all its conditions hold.
    pub(crate) fn cut(&mut self) {
        let name = self.name;
        let own = self.own();
        let newest = own.batches.last().map_or(0, |batch| batch.number);
        let (token, epoch) = (own.lease, own.epoch);
        let batch = Batch {
            number: (newest + 1).max(own.first_number),
            first: covered(&own.batches) + 1,
            last: length(&own.log),
        };
        if self.rules().has(Rule::FileBeforeCut) {
            self.own().file.sent_number = batch.number;
        }
        let (rules, database) = (self.rules(), &self.state.database);
        let lease = &database.lease;
        let has_token = !rules.has(Rule::FenceToken) || token == Some(lease.token);
        let is_holder = !rules.has(Rule::FenceHolder)
            || !rules.has(Rule::FenceToken)
            || lease.holder == Some(name);
        if !has_token || !is_holder {
            self.state.seen.sight = Some(Sight::FencedOff);
            self.own().lease = None;
            return;
        }
        let gateway = &self.state.gateways[usize::from(name)];
        let is_newest = !rules.has(Rule::CutBehindNewest) || database.batches == gateway.batches;
        let has_rows = !rules.has(Rule::CutChecksRows) || database.has_row(&gateway.log, rules);
        let is_epoch = !rules.has(Rule::CutChecksEpoch) || database.epoch == epoch;
        if !is_newest || !has_rows || !is_epoch {
            self.own().lease = None;
            if !self.is_remembered() {
                self.notice();
            }
            return;
        }
        self.state.seen.cut_without_lease |= lease.holder != Some(name);
        self.observe_cut(batch);
        self.state.database.batches.push(batch);
        self.own().cut = Some(batch);
    }

    pub(crate) fn serve_cut(&mut self) {
        if let Some(batch) = self.own().cut.take() {
            self.own().batches.push(batch);
            self.serve(batch);
        }
    }

    /// Reads what other gateways have cut, or this one before it lost its connection.
    pub(crate) fn refresh(&mut self) {
        if !self.check() {
            return;
        }
        // Rows that the writer has not read yet are served once it has.
        let batches = self.state.database.batches.clone();
        let known = self.own().batches.len();
        for &batch in batches.get(known..).unwrap_or_default() {
            self.own().batches.push(batch);
            self.serve(batch);
        }
    }

    fn remember_batch(&mut self, batch: Batch) {
        let file = &mut self.own().file;
        if batch.number > file.number() {
            file.batch = Some(batch);
        }
    }

    /// The rows of a download batch: of the own memory, as far as that goes, otherwise read now.
    fn content(&self, batch: Batch) -> Log {
        let log = &self.state.database.log;
        let own = &self.state.gateways[usize::from(self.name)].log;
        let rows = usize::from(batch.first - 1)..usize::from(batch.last);
        let content = own.get(rows.clone()).or_else(|| log.get(rows));
        content.map(<[_]>::to_vec).unwrap_or_default()
    }

    /// Records a number that is reused although the cutter could know better.
    fn observe_cut(&mut self, batch: Batch) {
        let content = self.content(batch);
        let epoch = self.state.database.epoch;
        let seen = &mut self.state.seen;
        let Some(published) = seen.published.get(&batch.number) else {
            return;
        };
        let knows = published.by & (1 << self.name) != 0 || published.epoch < epoch;
        let is_other = !published.contents.contains(&content);
        seen.has_two_contents |= is_other && (knows || !seen.went_back);
    }

    /// Participants can fetch a download batch from here.
    fn serve(&mut self, batch: Batch) {
        self.remember_batch(batch);
        let content = self.content(batch);
        let (epoch, own) = (self.state.database.epoch, 1 << self.name);
        let seen = &mut self.state.seen;
        let published = seen.published.entry(batch.number).or_insert(Published {
            contents: Vec::new(),
            epoch,
            by: 0,
        });
        published.by |= own;
        if !published.contents.contains(&content) {
            published.contents.push(content);
        }
        seen.is_forked |= published.contents.len() > 1;
    }

    /// Rebuilds everything from the database, if that is not older than the file.
    pub(crate) fn start(&mut self) {
        let database = &self.state.database;
        let file = &self.state.gateways[usize::from(self.name)].file;
        if self.rules().has(Rule::StateFile) && !self.reaches(file) {
            self.state.seen.was_told = true;
            let (epoch, own) = (database.epoch, self.own());
            own.run = Run::Stopped;
            own.epoch = epoch;
            return;
        }
        let Database {
            log,
            batches,
            epoch,
            first_number,
            ..
        } = database.clone();
        let (batch, sent_number) = (file.batch, file.sent_number);
        *self.own() = Gateway {
            is_connected: true,
            log,
            epoch,
            first_number,
            file: StateFile {
                batch,
                sent_number,
                ..StateFile::default()
            },
            ..Gateway::default()
        };
        for batch in batches {
            self.own().batches.push(batch);
            self.serve(batch);
        }
        self.remember_log();
    }

    fn reaches(&self, file: &StateFile) -> bool {
        let database = &self.state.database;
        if database.epoch > file.epoch {
            return true;
        }
        let newest = database.batches.last().map_or(0, |batch| batch.number);
        let has_row = match self.rules().has(Rule::FileHasDigest) {
            true => database.has_row(&file.log, self.rules()),
            false => database.log.len() >= file.log.len(),
        };
        let has_batch = match file.batch {
            Some(batch) if self.rules().has(Rule::FileHasBatch) => {
                database.batches.contains(&batch)
            }
            _ => newest >= file.number(),
        };
        has_row && has_batch
    }
}

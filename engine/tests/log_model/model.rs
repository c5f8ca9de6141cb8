//! The possible steps, and the effect of each.

use stateright::{Model, Property};

use crate::gateway::Step;
use crate::properties;
use crate::rules::{Rule, Rules};
use crate::state::{
    Database, Faults, Gateway, Log, Name, Onlooker, Outcome, Request, Run, Sight, State, Upload,
    Work, covered, length,
};

/// Lost races after which the log is locked (a small `limits::LOST_RACES_MAX`).
pub(crate) const LOST_RACES_MAX: u8 = 1;

/// The requests, the number of gateways, the possible faults, and the rules in force.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) gateways: u8,
    pub(crate) requests: Vec<Upload>,
    /// Whether download batches are cut.
    pub(crate) cuts: bool,
    /// Whether each request goes to its own gateway, or to any.
    pub(crate) is_pinned: bool,
    /// The history so far.
    pub(crate) begun: &'static [Action],
    pub(crate) faults: Faults,
    pub(crate) rules: Rules,
}

/// All actions. Those with a `Name` are performed by or on that gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// A participant's request arrives.
    Send(u8, Name),
    /// Checks an upload: answers it from memory, or sends the insert.
    Check(Name),
    /// The database executes the insert.
    Execute(Name),
    /// The answer to the insert arrives.
    Receive(Name),
    /// Reads what is newer.
    Follow(Name),
    Connect(Name),
    TakeLease(Name),
    Cut(Name),
    /// A cut batch is served.
    Serve(Name),
    /// Reads download batches that another gateway cut.
    Refresh(Name),
    Start(Name),
    /// An operator begins a new epoch.
    Recover,
    /// An insert over a connection that is gone comes to the database at last.
    ExecuteLate(usize),
    /// Time passes for the lease of a holder that does not renew it.
    ForgetHolder,
    // Faults.
    Crash(Name),
    /// With an insert under way that is executed later, or never.
    LoseConnection(Name, Late),
    /// A holder pauses for too long.
    ExpireLease,
    GoBack(Back),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    Executed,
    Lost,
}

/// A restore, or a failover to what lacks the last commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Back {
    rows: usize,
    batches: usize,
    /// To before the lease was taken last.
    takes_lease_back: bool,
    /// A failover ends the connections, a restore under running gateways need not.
    ends_connections: bool,
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let gateway = Gateway {
            is_connected: true,
            first_number: 1,
            ..Gateway::default()
        };
        let database = Database {
            first_number: 1,
            ..Database::default()
        };
        let state = State {
            database,
            gateways: vec![gateway; usize::from(self.gateways)],
            requests: vec![Request::ToSend; self.requests.len()],
            faults: self.faults,
            seen: Onlooker::default(),
        };
        let after = |state: State, action: &Action| self.next_state(&state, action.clone());
        let begun = self.begun.iter().try_fold(state, after);
        vec![begun.expect("what has happened was possible")]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.progress(state, actions);
        self.faults(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut before = last.clone();
        before.seen.sight = None;
        let mut state = before.clone();
        self.apply(&mut state, &action);
        (state != before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl Protocol {
    /// Actions that happen by themselves eventually.
    pub(crate) fn progress(&self, state: &State, actions: &mut Vec<Action>) {
        for (name, gateway) in (0..).zip(&state.gateways) {
            match gateway.run {
                Run::Up => self.gateway_steps(state, name, gateway, actions),
                Run::Down => actions.push(Action::Start(name)),
                Run::Stopped if state.database.epoch > gateway.epoch => {
                    actions.push(Action::Start(name));
                }
                Run::Stopped => actions.push(Action::Recover),
            }
        }
        if state.database.locked_by.is_none() {
            actions.extend((0..state.database.late.len()).map(Action::ExecuteLate));
        }
        let lease = &state.database.lease;
        let is_renewed = lease.holder.is_some_and(|holder| {
            let holder = &state.gateways[usize::from(holder)];
            holder.run == Run::Up
        });
        if lease.holder.is_some() && !is_renewed && !lease.has_expired {
            actions.push(Action::ForgetHolder);
        }
    }

    fn gateway_steps(
        &self,
        state: &State,
        name: Name,
        gateway: &Gateway,
        actions: &mut Vec<Action>,
    ) {
        let database = &state.database;
        if gateway.work == Work::Nothing {
            let waiting = (0..).zip(&state.requests);
            let waiting = waiting.filter(|&(index, &request)| {
                request == Request::ToSend && (!self.is_pinned || index % self.gateways == name)
            });
            actions.extend(waiting.map(|(request, _)| Action::Send(request, name)));
        }
        if gateway.cut.is_some() {
            actions.push(Action::Serve(name));
        }
        if !gateway.is_connected {
            return actions.push(Action::Connect(name));
        }
        let may_write = database.locked_by.is_none_or(|holder| holder == name);
        match gateway.work {
            Work::Check(_) if may_write || gateway.lost_races < LOST_RACES_MAX => {
                actions.push(Action::Check(name));
            }
            Work::Sent(..) if may_write => actions.push(Action::Execute(name)),
            Work::Answered(..) => actions.push(Action::Receive(name)),
            Work::Nothing if self.has_news(database, gateway) => actions.push(Action::Follow(name)),
            _ => {}
        }
        if gateway.cut.is_some() || !self.cuts {
            return;
        }
        let lease = &database.lease;
        let is_free = lease.has_expired || lease.holder.is_none_or(|holder| holder == name);
        if gateway.lease.is_none() && is_free && covered(&database.batches) < length(&database.log)
        {
            actions.push(Action::TakeLease(name));
        }
        if gateway.lease.is_some() && covered(&gateway.batches) < length(&gateway.log) {
            actions.push(Action::Cut(name));
        }
        if gateway.batches != database.batches {
            actions.push(Action::Refresh(name));
        }
    }

    fn has_news(&self, database: &Database, gateway: &Gateway) -> bool {
        gateway.log != database.log
            || gateway.epoch != database.epoch
            || gateway.file.log != gateway.log
            || !self.is_remembered(database, gateway)
    }

    fn faults(&self, state: &State, actions: &mut Vec<Action>) {
        let faults = state.faults;
        let up = |&(_, gateway): &(Name, &Gateway)| gateway.run == Run::Up;
        for (name, gateway) in (0..).zip(&state.gateways).filter(up) {
            if faults.crashes > 0 {
                actions.push(Action::Crash(name));
            }
            if faults.lost_connections > 0 && gateway.is_connected {
                if matches!(gateway.work, Work::Sent(..)) {
                    actions.push(Action::LoseConnection(name, Late::Executed));
                }
                actions.push(Action::LoseConnection(name, Late::Lost));
            }
        }
        let lease = &state.database.lease;
        if faults.expired_leases > 0 && lease.holder.is_some() && !lease.has_expired {
            actions.push(Action::ExpireLease);
        }
        if faults.going_back > 0 {
            go_back_to(&state.database, actions);
        }
    }

    fn apply(&self, state: &mut State, action: &Action) {
        let step = |state, name| Step::new(state, name, self);
        match *action {
            Action::Send(request, name) => {
                state.requests[usize::from(request)] = Request::At(name);
                state.gateways[usize::from(name)].work = Work::Check(request);
            }
            Action::Check(name) => step(state, name).check_upload(),
            Action::Execute(name) => step(state, name).execute(),
            Action::Receive(name) => step(state, name).receive(),
            Action::Follow(name) => step(state, name).follow(),
            Action::Connect(name) => step(state, name).connect(),
            Action::TakeLease(name) => step(state, name).take_lease(),
            Action::Cut(name) => step(state, name).cut(),
            Action::Serve(name) => step(state, name).serve_cut(),
            Action::Refresh(name) => step(state, name).refresh(),
            Action::Start(name) => step(state, name).start(),
            Action::Recover => self.recover(state),
            Action::ExecuteLate(index) => self.execute_late(state, index),
            Action::ForgetHolder => state.database.lease.has_expired = true,
            Action::Crash(name) => {
                state.faults.crashes -= 1;
                step(state, name).crash();
            }
            Action::LoseConnection(name, late) => {
                state.faults.lost_connections -= 1;
                step(state, name).lose_connection(late);
            }
            Action::ExpireLease => {
                state.faults.expired_leases -= 1;
                state.database.lease.has_expired = true;
            }
            Action::GoBack(ref back) => self.go_back(state, back),
        }
    }

    fn execute_late(&self, state: &mut State, index: usize) {
        let append = state.database.late.remove(index);
        let outcome = state.database.execute(&append, self.rules);
        if outcome == Outcome::Stored {
            state.seen.sight = Some(Sight::LateRow);
        }
    }

    fn go_back(&self, state: &mut State, back: &Back) {
        state.faults.going_back -= 1;
        let database = &mut state.database;
        let lost: Log = database.log.split_off(back.rows);
        for upload in lost.into_iter().flatten() {
            state.seen.lost |= 1 << upload;
        }
        database.batches.truncate(back.batches);
        if back.takes_lease_back {
            database.lease.token -= 1;
            database.lease.holder = None;
        }
        state.seen.went_back = true;
        state.seen.was_told = false;
        if back.ends_connections {
            database.locked_by = None;
            for name in 0..self.gateways {
                if state.gateways[usize::from(name)].run == Run::Up {
                    Step::new(state, name, self).lose_connection(Late::Lost);
                }
            }
        }
    }

    /// `db recovered`: a new epoch, numbers behind all that anybody remembers, and participants
    /// are asked to send again what is lost.
    fn recover(&self, state: &mut State) {
        let newest = state.database.batches.last().map(|batch| batch.number);
        let files = state.gateways.iter().map(|gateway| &gateway.file);
        let remembered = files.map(|file| file.number().max(file.sent_number));
        let skipped = match self.rules.has(Rule::RecoveredSkips) {
            true => remembered.max(),
            false => None,
        };
        state.database.epoch += 1;
        state.database.first_number = newest.max(skipped).unwrap_or(0) + 1;
        state.seen.epoch_starts |= 1 << state.database.first_number;
        for (request, &upload) in state.requests.iter_mut().zip(&self.requests) {
            if *request == Request::Acknowledged && !state.database.stores(upload) {
                *request = Request::ToSend;
            }
        }
    }
}

/// All earlier states of a database: fewer rows and download batches, but no download batch of
/// missing rows.
fn go_back_to(database: &Database, actions: &mut Vec<Action>) {
    for rows in 0..=database.log.len() {
        for batches in 0..=database.batches.len() {
            let last = covered(&database.batches[..batches]);
            let is_before = rows < database.log.len() || batches < database.batches.len();
            if usize::from(last) > rows || !is_before {
                continue;
            }
            for (takes_lease_back, ends_connections) in
                [(false, false), (false, true), (true, false)]
            {
                if takes_lease_back && database.lease.token == 0 {
                    continue;
                }
                actions.push(Action::GoBack(Back {
                    rows,
                    batches,
                    takes_lease_back,
                    ends_connections,
                }));
            }
        }
    }
}

//! Connection slots: how many connections of a port each holder has, and which of them gives way.
//!
//! - *In*: connections as they are accepted, and participants as they are authenticated.
//! - *Out*: a [`Slot`] per connection, which says when the connection must close for another.
//! - *Refuses*: nothing. A new connection always gets a slot; beyond a bound, the connection that has
//!   been idle longest of the holder with most gives way. So a peer that opens as many as it can displaces its own.
//!   On a full port the next connection waits until the one that gives way had time to ask: otherwise
//!   anyone who opens connections faster than others can send a request would displace a probe.
//! - *Assumes*: a task that drops its connection when [`Slot::displaced`] completes.
//! - *Runs on*: tokio threads; the lock is held while one holder's connections are scanned.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use engine::domain::Country;
use engine::locks::LockIgnoringPoison;
use tokio::sync::Notify;

use crate::bounds::{Bounds, ParticipantBound, SLOT_TIME_MIN};
use crate::watchdog::Watchdog;

/// The bounds of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotLimits {
    /// Connections of the port.
    pub(crate) port_max: usize,
    /// Connections of one participant.
    pub(crate) participant_max: usize,
    /// Connections, of all peers together, that no participant was authenticated on: a handshake, no
    /// certificate, or one that is not listed.
    pub(crate) unidentified_max: usize,
}

/// Who holds a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Holder {
    /// An address that no participant was authenticated from on this connection.
    Unidentified(IpAddr),
    /// The address of a trusted proxy, or of any peer on a port without participants.
    Peer(IpAddr),
    Participant(Country),
}

impl Holder {
    pub(crate) fn unidentified(peer: IpAddr) -> Self {
        Self::Unidentified(network(peer))
    }

    pub(crate) fn peer(peer: IpAddr) -> Self {
        Self::Peer(network(peer))
    }

    const fn is_unidentified(&self) -> bool {
        matches!(self, Self::Unidentified(_))
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unidentified(peer) | Self::Peer(peer) => peer.fmt(f),
            Self::Participant(country) => country.fmt(f),
        }
    }
}

/// The address, or the /64 network of an IPv6 address: a single host has all of that.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let prefix = address.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        address => address,
    }
}

/// Which bound a connection gave way at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    Port,
    Participant,
    Unidentified,
}

impl Bound {
    pub(crate) const ALL: [Self; 3] = [Self::Port, Self::Participant, Self::Unidentified];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Participant => "participant",
            Self::Unidentified => "unidentified",
        }
    }
}

/// Between two warnings of a port.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The slots of one port.
#[derive(Debug)]
pub(crate) struct Slots {
    port: &'static str,
    limits: SlotLimits,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    /// Invariant: no list is empty.
    holders: HashMap<Holder, Vec<Arc<Entry>>>,
    /// Invariant: the sum of the lists.
    count: usize,
    unidentified_count: usize,
    /// Displaced since the last warning.
    displaced_count: u64,
    warned_at: Option<Instant>,
}

/// A connection.
#[derive(Debug)]
struct Entry {
    id: u64,
    taken_at: Instant,
    watchdog: Arc<Watchdog>,
    displaced: Notify,
    /// Whether an orchestrator's probe was its last request.
    is_probe: AtomicBool,
}

/// The slot of a connection: held until it is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    entry: Arc<Entry>,
    peer: Holder,
    /// Set once, before the handshake: whom a load balancer has forwarded.
    forwarded: OnceLock<Holder>,
    /// Set once: a connection keeps its certificate.
    participant: OnceLock<Country>,
}

impl Slots {
    pub(crate) fn new(port: &'static str, limits: SlotLimits) -> Arc<Self> {
        let table = Mutex::default();
        Arc::new(Self {
            port,
            limits,
            table,
        })
    }

    /// Takes a slot for a connection, whose watchdog says how long it has been idle.
    pub(crate) fn take(self: &Arc<Self>, holder: Holder, watchdog: Arc<Watchdog>) -> Slot {
        let mut table = self.table();
        let entry = Arc::new(Entry {
            id: table.next_id,
            taken_at: Instant::now(),
            watchdog,
            displaced: Notify::new(),
            is_probe: AtomicBool::new(false),
        });
        table.next_id += 1;
        table.insert(holder, Arc::clone(&entry));
        self.enforce(&mut table, holder, entry.id);
        drop(table);
        metrics::gauge!("efgs_connections_open").increment(1.0);
        Slot {
            slots: Arc::clone(self),
            entry,
            peer: holder,
            forwarded: OnceLock::new(),
            participant: OnceLock::new(),
        }
    }

    /// Until when the next connection has to wait: on a full port, the one that gives way has its time.
    pub(crate) fn full_until(&self) -> Option<Instant> {
        let table = self.table();
        if table.count < self.limits.port_max {
            return None;
        }
        let largest = table.holders.iter().max_by_key(|(_, held)| held.len());
        let next = table.longest_idle(*largest?.0, table.next_id)?;
        Some(next.taken_at + SLOT_TIME_MIN)
    }

    /// What one participant may have open.
    pub(crate) fn watch(self: &Arc<Self>, bounds: &mut Bounds) {
        let slots = Arc::clone(self);
        bounds.watch(ParticipantBound::Connections, move || {
            let table = slots.table();
            let held = table.holders.iter().filter(|(holder, _)| {
                // Not those that anybody can open.
                matches!(holder, Holder::Participant(_))
            });
            held.map(|(_, held)| held.len()).max().unwrap_or_default()
        });
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock_ignoring_poison()
    }

    /// Displaces a connection if the one that was just added exceeds a bound. One is enough: each
    /// addition is followed by this.
    fn enforce(&self, table: &mut Table, added: Holder, added_id: u64) {
        let Some(bound) = self.exceeded(table, added) else {
            return;
        };
        let found = match bound {
            Bound::Participant => Some(added),
            Bound::Unidentified => table.largest(added, Holder::is_unidentified),
            Bound::Port => table.largest(added, |_| true),
        };
        let Some(holder) = found else { return };
        let longest_idle = table.longest_idle(holder, added_id).map(|entry| entry.id);
        if let Some(id) = longest_idle
            && let Some(entry) = table.remove(holder, id)
        {
            entry.displaced.notify_one();
            self.note_displaced(table, bound, holder);
        }
    }

    /// The bound that is exceeded; one's own first.
    fn exceeded(&self, table: &Table, added: Holder) -> Option<Bound> {
        let SlotLimits {
            port_max,
            participant_max,
            unidentified_max,
        } = self.limits;
        match added {
            Holder::Unidentified(_) if table.unidentified_count > unidentified_max => {
                Some(Bound::Unidentified)
            }
            Holder::Participant(_) if table.len(added) > participant_max => {
                Some(Bound::Participant)
            }
            _ => (table.count > port_max).then_some(Bound::Port),
        }
    }

    /// Counts it, and warns once per interval.
    fn note_displaced(&self, table: &mut Table, bound: Bound, holder: Holder) {
        metrics::counter!("efgs_connections_displaced_total", "bound" => bound.name()).increment(1);
        table.displaced_count += 1;
        let now = Instant::now();
        let is_recent = |at: Instant| now.saturating_duration_since(at) < WARNING_INTERVAL;
        if table.warned_at.is_some_and(is_recent) {
            return;
        }
        table.warned_at = Some(now);
        let closed = std::mem::take(&mut table.displaced_count);
        tracing::warn!(
            port = self.port,
            bound = bound.name(),
            holder = %holder,
            closed,
            "too many connections: closing the longest idle ones of the largest holder"
        );
    }
}

impl Table {
    fn len(&self, holder: Holder) -> usize {
        self.holders.get(&holder).map_or(0, Vec::len)
    }

    fn insert(&mut self, holder: Holder, entry: Arc<Entry>) {
        self.holders.entry(holder).or_default().push(entry);
        self.count += 1;
        self.unidentified_count += usize::from(holder.is_unidentified());
    }

    /// Removes a connection; `None` if it was displaced before.
    fn remove(&mut self, holder: Holder, id: u64) -> Option<Arc<Entry>> {
        let entries = self.holders.get_mut(&holder)?;
        let at = entries.iter().position(|entry| entry.id == id)?;
        let entry = entries.swap_remove(at);
        if entries.is_empty() {
            self.holders.remove(&holder);
        }
        self.count -= 1;
        self.unidentified_count -= usize::from(holder.is_unidentified());
        Some(entry)
    }

    /// The holder of most connections besides the one that was just added.
    fn largest(&self, added: Holder, among: impl Fn(&Holder) -> bool) -> Option<Holder> {
        let mut holders: Vec<(Holder, usize)> = Vec::with_capacity(self.holders.len());
        for (holder, entries) in &self.holders {
            let others = entries.len() - usize::from(*holder == added);
            if others > 0 && among(holder) {
                holders.push((*holder, entries.len()));
            }
        }
        let largest = holders.into_iter().max_by_key(|(_, count)| *count);
        largest.map(|(holder, _)| holder)
    }

    /// The connection of a holder that has been idle longest; if all are busy, the one that has been
    /// busy longest. One that a probe came on last gives way after all others: anyone who floods the
    /// operations port does not get the gateway killed. Never the one that was just added.
    fn longest_idle(&self, holder: Holder, added_id: u64) -> Option<&Entry> {
        let entries = self.holders.get(&holder)?.iter();
        let others = entries.filter(|entry| entry.id != added_id);
        let first = others.min_by_key(|entry| {
            let is_probe = entry.is_probe.load(Ordering::Relaxed);
            (is_probe, entry.watchdog.idle_rank(), entry.id)
        });
        first.map(|entry| &**entry)
    }
}

impl Slot {
    /// Whether the request that just came is an orchestrator's probe.
    pub(crate) fn note_probe(&self, is_probe: bool) {
        self.entry.is_probe.store(is_probe, Ordering::Relaxed);
    }

    /// Completes when this connection must close for another one.
    pub(crate) async fn displaced(&self) {
        self.entry.displaced.notified().await;
    }

    /// Who holds the connection.
    pub(crate) fn holder(&self) -> Holder {
        let participant = self.participant.get().copied();
        participant.map_or_else(|| self.unidentified_holder(), Holder::Participant)
    }

    fn unidentified_holder(&self) -> Holder {
        self.forwarded.get().copied().unwrap_or(self.peer)
    }

    /// The peer is a load balancer, and this is its client.
    pub(crate) fn forwarded_for(&self, client: IpAddr) {
        let holder = Holder::unidentified(client);
        let mut table = self.slots.table();
        // It may have been displaced.
        if self.forwarded.set(holder).is_ok()
            && let Some(entry) = table.remove(self.peer, self.entry.id)
        {
            table.insert(holder, entry);
            self.slots.enforce(&mut table, holder, self.entry.id);
        }
    }

    /// The connection is a participant's from now on.
    pub(crate) fn identify(&self, country: Country) {
        if self.participant.get().is_some() {
            return;
        }
        let mut table = self.slots.table();
        // A concurrent request may have identified this connection already, or the connection may
        // have been displaced.
        if self.participant.set(country).is_ok()
            && let Some(entry) = table.remove(self.unidentified_holder(), self.entry.id)
        {
            let holder = Holder::Participant(country);
            table.insert(holder, entry);
            self.slots.enforce(&mut table, holder, self.entry.id);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.table().remove(self.holder(), self.entry.id);
        metrics::gauge!("efgs_connections_open").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SlotLimits = SlotLimits {
        port_max: 6,
        participant_max: 4,
        unidentified_max: 3,
    };

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    /// Connections accepted a millisecond apart, all of them before now.
    struct Port {
        slots: Arc<Slots>,
        start: Instant,
        accepted: u64,
    }

    impl Port {
        fn new() -> Self {
            Self {
                slots: Slots::new("test", LIMITS),
                start: Instant::now(),
                accepted: 0,
            }
        }

        fn watchdog(&mut self) -> Arc<Watchdog> {
            self.accepted += 1;
            let at = self.start - Duration::from_secs(1) + Duration::from_millis(self.accepted);
            Arc::new(Watchdog::new(at, false))
        }

        fn unidentified(&mut self, peer: &str) -> Slot {
            let watchdog = self.watchdog();
            let holder = Holder::unidentified(peer.parse().unwrap());
            self.slots.take(holder, watchdog)
        }

        fn participant(&mut self, code: &str) -> Slot {
            let slot = self.unidentified("192.0.2.1");
            slot.identify(country(code));
            slot
        }

        fn count(&self) -> usize {
            self.slots.table().count
        }
    }

    /// Whether a connection has given its slot to another.
    fn is_displaced(slot: &Slot) -> bool {
        let table = slot.slots.table();
        let mut entries = table.holders.values().flatten();
        !entries.any(|entry| entry.id == slot.entry.id)
    }

    fn displaced(slots: &[Slot]) -> Vec<usize> {
        let indices = 0..slots.len();
        indices.filter(|at| is_displaced(&slots[*at])).collect()
    }

    #[test]
    fn displaces_the_longest_idle_connection_of_a_participant_at_its_share() {
        let mut port = Port::new();
        let it = port.participant("IT");
        let mut de: Vec<Slot> = (0..4).map(|_| port.participant("DE")).collect();
        assert_eq!(displaced(&de), [0; 0]);
        // The first two were used in the meantime.
        de[0].entry.watchdog.begin_request(false);
        let busy = de[1].entry.watchdog.begin_request(false);
        de.push(port.participant("DE"));
        assert_eq!(displaced(&de), [2]);
        de.push(port.participant("DE"));
        assert_eq!(displaced(&de), [2, 3]);
        assert!(!is_displaced(&it));
        assert_eq!(port.count(), 5);
        drop((busy, de));
        assert_eq!(port.count(), 1);
    }

    #[test]
    fn displaces_the_one_that_was_busy_longest_when_all_are_busy() {
        let mut port = Port::new();
        let de: Vec<Slot> = (0..4).map(|_| port.participant("DE")).collect();
        let requests = de
            .iter()
            .map(|slot| slot.entry.watchdog.begin_request(true));
        let requests: Vec<_> = requests.collect();
        let _newest = port.participant("DE");
        assert_eq!(displaced(&de), [0]);
        drop(requests);
    }

    #[test]
    fn displaces_the_one_that_is_busy_longest_not_the_one_that_was_idle_longest() {
        let mut port = Port::new();
        let de: Vec<Slot> = (0..4).map(|_| port.participant("DE")).collect();
        // The second was accepted later and is the first with a request.
        let busy: Vec<_> = [1, 0, 2, 3]
            .map(|at: usize| de[at].entry.watchdog.begin_request(true))
            .into();
        let _newest = port.participant("DE");
        assert_eq!(displaced(&de), [1]);
        drop(busy);
    }

    #[test]
    fn leaves_each_connection_of_a_full_port_the_time_for_a_request() {
        let mut port = Port::new();
        let de: Vec<Slot> = (0..4).map(|_| port.participant("DE")).collect();
        let _it = port.participant("IT");
        assert_eq!(port.slots.full_until(), None, "one is left");
        let _es = port.participant("ES");
        let full_until = port.slots.full_until();
        assert_eq!(full_until, Some(de[0].entry.taken_at + SLOT_TIME_MIN));
        let _fr = port.participant("FR");
        assert_eq!(displaced(&de), [0], "the one that it waited for");
        let full_until = port.slots.full_until();
        assert_eq!(full_until, Some(de[1].entry.taken_at + SLOT_TIME_MIN));
    }

    #[test]
    fn displaces_no_probe_while_there_is_any_other() {
        let mut port = Port::new();
        let mut open = |is_probe: bool| {
            let watchdog = port.watchdog();
            let peer = Holder::peer("192.0.2.1".parse().unwrap());
            let slot = port.slots.take(peer, watchdog);
            slot.note_probe(is_probe);
            slot
        };
        let probe = open(true);
        let flood: Vec<Slot> = (0..20).map(|_| open(false)).collect();
        assert!(!is_displaced(&probe));
        assert_eq!(displaced(&flood), (0..15).collect::<Vec<_>>());
        probe.note_probe(false);
        let _next = open(false);
        assert!(is_displaced(&probe), "it has been idle longest");
    }

    #[test]
    fn gives_unidentified_peers_a_small_share_of_their_own() {
        let mut port = Port::new();
        let other = port.unidentified("192.0.2.9");
        let mut flood: Vec<Slot> = Vec::new();
        for _ in 0..20 {
            flood.push(port.unidentified("198.51.100.1"));
        }
        assert_eq!(displaced(&flood), (0..18).collect::<Vec<_>>());
        assert!(!is_displaced(&other), "it holds less");
        assert_eq!(port.count(), 3);
    }

    #[test]
    fn counts_a_network_of_ipv6_as_one_peer() {
        let mut port = Port::new();
        let other = port.unidentified("2001:db8:0:1::1");
        let flood = [1, 2, 3].map(|at| port.unidentified(&format!("2001:db8::{at}")));
        assert_eq!(displaced(&flood), [0]);
        assert!(!is_displaced(&other));
        assert_eq!(
            network("::1".parse().unwrap()),
            IpAddr::V6(Ipv6Addr::LOCALHOST)
        );
        let mapped = network("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(mapped.to_string(), "192.0.2.1");
    }

    #[tokio::test]
    async fn tells_the_displaced_connection() {
        let mut port = Port::new();
        let flood: Vec<Slot> = (0..4).map(|_| port.unidentified("192.0.2.1")).collect();
        let displaced = tokio::time::timeout(Duration::from_secs(10), flood[0].displaced());
        displaced.await.expect("it is told");
    }

    #[test]
    fn displaces_the_largest_holder_when_the_port_is_full() {
        let mut port = Port::new();
        let it = [port.participant("IT"), port.participant("IT")];
        let de: Vec<Slot> = (0..4).map(|_| port.participant("DE")).collect();
        let es = port.participant("ES");
        assert_eq!(displaced(&de), [0]);
        assert_eq!(displaced(&it), [0; 0]);
        assert!(!is_displaced(&es));
        assert_eq!(port.count(), 6);
    }

    #[test]
    fn counts_a_connection_once_whatever_is_authenticated_on_it() {
        let mut port = Port::new();
        let slot = port.participant("DE");
        slot.identify(country("DE"));
        assert_eq!(port.count(), 1);
        assert_eq!(port.slots.table().unidentified_count, 0);
        drop(slot);
        assert_eq!(port.count(), 0);
        assert!(port.slots.table().holders.is_empty());
    }
}

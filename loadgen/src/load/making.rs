//! Generates and signs uploads ahead of time, on all cores, within a memory limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::domain::{Country, UnixMillis};
use indicatif::ProgressBar;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::{IntoParallelIterator, ParallelIterator};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::participants::Participants;
use crate::keys::{KeyGenerator, Seed};
use crate::schedule::Timetable;
use crate::workload::{PreparedUpload, UploadSpec, upload_tag};

/// Uploads per country and stream; higher numbers belong to other streams.
pub(super) const UPLOADS_MAX: u32 = 1 << 20;
/// Streams per run.
pub(super) const STREAMS_MAX: u32 = (1 << 12) - 1;
/// Keys per job on each core.
const KEYS_PER_JOB: u64 = 10_000;
/// Capacity of the queue between making and sending.
const QUEUE_READY: usize = 64;
/// Memory per upload besides its keys: signature, tag, headers.
const UPLOAD_BYTES: u64 = 8 << 10;
/// Memory per key; 60 bytes on average.
const KEY_BYTES: u64 = 64;
/// A repeating upload repeats one key in this many.
const REPEATED_DIVISOR: u32 = 10;

/// An upload that was stored, and may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Original {
    pub(super) index: u32,
    pub(super) key_count: u32,
}

/// An upload that is to be made.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    /// The uploader, as an index into the participants.
    participant: usize,
    intended: Option<Duration>,
    index: u32,
    key_count: u32,
    repeats: Option<Original>,
}

/// An upload that is ready to be sent, with its share of the memory limit.
pub(super) struct Ready {
    pub(super) participant: usize,
    pub(super) intended: Option<Duration>,
    pub(super) upload: PreparedUpload,
    pub(super) is_repeat: bool,
    /// `None` when it was made before the run.
    pub(super) _memory: Option<OwnedSemaphorePermit>,
}

/// Uploads that are ready, and the channel that yields more.
pub(super) type Stock = (Vec<Ready>, mpsc::Receiver<Ready>);

/// The participants that have uploads, as indices.
pub(super) fn senders(stock: &Stock) -> Vec<usize> {
    let mut senders: Vec<_> = stock.0.iter().map(|ready| ready.participant).collect();
    senders.sort_unstable();
    senders.dedup();
    senders
}

/// Which uploads a stream sends.
pub(super) struct Plan {
    /// Participants of the stream, as indices into the participants.
    pub(super) members: Vec<usize>,
    pub(super) weights: Vec<u64>,
    pub(super) timetable: Option<Timetable>,
    pub(super) upload_keys: u32,
    pub(super) keys: Option<u64>,
    pub(super) duplicates: f64,
    pub(super) originals: BTreeMap<usize, Vec<Original>>,
    pub(super) stream_number: u32,
    pub(super) random: ChaCha8Rng,
}

impl Plan {
    /// The uploads in sending order. Without a timetable, a weighted round-robin over the
    /// participants.
    pub(super) fn uploads(self) -> impl Iterator<Item = Planned> + Send + use<> {
        let Self {
            members,
            weights,
            mut timetable,
            upload_keys,
            keys,
            duplicates,
            originals,
            stream_number,
            mut random,
        } = self;
        let mut left = keys.unwrap_or(u64::MAX);
        let mut round_robin = WeightedRoundRobin::new(&weights);
        let mut next_index = vec![0; members.len()];
        std::iter::from_fn(move || {
            let (member, intended) = match &mut timetable {
                Some(timetable) => {
                    let arrival = timetable.next()?;
                    (arrival.participant, Some(arrival.at))
                }
                None => (round_robin.next(), None),
            };
            let key_count = u32::try_from(left.min(u64::from(upload_keys))).unwrap_or(upload_keys);
            let number = next_index[member];
            if key_count == 0 || number == UPLOADS_MAX {
                return None;
            }
            left -= u64::from(key_count);
            next_index[member] += 1;
            let participant = members[member];
            let repeats = random.random_bool(duplicates);
            let candidates = originals.get(&participant).filter(|_| repeats);
            Some(Planned {
                participant,
                intended,
                index: stream_number * UPLOADS_MAX + number,
                key_count,
                repeats: candidates.map(|all| all[random.random_range(0..all.len())]),
            })
        })
    }
}

/// Weighted round-robin over participants, evenly spread.
struct WeightedRoundRobin {
    weights: Vec<i128>,
    credit: Vec<i128>,
}

impl WeightedRoundRobin {
    fn new(weights: &[u64]) -> Self {
        Self {
            weights: weights.iter().map(|&weight| i128::from(weight)).collect(),
            credit: vec![0; weights.len()],
        }
    }

    fn next(&mut self) -> usize {
        let mut best = 0;
        for (i, weight) in self.weights.iter().enumerate() {
            self.credit[i] += weight;
            if self.credit[i] > self.credit[best] {
                best = i;
            }
        }
        self.credit[best] -= self.weights.iter().sum::<i128>();
        best
    }
}

/// Memory for an upload of that many keys, in KiB, the unit of the limit.
fn memory_units(key_count: u32) -> u32 {
    let bytes = u64::from(key_count) * KEY_BYTES + UPLOAD_BYTES;
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// Memory for uploads of that many keys, in bytes.
pub(super) fn memory_bytes(keys: u64, upload_keys: u32) -> u64 {
    let uploads = keys.div_ceil(u64::from(upload_keys.max(1)));
    keys.saturating_mul(KEY_BYTES)
        .saturating_add(uploads.saturating_mul(UPLOAD_BYTES))
}

/// Makes and signs uploads.
#[derive(Clone)]
pub(super) struct Maker {
    pub(super) participants: Arc<Participants>,
    pub(super) generator: Arc<KeyGenerator>,
    pub(super) seed: Seed,
    pub(super) at: UnixMillis,
    /// Free memory, in KiB.
    pub(super) memory: Arc<Semaphore>,
    pub(super) cost: Arc<MakingCost>,
}

/// CPU time spent on making and signing.
#[derive(Debug, Default)]
pub(super) struct MakingCost {
    /// CPU time.
    pub(super) nanos: AtomicU64,
    pub(super) keys: AtomicU64,
}

impl Maker {
    /// Makes the uploads of a plan in order, until its end or until the receiver is dropped.
    pub(super) fn start(self, plan: Plan) -> mpsc::Receiver<Ready> {
        let (send, receive) = mpsc::channel(QUEUE_READY);
        let runtime = Handle::current();
        tokio::task::spawn_blocking(move || {
            let mut plan = plan.uploads().peekable();
            while plan.peek().is_some() && self.make_some(&mut plan, &send, &runtime).is_some() {}
        });
        receive
    }

    /// Enough to keep all cores busy for a while.
    fn make_some(
        &self,
        plan: &mut impl Iterator<Item = Planned>,
        send: &mpsc::Sender<Ready>,
        runtime: &Handle,
    ) -> Option<()> {
        let keys_max = KEYS_PER_JOB * rayon::current_num_threads() as u64;
        let mut some = Vec::new();
        let mut keys = 0;
        while keys < keys_max && !send.is_closed() {
            let Some(planned) = plan.next() else { break };
            keys += u64::from(planned.key_count);
            let units = memory_units(planned.key_count);
            let memory = Arc::clone(&self.memory).acquire_many_owned(units);
            some.push((planned, runtime.block_on(memory).ok()?));
        }
        let made: Vec<_> = some
            .into_par_iter()
            .map(|(planned, memory)| self.make(planned, memory))
            .collect();
        for ready in made {
            send.blocking_send(ready).ok()?;
        }
        Some(())
    }

    fn make(&self, planned: Planned, memory: OwnedSemaphorePermit) -> Ready {
        let begun = thread_nanos();
        let participant = &self.participants.identities[planned.participant];
        let spec = UploadSpec {
            country: participant.country,
            index: planned.index,
            key_count: planned.key_count,
            tag: upload_tag(self.seed, planned.index),
        };
        let body = self.body(participant.country, &planned);
        let upload = PreparedUpload::sign(spec, body, participant, self.at)
            .expect("the generator writes well-formed bodies");
        let spent = thread_nanos().saturating_sub(begun);
        self.cost.nanos.fetch_add(spent, Ordering::Relaxed);
        let keys = u64::from(planned.key_count);
        self.cost.keys.fetch_add(keys, Ordering::Relaxed);
        Ready {
            participant: planned.participant,
            intended: planned.intended,
            upload,
            is_repeat: planned.repeats.is_some(),
            _memory: Some(memory),
        }
    }

    /// Fresh keys; at the end, when it repeats, the first keys of the original: what a generator
    /// makes for fewer keys is the beginning of what it makes for more.
    fn body(&self, country: Country, planned: &Planned) -> Vec<u8> {
        let repeated = planned.repeats.map_or(0, |original| {
            let wanted = planned.key_count.div_ceil(REPEATED_DIVISOR);
            wanted.min(original.key_count)
        });
        let fresh = planned.key_count - repeated;
        let mut body = self.generator.body(country, planned.index, fresh);
        if let Some(original) = planned.repeats {
            body.extend(self.generator.body(country, original.index, repeated));
        }
        body
    }
}

/// CPU time of this thread.
fn thread_nanos() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}

/// Prepares uploads before the clock starts: all of them, or enough that making them does not delay
/// the first seconds.
pub(super) async fn take_ahead(
    receive: &mut mpsc::Receiver<Ready>,
    memory: &Semaphore,
    memory_units: usize,
    all: bool,
    bar: &ProgressBar,
) -> Vec<Ready> {
    /// How many uploads are enough, and how long preparing them may take.
    const ENOUGH: usize = 256;
    const NEWS_WITHIN: Duration = Duration::from_secs(10);
    let begun = Instant::now();
    let mut taken = Vec::new();
    let enough = |taken: &Vec<Ready>| {
        let half_used = memory.available_permits() < memory_units / 2;
        !all && (taken.len() >= ENOUGH || half_used || begun.elapsed() > NEWS_WITHIN)
    };
    while !enough(&taken) {
        match receive.recv().await {
            Some(ready) => {
                bar.inc(u64::from(ready.upload.spec.key_count));
                taken.push(ready);
            }
            None => break,
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::scenario::{Arrivals, Rate};
    use crate::schedule::End;

    fn plan(keys: Option<u64>, timetable: Option<Timetable>) -> Plan {
        Plan {
            members: vec![4, 7],
            weights: vec![3, 1],
            timetable,
            upload_keys: 100,
            keys,
            duplicates: 0.0,
            originals: BTreeMap::new(),
            stream_number: 2,
            random: ChaCha8Rng::seed_from_u64(1),
        }
    }

    #[test]
    fn cuts_the_keys_of_a_stream_into_uploads_round_robin() {
        let uploads: Vec<_> = plan(Some(750), None).uploads().collect();
        let whose: Vec<_> = uploads.iter().map(|planned| planned.participant).collect();
        assert_eq!(whose, [4, 4, 7, 4, 4, 4, 7, 4], "three to one, spread");
        let keys: Vec<_> = uploads.iter().map(|planned| planned.key_count).collect();
        assert_eq!(keys, [100, 100, 100, 100, 100, 100, 100, 50]);
        let indices: Vec<_> = uploads
            .iter()
            .filter(|planned| planned.participant == 7)
            .map(|planned| planned.index)
            .collect();
        assert_eq!(indices, [2 * UPLOADS_MAX, 2 * UPLOADS_MAX + 1]);
    }

    #[test]
    fn follows_the_timetable_when_there_is_one() {
        let rate = Rate {
            per_second: 10.0,
            burst: None,
        };
        let end = End::After(Duration::from_secs(1));
        let random = ChaCha8Rng::seed_from_u64(1);
        let timetable = Timetable::new(Arrivals::Fixed(rate), end, &[3, 1], random);
        let uploads: Vec<_> = plan(None, timetable).uploads().collect();
        assert_eq!(uploads.len(), 10);
        assert_eq!(uploads[5].intended, Some(Duration::from_millis(500)));
    }

    #[test]
    fn repeats_the_share_that_it_should_and_only_originals_of_the_same_participant() {
        let original = Original {
            index: 9,
            key_count: 100,
        };
        let repeating = Plan {
            duplicates: 0.5,
            originals: BTreeMap::from([(4, vec![original])]),
            ..plan(Some(100_000), None)
        };
        let uploads: Vec<_> = repeating.uploads().collect();
        let of = |participant| {
            let own = uploads
                .iter()
                .filter(move |planned| planned.participant == participant);
            own.filter(|planned| planned.repeats == Some(original))
                .count()
        };
        // Half of 750, give or take four deviations of 14.
        assert!((320..430).contains(&of(4)), "{}", of(4));
        assert_eq!(of(7), 0, "it has no original");
    }

    #[test]
    fn estimates_the_memory_of_the_worst_day() {
        // 16.1 million keys of 64 bytes and 3220 signatures.
        assert_eq!(memory_bytes(16_100_000, 5000), 1_056_778_240);
    }
}

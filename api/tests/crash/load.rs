//! What participants do while processes die: upload, repeat, race each other, download.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use efgs_client::{Answer, Caller, ClientError, Target};
use engine::domain::{BatchTag, Country, Day};
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use testkit::participants::Participant;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::connections::{Connections, duplicates};
use crate::history::{History, Outcome};
use crate::uploads::{Key, Maker, Upload};

/// The state that all tasks of a test share.
pub(crate) struct World {
    pub(crate) backends: Vec<Backend>,
    pub(crate) targets: Vec<Target>,
    pub(crate) history: History,
    pub(crate) day: Day,
    /// Whether uploads may get errors: only where the database is unavailable.
    pub(crate) errors_allowed: bool,
    pub(crate) uploading: watch::Sender<bool>,
    pub(crate) reading: watch::Sender<bool>,
}

/// A national backend: a participant and its client.
pub(crate) struct Backend {
    pub(crate) participant: Arc<Participant>,
    pub(crate) caller: Arc<Caller>,
}

/// How long an upload without an answer is retried before the test fails.
const ANSWERED_WITHIN: Duration = Duration::from_secs(60);

impl World {
    pub(crate) fn countries(&self) -> Vec<Country> {
        let backends = self.backends.iter();
        backends
            .map(|backend| backend.participant.country)
            .collect()
    }

    pub(crate) fn connections(&self, backend: usize) -> Connections {
        Connections::new(&self.backends[backend].caller, &self.targets, self.day)
    }

    pub(crate) fn maker(&self, backend: usize, random: ChaCha8Rng, prefix: String) -> Maker {
        Maker::new(
            Arc::clone(&self.backends[backend].participant),
            random,
            prefix,
        )
    }
}

/// Uploads one after the other until stopped. Uploads without an answer are retried unchanged, or
/// sometimes abandoned.
pub(crate) async fn upload(
    world: Arc<World>,
    backend: usize,
    mut random: ChaCha8Rng,
    name: String,
) {
    let mut connections = world.connections(backend);
    let mut maker = world.maker(backend, fork(&mut random), name);
    let mut uploading = world.uploading.subscribe();
    while *uploading.borrow_and_update() {
        let upload = block_in_place(|| maker.any());
        let (index, upload) = world.history.enter(upload);
        let sending = Sending {
            may_abandon: true,
            first: None,
        };
        let outcome = send(&world, &mut connections, &upload, &mut random, sending).await;
        if let Outcome::Refused(positions) = &outcome {
            let text = format!("{} shares no key and is refused: {positions:?}", upload.tag);
            world.history.report(text);
        }
        world.history.record(index, &outcome);
        pause(&mut random, 15).await;
    }
}

/// Lets uploads with the same keys, and the same upload twice, race until stopped.
pub(crate) async fn compete(
    world: Arc<World>,
    backend: usize,
    mut random: ChaCha8Rng,
    name: String,
) {
    const RACERS: usize = 3;
    let mut racers: Vec<Connections> = (0..RACERS).map(|_| world.connections(backend)).collect();
    let mut maker = world.maker(backend, fork(&mut random), name);
    let mut uploading = world.uploading.subscribe();
    while *uploading.borrow_and_update() {
        if random.random_ratio(1, 4) {
            racers = race_twins(&world, racers, &mut maker, &mut random).await;
        } else {
            racers = race_rivals(&world, racers, &mut maker, &mut random).await;
        }
        pause(&mut random, 30).await;
    }
}

/// The same upload concurrently through several gateways: all get 201, one is stored.
async fn race_twins(
    world: &Arc<World>,
    racers: Vec<Connections>,
    maker: &mut Maker,
    random: &mut ChaCha8Rng,
) -> Vec<Connections> {
    let (index, upload) = world.history.enter(block_in_place(|| maker.of_size(8)));
    let twins = vec![Arc::clone(&upload); racers.len()];
    let (racers, outcomes) = race(world, racers, twins, random).await;
    for outcome in &outcomes {
        if *outcome != Outcome::Stored {
            let text = format!("{} was sent twice at once: {outcome:?}", upload.tag);
            world.history.report(text);
        }
    }
    world.history.record(index, &outcomes[0]);
    racers
}

/// Concurrent uploads that share keys: one is stored, the others are refused at the right
/// positions; their remaining keys race again under the same tags, until none are left.
async fn race_rivals(
    world: &Arc<World>,
    mut racers: Vec<Connections>,
    maker: &mut Maker,
    random: &mut ChaCha8Rng,
) -> Vec<Connections> {
    let mut rivals = block_in_place(|| maker.rivals(racers.len()));
    while !rivals.is_empty() {
        let entered = rivals.drain(..).map(|rival| world.history.enter(rival));
        let (indexes, uploads): (Vec<_>, Vec<_>) = entered.unzip();
        let raced = race(world, racers, uploads.clone(), random).await;
        let outcomes = raced.1;
        racers = raced.0;
        for (index, outcome) in indexes.iter().zip(&outcomes) {
            world.history.record(*index, outcome);
        }
        for violation in check_race(&uploads, &outcomes) {
            world.history.report(violation);
        }
        for (upload, outcome) in uploads.iter().zip(&outcomes) {
            if let Outcome::Refused(positions) = outcome {
                rivals.push(block_in_place(|| maker.without(upload, positions)));
            }
        }
    }
    racers
}

/// Each loser names positions of keys that winners have: all of them, if only one winner has any.
fn check_race(uploads: &[Arc<Upload>], outcomes: &[Outcome]) -> Vec<String> {
    let mut violations = Vec::new();
    let winners = uploads.iter().zip(outcomes);
    let winners: Vec<HashSet<Key>> = winners
        .filter(|(_, outcome)| **outcome == Outcome::Stored)
        .map(|(upload, _)| upload.keys.iter().cloned().collect())
        .collect();
    for (upload, outcome) in uploads.iter().zip(outcomes) {
        let Outcome::Refused(positions) = outcome else {
            continue;
        };
        let shared = winners.iter().map(|keys| upload.positions_in(keys));
        let shared: Vec<_> = shared.filter(|positions| !positions.is_empty()).collect();
        let right = match shared.as_slice() {
            [only] => only == positions,
            several => {
                let possible = several.concat();
                positions.iter().all(|position| possible.contains(position))
            }
        };
        if !right {
            violations.push(format!(
                "{} is refused at {positions:?}, others have {shared:?}",
                upload.tag
            ));
        }
    }
    violations
}

/// Sends uploads concurrently, at first through different gateways if there are several.
async fn race(
    world: &Arc<World>,
    racers: Vec<Connections>,
    uploads: Vec<Arc<Upload>>,
    random: &mut ChaCha8Rng,
) -> (Vec<Connections>, Vec<Outcome>) {
    let first_gateway = random.random_range(0..world.targets.len());
    let mut racers = racers.into_iter();
    let mut racing = JoinSet::new();
    let started = uploads.len();
    for (number, (upload, mut connections)) in uploads.into_iter().zip(&mut racers).enumerate() {
        let (world, mut random) = (Arc::clone(world), fork(random));
        let sending = Sending {
            may_abandon: false,
            first: Some((first_gateway + number) % world.targets.len()),
        };
        racing.spawn(async move {
            let outcome = send(&world, &mut connections, &upload, &mut random, sending).await;
            (number, connections, outcome)
        });
    }
    let mut done = racing.join_all().await;
    done.sort_by_key(|(number, ..)| *number);
    assert_eq!(done.len(), started);
    let (mut back, mut outcomes): (Vec<Connections>, Vec<Outcome>) = (Vec::new(), Vec::new());
    for (_, connections, outcome) in done {
        back.push(connections);
        outcomes.push(outcome);
    }
    back.extend(racers);
    (back, outcomes)
}

/// How an upload is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    /// Whether to stop retrying sometimes after a lost answer or an error.
    pub(crate) may_abandon: bool,
    /// Through which gateway first; then, and otherwise, through any.
    pub(crate) first: Option<usize>,
}

/// Sends an upload until it has a final answer.
pub(crate) async fn send(
    world: &World,
    connections: &mut Connections,
    upload: &Upload,
    random: &mut ChaCha8Rng,
    mut sending: Sending,
) -> Outcome {
    let begun = Instant::now();
    while begun.elapsed() < ANSWERED_WITHIN {
        let any = random.random_range(0..connections.gateways());
        let gateway = sending.first.take().unwrap_or(any);
        let answer = connections.upload(gateway, upload).await;
        let waited = connections.sent_at().elapsed();
        if let Some(outcome) = check_answer(world, connections, upload, gateway, &answer) {
            if outcome == Outcome::Stored {
                world.history.count(|counts| {
                    counts.by_gateway[gateway] += 1;
                    counts.slowest = counts.slowest.max(waited);
                });
            }
            return outcome;
        }
        let not_sent = matches!(answer, Err(ClientError::Connect { .. }));
        if sending.may_abandon && !not_sent && random.random_ratio(1, 5) {
            return Outcome::Abandoned;
        }
        pause(random, 25).await;
    }
    let text = format!(
        "{} has no final answer within {ANSWERED_WITHIN:?}",
        upload.tag
    );
    world.history.report(text);
    Outcome::Abandoned
}

/// The outcome that an answer implies, if it is final.
fn check_answer(
    world: &World,
    connections: &Connections,
    upload: &Upload,
    gateway: usize,
    answer: &Result<Answer, ClientError>,
) -> Option<Outcome> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(ClientError::Connect { .. }) => return None,
        Err(_) => {
            world.history.lose(connections.sent_at());
            return None;
        }
    };
    let report = |what: &str| {
        let body = String::from_utf8_lossy(&answer.body);
        let text = format!("{} through gateway {gateway}: {what}: {body}", upload.tag);
        world.history.report(text);
        Some(Outcome::Abandoned)
    };
    match answer.status {
        201 if answer.header("batchtag") != Some(&upload.tag) => report("201 of another tag"),
        201 => Some(Outcome::Stored),
        207 => match duplicates(&answer.body, upload.keys.len()) {
            Some(positions) => Some(Outcome::Refused(positions)),
            None => report("an invalid 207"),
        },
        500..=599 if is_temporary_refusal(answer) => None,
        500..=599 if world.errors_allowed => {
            let waited = connections.sent_at().elapsed();
            world.history.count(|counts| {
                counts.errors += 1;
                counts.slowest_error = counts.slowest_error.max(waited);
            });
            None
        }
        status => report(&format!("status {status}")),
    }
}

/// Whether an answer signals overload or shutdown.
fn is_temporary_refusal(answer: &Answer) -> bool {
    let reasons = ["overload", "shutting_down"];
    let body = String::from_utf8_lossy(&answer.body);
    answer.status == 503
        && answer.retry_after().is_some()
        && reasons.iter().any(|reason| body.contains(reason))
}

/// Downloads as a participant until stopped: the chain as it grows, and sometimes earlier batches
/// again.
pub(crate) async fn read(world: Arc<World>, backend: usize, mut random: ChaCha8Rng) {
    let mut connections = world.connections(backend);
    let country = world.backends[backend].participant.country;
    let mut at: Option<BatchTag> = None;
    let mut reading = world.reading.subscribe();
    while *reading.borrow_and_update() {
        let known = known_tags(&world, country);
        let again = known.into_iter().choose(&mut random);
        let again = again.filter(|_| random.random_ratio(1, 5));
        let asked = again.or(at);
        let gateway = random.random_range(0..connections.gateways());
        let next = ask(&world, &mut connections, gateway, country, asked).await;
        match next {
            Some((tag, next)) if again.is_none() => {
                at = Some(next.unwrap_or(tag));
                if next.is_none() {
                    pause(&mut random, 20).await;
                }
            }
            Some(_) => {}
            None => pause(&mut random, 20).await,
        }
    }
}

fn known_tags(world: &World, country: Country) -> Vec<BatchTag> {
    let records = world.history.records();
    let pages = records.received.get(&country);
    pages.map_or_else(Vec::new, |pages| pages.keys().copied().collect())
}

/// One download. Every announced batch must exist, and batches never change.
pub(crate) async fn ask(
    world: &World,
    connections: &mut Connections,
    gateway: usize,
    country: Country,
    asked: Option<BatchTag>,
) -> Option<(BatchTag, Option<BatchTag>)> {
    let asked = world.history.ask(asked);
    let answer = connections.download(gateway, asked.tag).await.ok()?;
    match answer.status {
        200 => return world.history.read(country, asked, &answer),
        404 if !asked.must_be_there => {}
        500..=599 if is_temporary_refusal(&answer) => {}
        500..=599 if world.errors_allowed => {}
        status => {
            let body = String::from_utf8_lossy(&answer.body);
            let text = format!(
                "{country} asks gateway {gateway} for {:?}: {status} {body}",
                asked.tag
            );
            world.history.report(text);
        }
    }
    None
}

/// Pauses for a random time of up to that many milliseconds.
async fn pause(random: &mut ChaCha8Rng, millis_max: u64) {
    let while_ = Duration::from_millis(random.random_range(0..=millis_max));
    tokio::time::sleep(while_).await;
}

fn fork(random: &mut ChaCha8Rng) -> ChaCha8Rng {
    ChaCha8Rng::from_rng(random)
}

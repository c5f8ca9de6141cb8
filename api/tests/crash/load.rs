//! What participants do while processes die: upload, repeat, race each other, download.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::domain::{BatchTag, Country, Day};
use loadgen::client::{Answer, Caller, ClientError, Target};
use loadgen::participants::Participant;
use rand::seq::IteratorRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::watch;
use tokio::task::{JoinSet, block_in_place};

use crate::book::{Book, Fate};
use crate::lines::{Lines, duplicates};
use crate::uploads::{Key, Maker, Upload};

/// What all tasks of a scene share.
pub(crate) struct World {
    pub(crate) parties: Vec<Party>,
    pub(crate) targets: Vec<Target>,
    pub(crate) book: Book,
    pub(crate) day: Day,
    /// Whether uploads may be answered with errors: only where the database is away.
    pub(crate) errors_are_fine: bool,
    pub(crate) uploading: watch::Sender<bool>,
    pub(crate) reading: watch::Sender<bool>,
}

/// A participant and its client.
pub(crate) struct Party {
    pub(crate) participant: Arc<Participant>,
    pub(crate) caller: Arc<Caller>,
}

/// An upload without an answer is repeated for so long; then the gateway is beyond hope.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

impl World {
    pub(crate) fn countries(&self) -> Vec<Country> {
        let parties = self.parties.iter();
        parties.map(|party| party.participant.country).collect()
    }

    pub(crate) fn lines(&self, party: usize) -> Lines {
        Lines::new(&self.parties[party].caller, &self.targets, self.day)
    }

    pub(crate) fn maker(&self, party: usize, random: ChaCha8Rng, prefix: String) -> Maker {
        Maker::new(Arc::clone(&self.parties[party].participant), random, prefix)
    }
}

/// Uploads one after the other until told to stop. What gets no answer is repeated as it is, or
/// given up now and then.
pub(crate) async fn upload(world: Arc<World>, party: usize, mut random: ChaCha8Rng, name: String) {
    let mut lines = world.lines(party);
    let mut maker = world.maker(party, fork(&mut random), name);
    let mut uploading = world.uploading.subscribe();
    while *uploading.borrow_and_update() {
        let upload = block_in_place(|| maker.any());
        let (index, upload) = world.book.enter(upload);
        let sending = Sending {
            gives_up: true,
            first: None,
        };
        let fate = settle(&world, &mut lines, &upload, &mut random, sending).await;
        if let Fate::Refused(positions) = &fate {
            let text = format!("{} shares no key and is refused: {positions:?}", upload.tag);
            world.book.complain(text);
        }
        world.book.settle(index, &fate);
        pause(&mut random, 15).await;
    }
}

/// Lets uploads with the same keys, and the same upload twice, race until told to stop.
pub(crate) async fn compete(world: Arc<World>, party: usize, mut random: ChaCha8Rng, name: String) {
    const LANES: usize = 3;
    let mut lanes: Vec<Lines> = (0..LANES).map(|_| world.lines(party)).collect();
    let mut maker = world.maker(party, fork(&mut random), name);
    let mut uploading = world.uploading.subscribe();
    while *uploading.borrow_and_update() {
        if random.random_ratio(1, 4) {
            lanes = race_twins(&world, lanes, &mut maker, &mut random).await;
        } else {
            lanes = race_rivals(&world, lanes, &mut maker, &mut random).await;
        }
        pause(&mut random, 30).await;
    }
}

/// The very same upload at the same time through several gateways: all hear 201, one is stored.
async fn race_twins(
    world: &Arc<World>,
    lanes: Vec<Lines>,
    maker: &mut Maker,
    random: &mut ChaCha8Rng,
) -> Vec<Lines> {
    let (index, upload) = world.book.enter(block_in_place(|| maker.of_size(8)));
    let twins = vec![Arc::clone(&upload); lanes.len()];
    let (lanes, fates) = race(world, lanes, twins, random).await;
    for fate in &fates {
        if *fate != Fate::Stored {
            let text = format!("{} was sent twice at once: {fate:?}", upload.tag);
            world.book.complain(text);
        }
    }
    world.book.settle(index, &fates[0]);
    lanes
}

/// Uploads that share keys, at the same time: one is stored, the others are refused at the right
/// positions; what is left of them races again under the same tags, until nothing is left.
async fn race_rivals(
    world: &Arc<World>,
    mut lanes: Vec<Lines>,
    maker: &mut Maker,
    random: &mut ChaCha8Rng,
) -> Vec<Lines> {
    let mut rivals = block_in_place(|| maker.rivals(lanes.len()));
    while !rivals.is_empty() {
        let entered = rivals.drain(..).map(|rival| world.book.enter(rival));
        let (indexes, uploads): (Vec<_>, Vec<_>) = entered.unzip();
        let raced = race(world, lanes, uploads.clone(), random).await;
        let fates = raced.1;
        lanes = raced.0;
        for (index, fate) in indexes.iter().zip(&fates) {
            world.book.settle(*index, fate);
        }
        for complaint in judge_race(&uploads, &fates) {
            world.book.complain(complaint);
        }
        for (upload, fate) in uploads.iter().zip(&fates) {
            if let Fate::Refused(positions) = fate {
                rivals.push(block_in_place(|| maker.without(upload, positions)));
            }
        }
    }
    lanes
}

/// Each loser names positions of keys that winners have: all of them, if only one winner has any.
fn judge_race(uploads: &[Arc<Upload>], fates: &[Fate]) -> Vec<String> {
    let mut complaints = Vec::new();
    let winners = uploads.iter().zip(fates);
    let winners: Vec<HashSet<Key>> = winners
        .filter(|(_, fate)| **fate == Fate::Stored)
        .map(|(upload, _)| upload.keys.iter().cloned().collect())
        .collect();
    for (upload, fate) in uploads.iter().zip(fates) {
        let Fate::Refused(positions) = fate else {
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
            complaints.push(format!(
                "{} is refused at {positions:?}, others have {shared:?}",
                upload.tag
            ));
        }
    }
    complaints
}

/// Sends uploads at once, the first time through gateways that differ if there are several.
async fn race(
    world: &Arc<World>,
    lanes: Vec<Lines>,
    uploads: Vec<Arc<Upload>>,
    random: &mut ChaCha8Rng,
) -> (Vec<Lines>, Vec<Fate>) {
    let first_gateway = random.random_range(0..world.targets.len());
    let mut lanes = lanes.into_iter();
    let mut racing = JoinSet::new();
    let started = uploads.len();
    for (number, (upload, mut lines)) in uploads.into_iter().zip(&mut lanes).enumerate() {
        let (world, mut random) = (Arc::clone(world), fork(random));
        let sending = Sending {
            gives_up: false,
            first: Some((first_gateway + number) % world.targets.len()),
        };
        racing.spawn(async move {
            let fate = settle(&world, &mut lines, &upload, &mut random, sending).await;
            (number, lines, fate)
        });
    }
    let mut done = racing.join_all().await;
    done.sort_by_key(|(number, ..)| *number);
    assert_eq!(done.len(), started);
    let (mut back, mut fates): (Vec<Lines>, Vec<Fate>) = (Vec::new(), Vec::new());
    for (_, lines, fate) in done {
        back.push(lines);
        fates.push(fate);
    }
    back.extend(lanes);
    (back, fates)
}

/// How an upload is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    /// Whether to give up now and then when the answer is lost or an error.
    pub(crate) gives_up: bool,
    /// Through which gateway first; then, and otherwise, through any.
    pub(crate) first: Option<usize>,
}

/// Sends an upload until it is settled.
pub(crate) async fn settle(
    world: &World,
    lines: &mut Lines,
    upload: &Upload,
    random: &mut ChaCha8Rng,
    mut sending: Sending,
) -> Fate {
    let begun = Instant::now();
    while begun.elapsed() < SETTLED_WITHIN {
        let any = random.random_range(0..lines.gateways());
        let gateway = sending.first.take().unwrap_or(any);
        let answer = lines.upload(gateway, upload).await;
        let waited = lines.sent_at().elapsed();
        if let Some(fate) = judge_answer(world, lines, upload, gateway, &answer) {
            if fate == Fate::Stored {
                world.book.count(|counts| {
                    counts.by_gateway[gateway] += 1;
                    counts.slowest = counts.slowest.max(waited);
                });
            }
            return fate;
        }
        let not_sent = matches!(answer, Err(ClientError::Connect { .. }));
        if sending.gives_up && !not_sent && random.random_ratio(1, 5) {
            return Fate::GivenUp;
        }
        pause(random, 25).await;
    }
    let text = format!("{} is not settled within {SETTLED_WITHIN:?}", upload.tag);
    world.book.complain(text);
    Fate::GivenUp
}

/// What an answer settles; nothing if it does not.
fn judge_answer(
    world: &World,
    lines: &Lines,
    upload: &Upload,
    gateway: usize,
    answer: &Result<Answer, ClientError>,
) -> Option<Fate> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(ClientError::Connect { .. }) => return None,
        Err(_) => {
            world.book.lose(lines.sent_at());
            return None;
        }
    };
    let complain = |what: &str| {
        let body = String::from_utf8_lossy(&answer.body);
        let text = format!("{} through gateway {gateway}: {what}: {body}", upload.tag);
        world.book.complain(text);
        Some(Fate::GivenUp)
    };
    match answer.status {
        201 if answer.header("batchtag") != Some(&upload.tag) => complain("201 of another tag"),
        201 => Some(Fate::Stored),
        207 => match duplicates(&answer.body, upload.keys.len()) {
            Some(positions) => Some(Fate::Refused(positions)),
            None => complain("207 that is none"),
        },
        500..=599 if is_not_now(answer) => None,
        500..=599 if world.errors_are_fine => {
            let waited = lines.sent_at().elapsed();
            world.book.count(|counts| {
                counts.errors += 1;
                counts.slowest_error = counts.slowest_error.max(waited);
            });
            None
        }
        status => complain(&format!("status {status}")),
    }
}

/// Whether an answer says that too much is going on, or that the gateway is about to stop.
fn is_not_now(answer: &Answer) -> bool {
    let reasons = ["overload", "shutting_down"];
    let body = String::from_utf8_lossy(&answer.body);
    answer.status == 503
        && answer.retry_after().is_some()
        && reasons.iter().any(|reason| body.contains(reason))
}

/// Downloads as a participant until told to stop: the chain as it grows, and what it has read
/// already again, now and then.
pub(crate) async fn read(world: Arc<World>, party: usize, mut random: ChaCha8Rng) {
    let mut lines = world.lines(party);
    let country = world.parties[party].participant.country;
    let mut at: Option<BatchTag> = None;
    let mut reading = world.reading.subscribe();
    while *reading.borrow_and_update() {
        let known = known_tags(&world, country);
        let again = known.into_iter().choose(&mut random);
        let again = again.filter(|_| random.random_ratio(1, 5));
        let asked = again.or(at);
        let gateway = random.random_range(0..lines.gateways());
        let next = ask(&world, &mut lines, gateway, country, asked).await;
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
    let records = world.book.records();
    let pages = records.pages.get(&country);
    pages.map_or_else(Vec::new, |pages| pages.keys().copied().collect())
}

/// One download. What anybody has heard of must be there; what is there never changes.
pub(crate) async fn ask(
    world: &World,
    lines: &mut Lines,
    gateway: usize,
    country: Country,
    asked: Option<BatchTag>,
) -> Option<(BatchTag, Option<BatchTag>)> {
    let asked = world.book.ask(asked);
    let answer = lines.download(gateway, asked.tag).await.ok()?;
    match answer.status {
        200 => return world.book.read(country, asked, &answer),
        404 if !asked.must_be_there => {}
        500..=599 if is_not_now(&answer) => {}
        500..=599 if world.errors_are_fine => {}
        status => {
            let body = String::from_utf8_lossy(&answer.body);
            let text = format!(
                "{country} asks gateway {gateway} for {:?}: {status} {body}",
                asked.tag
            );
            world.book.complain(text);
        }
    }
    None
}

/// A short while of up to so many milliseconds.
async fn pause(random: &mut ChaCha8Rng, millis_max: u64) {
    let while_ = Duration::from_millis(random.random_range(0..=millis_max));
    tokio::time::sleep(while_).await;
}

fn fork(random: &mut ChaCha8Rng) -> ChaCha8Rng {
    ChaCha8Rng::from_rng(random)
}

use proptest::prelude::*;

use super::*;
use crate::domain::{ContentDigest, Country};

fn plan(key_counts: &[u32], keys_max: u32) -> (Vec<usize>, usize) {
    let fill = |keys: u32| Fill {
        keys: keys.into(),
        ..Fill::default()
    };
    let most = Fill {
        keys: keys_max.into(),
        bytes: u64::MAX,
        audit_bytes: u64::MAX,
    };
    let plan = plan_cuts(key_counts.iter().copied().map(fill), most);
    (plan.full, plan.rest)
}

/// The plan for uploads of so many keys, sealed bytes and bytes of signature.
fn plan_default(uploads: impl Iterator<Item = (u32, u64, u64)>) -> (Vec<usize>, usize) {
    let fills = uploads.map(|(key_count, sealed_bytes, signature_bytes)| {
        Fill::of(&UncutUpload {
            sealed_bytes,
            signature_bytes,
            ..upload(1, key_count, 0)
        })
    });
    let plan = plan_cuts(fills, Fill::most(&BundleSettings::default()));
    (plan.full, plan.rest)
}

#[test]
fn is_full_of_bytes_as_of_keys() {
    const MEBIBYTE: u64 = 1 << 20;
    // Keys with the longest lists of countries: a batch of 5000 of them would take 8 MiB.
    let large = [(1000, 3 * MEBIBYTE / 2, 3000); 6];
    assert_eq!(plan_default(large.into_iter()), (vec![1; 5], 1));
    let exact = [(1, MEBIBYTE, 3000), (1, MEBIBYTE, 3000)];
    assert_eq!(plan_default(exact.into_iter()), (vec![2], 0));
    let alone = [(1, 10, 3000), (5000, 8 * MEBIBYTE, 3000), (1, 10, 3000)];
    assert_eq!(plan_default(alone.into_iter()), (vec![1, 1], 1));
    let usual = [(50, 5000, 3000); 100];
    assert_eq!(plan_default(usual.into_iter()), (vec![100], 0));
}

#[test]
fn bounds_the_audit_of_a_batch() {
    let largest_signature = 4 * 24 * 1024 / 3;
    let (full, _) = plan_default([(1, 60, largest_signature); 2000].into_iter());
    let entry_bytes = largest_signature + limits::AUDIT_ENTRY_BYTES;
    assert!(
        full.iter()
            .all(|&count| count as u64 * entry_bytes <= limits::AUDIT_BYTES_MAX as u64)
    );
    assert!(full.iter().all(|&count| count > 400), "{full:?}");
    // What nobody sees takes no room.
    let without_keys = [(0, 30, largest_signature); 5000];
    assert_eq!(plan_default(without_keys.into_iter()), (vec![], 5000));
}

#[test]
fn fills_batches_first_fit() {
    // The reference's own test: limit 9, uploads of 5, 5, 5, 5, 3 make batches of 5, 5, 5, 8.
    assert_eq!(plan(&[5, 5, 5, 5, 3], 9), (vec![1, 1, 1], 2));
    assert_eq!(plan(&[4, 4], 9), (vec![], 2));
    assert_eq!(plan(&[4, 5], 9), (vec![2], 0), "exactly full");
}

#[test]
fn gives_an_upload_beyond_the_limit_a_batch_of_its_own() {
    assert_eq!(plan(&[2, 20, 2], 9), (vec![1, 1], 1));
    assert_eq!(plan(&[20], 9), (vec![1], 0));
    assert_eq!(plan(&[u32::MAX, u32::MAX], 9), (vec![1, 1], 0));
}

#[test]
fn takes_uploads_without_keys_along() {
    assert_eq!(plan(&[0, 0], 9), (vec![], 2));
    assert_eq!(plan(&[0, 3, 0], 9), (vec![], 3));
    assert_eq!(plan(&[0, 9, 0, 1], 9), (vec![3], 1));
}

#[test]
fn numbers_batches_from_one_each_day_and_never_goes_back() {
    let tag = |text| BatchTag::parse(text).unwrap();
    let day = |text| Day::parse_iso(text).unwrap();
    let next = |last, today| next_tag(last, day(today)).to_string();
    assert_eq!(next(None, "2020-10-06"), "20201006-1");
    assert_eq!(next(Some(tag("20201006-9")), "2020-10-06"), "20201006-10");
    assert_eq!(next(Some(tag("20201006-9")), "2020-10-07"), "20201007-1");
    assert_eq!(next(Some(tag("20201006-9")), "2020-10-05"), "20201006-10");
    assert_eq!(
        next(Some(tag("20201006-4294967295")), "2020-10-06"),
        "20201007-1"
    );
}

/// An upload that was stored at `created_at_ms`, and seen then.
fn upload(seq: u64, key_count: u32, created_at_ms: u64) -> UncutUpload {
    let meta = UploadMeta {
        seq: Seq(seq),
        country: Country::parse("DE").unwrap(),
        key_count,
        created_at: UnixMillis(created_at_ms),
        content: ContentDigest([0; 32]),
        link: None,
    };
    UncutUpload {
        meta,
        sealed_bytes: 0,
        signature_bytes: 0,
    }
}

#[test]
fn waits_no_longer_when_the_clock_jumps_back() {
    let settings = BundleSettings {
        max_delay: Duration::from_secs(2),
        ..Default::default()
    };
    let seen = Instant::now();
    let waiting = Waiting {
        uploads: [(upload(1, 1, 100_000), seen)].into(),
        read_to: Seq(1),
    };
    let due = |wall| {
        let due = waiting.due(&settings, CutBudget::FULL, UnixMillis(wall), seen);
        due.unwrap() - seen
    };
    assert_eq!(due(100_000), Duration::from_secs(2));
    assert_eq!(due(101_500), Duration::from_millis(500));
    assert_eq!(due(900_000), Duration::ZERO);
    assert_eq!(due(10), Duration::from_secs(2));
}

#[test]
fn cuts_a_full_batch_whatever_the_budget() {
    let settings = BundleSettings::default();
    let (pacing, now, wall) = (
        settings.pacing().unwrap(),
        Instant::now(),
        UnixMillis(1_000_000_000),
    );
    let empty = (0..48).fold(CutBudget::FULL, |budget, _| budget.draw(pacing, wall));
    let waiting = Waiting {
        uploads: [
            (upload(1, 4000, wall.0), now),
            (upload(2, 1000, wall.0), now),
            (upload(3, 10, wall.0), now),
        ]
        .into(),
        read_to: Seq(3),
    };
    assert_eq!(waiting.cuts_due(&settings, empty, wall, now), [2]);
    assert_eq!(waiting.cuts_due(&settings, CutBudget::FULL, wall, now), [2]);
}

/// A day of the cutter in simulated time: when each upload was stored, in; when each download batch
/// was cut, how many uploads it had, and whether it was full, out.
#[derive(Debug)]
struct Simulation {
    settings: BundleSettings,
    waiting: Waiting,
    budget: CutBudget,
    epoch: Instant,
}

#[derive(Debug)]
struct SimulatedCut {
    at_ms: u64,
    is_full: bool,
    oldest_waited_ms: u64,
    budget_left_before: u64,
}

impl Simulation {
    fn new(settings: BundleSettings) -> Self {
        Self {
            settings,
            waiting: Waiting::default(),
            budget: CutBudget::FULL,
            epoch: Instant::now(),
        }
    }

    fn instant(&self, at_ms: u64) -> Instant {
        self.epoch + Duration::from_millis(at_ms)
    }

    /// Cuts whatever is due up to an instant, each when it is due.
    fn run_until(&mut self, until_ms: u64, mut now_ms: u64, cuts: &mut Vec<SimulatedCut>) {
        loop {
            let now = self.instant(now_ms);
            let wall = UnixMillis(now_ms);
            let Some(due) = self.waiting.due(&self.settings, self.budget, wall, now) else {
                return;
            };
            now_ms = now_ms.max(u64::try_from((due - self.epoch).as_millis()).unwrap());
            if now_ms > until_ms {
                return;
            }
            self.cut(now_ms, cuts);
        }
    }

    fn cut(&mut self, now_ms: u64, cuts: &mut Vec<SimulatedCut>) {
        let (now, wall) = (self.instant(now_ms), UnixMillis(now_ms));
        let (settings, budget) = (&self.settings, self.budget);
        let counts = self.waiting.cuts_due(settings, budget, wall, now);
        assert!(!counts.is_empty(), "what is due is cut");
        let keys_max = settings.keys_max;
        for count in counts {
            let members: Vec<_> = self.waiting.uploads.drain(..count).collect();
            let keys: u32 = members
                .iter()
                .map(|(upload, _)| upload.meta.key_count)
                .sum();
            let next = self.waiting.uploads.front();
            let does_not_fit = next.is_some_and(|(next, _)| keys + next.meta.key_count > keys_max);
            let pacing = self.settings.pacing().unwrap();
            cuts.push(SimulatedCut {
                at_ms: now_ms,
                is_full: keys >= keys_max || does_not_fit,
                oldest_waited_ms: now_ms - members[0].0.meta.created_at.0,
                budget_left_before: self.budget.batches_left(pacing, wall),
            });
            self.budget = self.budget.draw(pacing, wall);
        }
    }
}

/// Runs uploads of the given pauses (milliseconds) and key counts, over and over for three days.
fn simulate(pauses_and_keys: &[(u64, u32)]) -> Vec<SimulatedCut> {
    let mut simulation = Simulation::new(BundleSettings::default());
    let (mut cuts, mut now_ms, mut seq) = (Vec::new(), 0, 0);
    for &(pause_ms, key_count) in pauses_and_keys.iter().cycle() {
        let next_ms = now_ms + pause_ms;
        simulation.run_until(next_ms, now_ms, &mut cuts);
        now_ms = next_ms;
        if now_ms > 3 * Day::MILLIS {
            break;
        }
        seq += 1;
        let seen = simulation.instant(now_ms);
        let upload = upload(seq, key_count, now_ms);
        simulation.waiting.uploads.push_back((upload, seen));
    }
    cuts
}

/// Most cuts for age within any 24 hours.
fn busiest_day(cuts: &[SimulatedCut]) -> usize {
    let for_age: Vec<u64> = cuts
        .iter()
        .filter(|cut| !cut.is_full)
        .map(|cut| cut.at_ms)
        .collect();
    let day_from = |(at, begin): (usize, &u64)| {
        let day = for_age[at..].iter();
        day.take_while(|&&at_ms| at_ms < begin + Day::MILLIS)
            .count()
    };
    for_age.iter().enumerate().map(day_from).max().unwrap_or(0)
}

#[test]
fn cuts_a_quiet_day_within_the_delay() {
    // An upload every 10 minutes: the budget never runs out.
    let cuts = simulate(&[(600_000, 20)]);
    assert!(cuts.iter().all(|cut| cut.oldest_waited_ms == 2000));
    assert_eq!(busiest_day(&cuts), 144);
}

#[test]
fn cuts_a_busy_day_no_more_often_than_the_slowest_client_reads() {
    // 520 small uploads per day: a client that reads 500 batches per day fell behind.
    let cuts = simulate(&[(Day::MILLIS / 520, 40)]);
    let busiest = busiest_day(&cuts);
    assert!((330..=48 + 288).contains(&busiest), "{busiest}");
    assert!(cuts.iter().all(|cut| cut.oldest_waited_ms <= 300_000));
}

proptest! {
    #[test]
    fn paces_whatever_comes(
        pauses_and_keys in prop::collection::vec((1_000_u64..900_000, 1_u32..6000), 1..40),
    ) {
        let cuts = simulate(&pauses_and_keys);
        prop_assert!(busiest_day(&cuts) <= 48 + 288);
        for cut in cuts {
            prop_assert!(cut.oldest_waited_ms <= 300_000, "{cut:?}");
            let is_late = !cut.is_full && cut.oldest_waited_ms > 2000;
            prop_assert!(!is_late || cut.budget_left_before <= 1, "{cut:?}");
        }
    }

    #[test]
    fn cuts_in_order_within_the_limit(
        sizes in prop::collection::vec(0_u32..12, 0..40),
    ) {
        let (full, rest_count) = plan(&sizes, 9);
        let mut rest = sizes.as_slice();
        for count in full {
            let (batch, behind) = rest.split_at(count);
            let with_keys = batch.iter().filter(|&&keys| keys > 0).count();
            prop_assert!(batch.iter().sum::<u32>() <= 9 || with_keys == 1);
            prop_assert!(with_keys > 0);
            rest = behind;
        }
        prop_assert_eq!(rest.len(), rest_count);
        prop_assert!(rest.iter().sum::<u32>() <= 8);
    }
}

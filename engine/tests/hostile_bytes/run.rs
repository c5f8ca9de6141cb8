//! Runs inputs for a while, and prints how to run a failing one again.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Time limit per input: the slowest takes a quarter of a second on a busy machine, while work that
/// is quadratic in the input takes many.
const SOON: Duration = Duration::from_secs(2);
/// How often an input that took longer is retried: the machine may have been suspended.
const SECOND_CHANCES: u32 = 1;

/// Duration, seed and inputs of a run.
struct Plan {
    seconds: u64,
    seed: u64,
    only: Option<u64>,
}

impl Plan {
    fn read() -> Self {
        let number = |name: &str| {
            let value = std::env::var(name).ok()?;
            Some(
                value
                    .parse()
                    .unwrap_or_else(|_| panic!("{name} is a number")),
            )
        };
        Self {
            seconds: number("EFGS_FUZZ_SECONDS").unwrap_or(2),
            seed: number("EFGS_SEED").unwrap_or(1),
            only: number("EFGS_FUZZ_INPUT"),
        }
    }
}

/// Prints how to repeat an input that caused a panic.
struct Replay<'a> {
    test: &'a str,
    seed: u64,
    number: u64,
}

impl Drop for Replay<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { test, seed, number } = self;
            let again = format!("EFGS_SEED={seed} EFGS_FUZZ_INPUT={number}");
            eprintln!("again: {again} cargo test --test hostile_bytes {test}");
        }
    }
}

/// Runs inputs, each from a random stream of its own, for the planned time.
pub(crate) fn fuzz(test: &str, mut run: impl FnMut(&mut ChaCha8Rng)) {
    let Plan {
        seconds,
        seed,
        only,
    } = Plan::read();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut number = only.unwrap_or(0);
    let mut slowest = Duration::ZERO;
    loop {
        let _replay = Replay { test, seed, number };
        let mut time = || {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(number);
            let begun = Instant::now();
            run(&mut random);
            begun.elapsed()
        };
        let took = time();
        if took > SOON {
            let again = (0..SECOND_CHANCES).map(|_| time()).min();
            let least = again.map_or(took, |again| again.min(took));
            assert!(least <= SOON, "an input takes {least:?}");
        }
        slowest = slowest.max(took);
        number += 1;
        if only.is_some() || Instant::now() >= until {
            break;
        }
    }
    // Past the capture of the test harness.
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "hostile bytes: {test}: {number} inputs from seed {seed}, slowest {slowest:?}"
    )
    .unwrap();
}

/// The committed corpus of a fuzz target: what its fuzzers have found to reach different code.
pub(crate) fn corpus(target: &str, mut read: impl FnMut(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let files = std::fs::read_dir(fuzz.join(target)).unwrap();
    let mut count = 0;
    for file in files {
        let path = file.unwrap().path();
        let _file = Named(&path);
        read(&std::fs::read(&path).unwrap());
        count += 1;
    }
    assert!(count > 0, "there is a corpus of {target}");
}

/// Prints which file caused a panic.
struct Named<'a>(&'a Path);

impl Drop for Named<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("file: {}", self.0.display());
        }
    }
}

//! Attacks on what all share, against the real program: what one participant or peer does to the
//! gateway's memory and log, and to another participant's latency, as ratios to a run in which a thread
//! only takes as much processor time as the attacker.
//!
//! Each attack of [`TABLE`] runs for a second beside a neighbour that uploads, downloads and has all
//! of it answered, all on one gateway; with `EFGS_ATTACK_SECONDS` (`make attacks`) for longer, each on
//! a fresh gateway with more stored keys, and the table is printed for docs.

mod attacker;
pub(crate) mod http2;
mod kinds;
mod scene;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::number;
use attacker::Beside;
use kinds::TABLE;
use scene::{Scene, Work};

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One attack; it continues until it is dropped.
struct Attack {
    name: &'static str,
    run: fn(Arc<Scene>) -> Running,
    /// By how much the gateway's memory may grow, in MiB.
    memory_mib_max: u64,
    /// How much longer the neighbour's median may be.
    ratio_max: u32,
}

/// Between the begin of an attack and that of the measurement: it has built up by then.
const BUILD_UP: Duration = Duration::from_millis(300);
/// Most that may be logged per second of an attack: lines of work are limited per participant and
/// cause, to some hundred each.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// Longest median of the neighbour, whatever the ratio: a client times out after ten seconds.
const MEDIAN_MAX: Duration = Duration::from_secs(3);

/// How much longer the neighbour's median may be than beside the same load without an attack: each of
/// the attacker's requests waits for its turn, as the neighbour's do, and some attacks have 300 at once.
/// What only keeps the gateway busy, it is to do beside its work.
const RATIO_MAX: u32 = 100;
const IDLE_RATIO_MAX: u32 = 20;
/// What a median is compared with at the least.
const MEDIAN_MIN: Duration = Duration::from_millis(5);

/// What an attack did.
struct Effect {
    /// Beside a thread that takes as much processor time as the attacker, and leaves the gateway alone.
    base: Work,
    under: Work,
    /// Cores that the attacker and the gateway took.
    attacker_cores: f64,
    gateway_cores: f64,
    /// Per second.
    log_bytes: u64,
    /// Before it.
    memory_mib: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_others_under_every_attack() {
    let seconds = number("EFGS_ATTACK_SECONDS", 0);
    let is_long = seconds > 0;
    let time = Duration::from_millis(if is_long { seconds * 1000 } else { 300 });
    let batches = if is_long { 200 } else { 4 };
    println!(
        "| attack | memory, MiB | median, ms (ratio) | 99 %, ms | cores: gateway, attacker | \
         log, kB/s | refused |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut broken = Vec::new();
    let mut scene = Arc::new(Scene::start(batches).await);
    for attack in TABLE {
        let effect = measure(attack, &scene, time).await;
        if is_long {
            scene = Arc::new(Scene::start(batches).await);
        }
        println!("{}", row(attack, &effect));
        broken.extend(broken_by(attack, &effect));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

async fn measure(attack: &Attack, scene: &Arc<Scene>, time: Duration) -> Effect {
    let (memory_mib, log_bytes) = (scene.memory_mib(), scene.log_bytes());
    let attacker = Beside::attack((attack.run)(Arc::clone(scene)));
    let (begun, gateway_time) = (Instant::now(), scene.processor_time());
    tokio::time::sleep(BUILD_UP).await;
    let under = scene.work(time).await;
    let (elapsed, attacker_cores) = (begun.elapsed(), attacker.cores());
    let gateway_time = scene.processor_time() - gateway_time;
    let log_bytes = (scene.log_bytes() - log_bytes) * 1000 / millis(elapsed);
    drop(attacker);
    let burning = Beside::burn(attacker_cores);
    let base = scene.work(time).await;
    drop(burning);
    Effect {
        log_bytes,
        attacker_cores,
        gateway_cores: gateway_time.as_secs_f64() / elapsed.as_secs_f64(),
        memory_mib,
        base,
        under,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis().max(1)).unwrap()
}

/// The row of the table.
fn row(attack: &Attack, effect: &Effect) -> String {
    let quantile = |part| {
        let works = [&effect.base, &effect.under];
        let [base, under] = works.map(|work| work.quantile(part).as_secs_f64() * 1000.0);
        format!("{base:.1} to {under:.1} ({:.1})", under / base)
    };
    format!(
        "| {} | {} to {} | {} | {} | {:.1}, {:.1} | {} | {} of {} |",
        attack.name,
        effect.memory_mib,
        effect.under.memory_mib,
        quantile(0.5),
        quantile(0.99),
        effect.gateway_cores,
        effect.attacker_cores,
        effect.log_bytes / 1000,
        effect.under.failures.len(),
        effect.under.count(),
    )
}

/// The bounds that an attack has broken.
fn broken_by(attack: &Attack, effect: &Effect) -> Vec<String> {
    let name = attack.name;
    let mut broken = Vec::new();
    if !effect.under.failures.is_empty() {
        broken.push(format!("{name}: refused {:?}", effect.under.failures));
    }
    let growth_mib = effect.under.memory_mib.saturating_sub(effect.memory_mib);
    if growth_mib > attack.memory_mib_max {
        broken.push(format!("{name}: {growth_mib} MiB more"));
    }
    let [base, under] = [&effect.base, &effect.under].map(|work| work.quantile(0.5));
    if under > attack.ratio_max * base.max(MEDIAN_MIN) {
        broken.push(format!("{name}: median {under:?}, {base:?} without"));
    }
    if effect.under.quantile(0.5) > MEDIAN_MAX {
        broken.push(format!("{name}: median {:?}", effect.under.quantile(0.5)));
    }
    if effect.log_bytes > LOG_BYTES_MAX {
        broken.push(format!("{name}: {} octets of log/s", effect.log_bytes));
    }
    broken
}

//! The cost of mutual TLS: downloads and ingest with and without it, alternating.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::deployment::{Deployment, run_in_threads, send_uploads};
use crate::http::{Connection, EncodedRequest, Route};
use anyhow::ensure;
use benches::FULL;

use super::rates::{CONNECTIONS, ROUNDS, UPLOADS_PER_ROUND, keys_per_second, ratio_of};
use crate::download;
use crate::ratios::{Figure, Ratio};
use crate::run::Run;

pub(super) fn measure(program: &Path, run: &mut Run) -> anyhow::Result<()> {
    let deployment = Deployment::create(program, None)?;
    let running = deployment.start()?;
    let cut = download::cut(&deployment, &running, FULL)?;
    let plain = [Route::Plain(running.proxy)];
    let of = |index| deployment.tls_route(&running, index);
    // Uploads rotate over the participants; so do connections, each of which belongs to one of them.
    let participants = 0..deployment.backends.len();
    let each = participants.map(of).collect::<Result<Vec<_>, _>>()?;
    let request = download::request(&deployment, Some(&cut.tag));
    let [mut down, mut down_tls, mut up, mut up_tls] = [const { Vec::new() }; 4];
    let [mut work, mut work_tls] = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (route, rates, work) in [
            (&plain[0], &mut down, &mut work),
            (&each[1], &mut down_tls, &mut work_tls),
        ] {
            let before = running.cpu_time()?;
            let rate = downloads_per_second(route, &request)?;
            let spent = running.cpu_time()?.saturating_sub(before);
            work.push(spent.as_secs_f64() * 1e6 / (rate * READING.as_secs_f64()));
            rates.push(rate);
        }
        up.push(rate_by_participant(&deployment, &plain)?);
        up_tls.push(rate_by_participant(&deployment, &each)?);
    }
    let (kept, kept_up) = (ratio_of(&down_tls, &down), ratio_of(&up_tls, &up));
    run.ratios.extend([
        Ratio::new("download_cpu_plain/mtls", ratio_of(&work, &work_tls)),
        Ratio::new("download_mtls/plain", kept.clone()),
        Ratio::new("ingest_mtls/plain", kept_up.clone()),
    ]);
    run.figures.extend([
        Figure::new("download, plain, 4 connections", "1/s", down),
        Figure::new("download, mTLS, 4 connections", "1/s", down_tls),
        Figure::new("download, mTLS against plain", "ratio", kept).against(0.6, 0.8),
        Figure::new("gateway's CPU per download, plain", "µs", work),
        Figure::new("gateway's CPU per download, mTLS", "µs", work_tls),
        Figure::new("ingest, plain, 16 connections", "keys/s", up),
        Figure::new("ingest, mTLS, 16 connections", "keys/s", up_tls),
        Figure::new("ingest, mTLS against plain", "ratio", kept_up).against(0.6, 0.8),
    ]);
    Ok(())
}

/// Concurrent downloading connections.
const READERS: usize = 4;
/// Duration of a measurement.
const READING: Duration = Duration::from_secs(1);

fn downloads_per_second(route: &Route, request: &EncodedRequest) -> anyhow::Result<f64> {
    let read = || -> anyhow::Result<u32> {
        let mut connection = Connection::open(route)?;
        let (mut answers, started) = (0, Instant::now());
        while started.elapsed() < READING {
            let response = connection.send(request)?;
            ensure!(
                response.status == 200,
                "a download was answered with: {}",
                response.head
            );
            answers += 1;
        }
        Ok(answers)
    };
    let answers = run_in_threads((0..READERS).map(|_| read));
    let answers: u32 = answers.into_iter().sum::<anyhow::Result<u32>>()?;
    Ok(f64::from(answers) / READING.as_secs_f64())
}

/// Keys per second, two connections per participant: with TLS, a connection belongs to one participant.
fn rate_by_participant(deployment: &Deployment, routes: &[Route]) -> anyhow::Result<f64> {
    let participants = deployment.backends.len();
    let uploads = deployment.owned_uploads(UPLOADS_PER_ROUND.next_multiple_of(participants), FULL);
    let mut shares: Vec<Vec<EncodedRequest>> = vec![Vec::new(); participants];
    for (upload, of) in uploads {
        shares[of].push(upload);
    }
    let keys = UPLOADS_PER_ROUND.next_multiple_of(participants) * FULL as usize;
    let started = Instant::now();
    let sending = shares.iter().enumerate().map(|(of, share)| {
        let route = std::slice::from_ref(&routes[of % routes.len()]);
        move || send_uploads(route, CONNECTIONS / participants, share)
    });
    let each = run_in_threads(sending);
    each.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(keys_per_second(keys, started.elapsed()))
}

//! Warm downloads from a gateway and from nginx, in turn.

use std::path::Path;

use crate::deployment::Deployment;
use benches::FULL;

use super::rates::ratio_of;
use crate::download::{self, CutBatch, Nginx};
use crate::ratios::{Figure, Ratio};
use crate::run::Run;

/// Rounds of each shape, two seconds each for the gateway and for nginx.
const DOWNLOAD_ROUNDS: usize = 5;

/// A bundle: its name, its keys; and the ratios, by connections.
type BundleShape = (&'static str, u32, [(u32, &'static str); 3]);

const SHAPES: [BundleShape; 2] = [
    (
        "5000",
        5000,
        [
            (1, "download_5000_c1/nginx"),
            (8, "download_5000_c8/nginx"),
            (64, "download_5000_c64/nginx"),
        ],
    ),
    (
        "100",
        100,
        [
            (1, "download_100_c1/nginx"),
            (8, "download_100_c8/nginx"),
            (64, "download_100_c64/nginx"),
        ],
    ),
];

pub(super) fn measure(program: &Path, run: &mut Run) -> anyhow::Result<()> {
    let deployment = Deployment::create(program, None)?;
    let running = deployment.start()?;
    let cuts = SHAPES
        .iter()
        .map(|(name, keys, _)| Ok((*name, download::cut(&deployment, &running, *keys)?)))
        .collect::<anyhow::Result<Vec<(&str, CutBatch)>>>()?;
    let files: Vec<_> = cuts
        .iter()
        .map(|(name, cut)| (*name, cut.body.as_slice()))
        .collect();
    let nginx = Nginx::start(&files)?;
    for ((name, keys, counts), (_, cut)) in SHAPES.iter().zip(&cuts) {
        for (connections, ratio) in counts {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..DOWNLOAD_ROUNDS {
                ours.push(download::gateway_rate(
                    &deployment,
                    &running,
                    &cut.tag,
                    *connections,
                )?);
                theirs.push(nginx.rate(name, *connections)?);
            }
            let kept = ratio_of(&ours, &theirs);
            run.ratios.push(Ratio::new(ratio, kept.clone()));
            let shape = format!("{name} keys, {connections} connections");
            let against = Figure::new(format!("… against nginx, {shape}"), "ratio", kept);
            run.figures.extend([
                Figure::new(format!("download, {shape}"), "1/s", ours),
                Figure::new(format!("nginx, {shape}"), "1/s", theirs),
                match *keys {
                    FULL => against.against(0.7, 1.0),
                    // The target is of the largest bundle.
                    _ => against,
                },
            ]);
        }
    }
    Ok(())
}

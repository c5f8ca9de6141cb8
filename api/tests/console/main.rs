//! The console in a real browser, of a real installation under load. Pictures for people:
//! `EFGS_CONSOLE_PICTURES=DIR cargo test -p efgs-api --test console`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod browser;
mod installation;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use browser::Browser;
use installation::{Counts, PARTICIPANTS, SECOND, World, today};
use serde_json::{Value, json};

/// The page asks every five seconds, gateways announce themselves every ten, downloads are counted every
/// five; the rest is for a busy machine.
const SHOWN_WITHIN: Duration = Duration::from_secs(60);
const TAB: &str = "\u{e004}";
const SPACE: &str = " ";
const ENTER: &str = "\u{e007}";

/// Looks at the page until it shows what is expected.
async fn await_shown(browser: &Browser, expression: &str, expected: impl Fn() -> Value) {
    let deadline = Instant::now() + SHOWN_WITHIN;
    loop {
        let (shown, expected) = (browser.value(expression).await, expected());
        if shown == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "the page shows {shown:#}\ninstead of {expected:#}, of {expression}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The numbers of the participants' rows, by country: the first number of each cell.
const ROWS: &str = r##"Object.fromEntries([...document.querySelectorAll("#participants tr[data-row]")].map((row) => {
    const cell = (key) => row.querySelector(`[data-column="${key}"]`);
    const numbers = (key) => cell(key).innerText.replaceAll(",", "").match(/[0-9]+/g).map(Number);
    return [row.dataset.row, [numbers("keysToday")[0], numbers("uploadsToday")[0], ...numbers("downloadsToday")]];
}))"##;

/// The numbers of the tiles.
const TILES: &str = r##"["keysToday", "uploadsToday", "downloadsToday"].map((key) =>
    Number(document.querySelector(`[data-tile="${key}"] .value`).innerText.replaceAll(",", "")))"##;

/// Refused requests by code.
const REFUSALS: &str = r##"Object.fromEntries([...document.querySelectorAll("#refusals tr[data-row]")].map((row) =>
    [row.dataset.row, Number(row.querySelector('[data-column="count"]').innerText.replaceAll(",", ""))]))"##;

/// Who was refused for a reason, as the table of reasons has it, by code.
const REFUSED_OF: &str = r##"Object.fromEntries([...document.querySelectorAll("#refusals tr[data-row]")].map((row) =>
    [row.dataset.row, row.querySelector('[data-column="of"]').innerText]))"##;

/// The refused requests of each participant: all, and by code; those without any are left out.
const REFUSALS_OF_PARTICIPANTS: &str = r##"Object.fromEntries([...document.querySelectorAll("#participants tr[data-row]")].map((row) => {
    const cell = row.querySelector('[data-column="refused"]');
    const number = (text) => Number(text.replaceAll(",", "").match(/[0-9]+/)[0]);
    const byCode = [...cell.querySelectorAll("[data-code]")].map((one) => [one.dataset.code, number(one.innerText)]);
    return [row.dataset.row, { all: number(cell.innerText), ...Object.fromEntries(byCode) }];
  }).filter(([, refusals]) => refusals.all > 0))"##;

/// The state of each gateway, by the last part of its name.
const GATEWAYS: &str = r##"Object.fromEntries([...document.querySelectorAll("[data-gateway]")].map((one) =>
    [one.dataset.gateway.split(":").at(-1), one.querySelector(".state").innerText.replace(/^\W+/, "")]))"##;

#[tokio::test(flavor = "multi_thread")]
async fn shows_an_installation_as_its_statistics_and_metrics_have_it() {
    let world = tokio::task::block_in_place(World::start);
    let browser = Browser::start().await;
    browser.emulate(1400, 1000, "light").await;
    browser.open(&world.console()).await;
    shows_that_there_is_nothing_yet(&browser).await;
    shows_what_was_refused_of_whom(&browser, &world).await;
    world.put_under_load().await;
    shows_what_was_counted(&browser, &world).await;
    shows_refusals_by_reason(&browser, &world).await;
    shows_each_gateway(&browser, &world).await;
    can_be_read_without_seeing_it(&browser).await;
    can_be_used_by_keyboard(&browser).await;
    fits_narrow_and_dark_screens(&browser).await;
    let world = tells_that_a_gateway_has_stopped(&browser, world).await;
    let log = browser.log().await;
    assert!(
        log.is_empty(),
        "errors, or violations of the policy: {log:#?}"
    );
    browser.close().await;
    tokio::task::block_in_place(|| drop(world));
}

async fn shows_that_there_is_nothing_yet(browser: &Browser) {
    let text = "document.querySelector('#refusals').innerText";
    await_shown(browser, text, || {
        json!("No request was refused since this gateway began to sample.")
    })
    .await;
    let tile = "document.querySelector('[data-tile=keysToday] .more').innerText";
    await_shown(browser, tile, || json!("no participant has uploaded today")).await;
    await_shown(browser, ROWS, || {
        let rows = PARTICIPANTS.map(|country| (country.to_owned(), json!([0, 0, 0, 0])));
        Value::Object(rows.into_iter().collect())
    })
    .await;
}

/// Exactly what was sent, to whichever gateway.
async fn shows_what_was_refused_of_whom(browser: &Browser, world: &World) {
    let first = world.first.gateway();
    world.send_refused(first, "DE", 3, 0).await;
    world.send_refused(&world.second, "DE", 2, 0).await;
    world.send_refused(&world.second, "ES", 1, 4).await;
    await_shown(browser, REFUSALS_OF_PARTICIPANTS, || {
        json!({
            "DE": {"all": 5, "date_invalid": 5},
            "ES": {"all": 5, "batch_signature_missing": 4, "date_invalid": 1},
        })
    })
    .await;
    await_shown(
        browser,
        REFUSED_OF,
        || json!({"date_invalid": "DE 5, ES 1", "batch_signature_missing": "ES 4"}),
    )
    .await;
}

async fn shows_what_was_counted(browser: &Browser, world: &World) {
    let counted = || tokio::task::block_in_place(|| world.statistics());
    await_shown(browser, ROWS, || {
        let row = |counts: &Counts| {
            json!([
                counts.keys,
                counts.uploads,
                counts.downloads,
                counts.downloaded_keys
            ])
        };
        let rows = counted()
            .iter()
            .map(|(country, counts)| (country.clone(), row(counts)))
            .collect();
        Value::Object(rows)
    })
    .await;
    await_shown(browser, TILES, || {
        let counted = counted();
        let sum = |of: fn(&Counts) -> u64| counted.values().map(of).sum::<u64>();
        json!([
            sum(|one| one.keys),
            sum(|one| one.uploads),
            sum(|one| one.downloads)
        ])
    })
    .await;
    let statistics = counted();
    for (country, counts) in &statistics {
        let has_worked = counts.keys > 0 && counts.downloads > 0;
        assert!(has_worked || today() != world.day, "{country}: {counts:?}");
    }
}

/// The counters of a gateway by the values of their labels.
async fn counters(address: std::net::SocketAddr, metric: &str) -> BTreeMap<Vec<String>, u64> {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let text = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let text = text.await.unwrap();
    let samples = text
        .lines()
        .filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
    samples
        .filter_map(|sample| {
            let (labels, value) = sample.rsplit_once("} ")?;
            let values = labels.split('"').skip(1).step_by(2).map(str::to_owned);
            Some((values.collect(), value.parse().ok()?))
        })
        .collect()
}

async fn shows_refusals_by_reason(browser: &Browser, world: &World) {
    let mut refused = BTreeMap::new();
    let mut participants: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for address in [
        world.first.gateway().operations(),
        world.second.operations(),
    ] {
        for (labels, count) in counters(address, "efgs_refusals_total").await {
            *refused.entry(labels[0].clone()).or_insert(0) += count;
        }
        for (labels, count) in counters(address, "efgs_participant_refusals_total").await {
            let refusals = participants.entry(labels[0].clone()).or_default();
            *refusals.entry(labels[1].clone()).or_insert(0) += count;
            *refusals.entry("all".to_owned()).or_insert(0) += count;
        }
    }
    refused.retain(|_, count| *count > 0);
    // Every request of this installation shows a participant's certificate.
    let all = |refusals: &BTreeMap<String, u64>| refusals["all"];
    let sum: u64 = participants.values().map(all).sum();
    assert_eq!(sum, refused.values().sum::<u64>(), "{participants:?}");
    for code in ["batch_tag_missing", "invalid_signature"] {
        assert!(refused.contains_key(code), "{code}: {refused:?}");
    }
    await_shown(browser, REFUSALS, || json!(refused)).await;
    await_shown(browser, REFUSALS_OF_PARTICIPANTS, || json!(participants)).await;
    let duplicates = r##"[...document.querySelectorAll('#participants [data-column="duplicates"]')]
        .some((cell) => parseInt(cell.innerText.replaceAll(",", "")) > 0)"##;
    await_shown(browser, duplicates, || json!(true)).await;
}

async fn shows_each_gateway(browser: &Browser, world: &World) {
    let first = world.first.gateway().operations().port().to_string();
    let states = |states: [&str; 2]| json!({&first: states[0], SECOND: states[1]});
    await_shown(browser, GATEWAYS, || states(["Ready", "Ready"])).await;
    let leaders = r##"[...document.querySelectorAll("[data-gateway] .role")]
        .filter((one) => one.innerText.includes("leader")).length"##;
    await_shown(browser, leaders, || json!(1)).await;
    let head = "document.querySelector('#state').innerText.replace(/^\\W+/, '')";
    await_shown(browser, head, || json!("All 2 gateways ready")).await;
    // Saturation of each, beside its bound.
    let meters = r##"[...document.querySelectorAll('[data-meter="uploadsInFlight"]')].map((one) => /\d+ of 200/.test(one.innerText))"##;
    await_shown(browser, meters, || json!([true, true])).await;
    let certificates = r##"[...document.querySelectorAll('#participants [data-column="certificates"] li')]
        .every((one) => /\d days/.test(one.innerText))"##;
    await_shown(browser, certificates, || json!(true)).await;
    // Nothing is wrong with a new installation.
    let attention = "document.querySelector('#attention').innerText.replace(/^\\W+/, '')";
    await_shown(browser, attention, || json!("Nothing needs attention.")).await;
}

/// What a screen reader needs: names, an order of headings, the numbers of each chart.
async fn can_be_read_without_seeing_it(browser: &Browser) {
    let levels = browser
        .value("[...document.querySelectorAll('h1, h2, h3')].map((one) => Number(one.tagName[1]))")
        .await;
    let levels: Vec<i64> = serde_json::from_value(levels).unwrap();
    assert_eq!(levels.iter().filter(|level| **level == 1).count(), 1);
    assert!(
        levels.windows(2).all(|pair| pair[1] <= pair[0] + 1),
        "{levels:?}"
    );
    for (expression, expected) in [
        ("document.documentElement.lang", json!("en")),
        (
            "document.querySelectorAll('header, main, footer nav[aria-label]').length >= 3",
            json!(true),
        ),
        (
            "[...document.querySelectorAll('section')].every((one) => document.getElementById(one.getAttribute('aria-labelledby')).innerText)",
            json!(true),
        ),
        (
            "[...document.querySelectorAll('th')].every((one) => one.scope)",
            json!(true),
        ),
        (
            "[...document.querySelectorAll('select, button')].every((one) => one.innerText || one.labels.length)",
            json!(true),
        ),
        ("[...document.querySelectorAll('figure')].length", json!(5)),
        (
            "[...document.querySelectorAll('figure')].every((one) => one.querySelector('.summary').innerText.endsWith('.'))",
            json!(true),
        ),
        (
            "[...document.querySelectorAll('figure .plot, svg')].every((one) => one.closest('[aria-hidden=true]'))",
            json!(true),
        ),
        ("document.querySelectorAll('[aria-live]').length", json!(1)),
    ] {
        assert_eq!(browser.value(expression).await, expected, "{expression}");
    }
}

/// What has the focus.
const FOCUSED: &str = "(document.activeElement.innerText || document.activeElement.getAttribute('aria-label') || document.activeElement.id).trim()";

async fn can_be_used_by_keyboard(browser: &Browser) {
    browser.value("document.activeElement.blur()").await;
    let mut order = Vec::new();
    for _ in 0..3 {
        browser.press(TAB).await;
        order.push(browser.value(FOCUSED).await.as_str().unwrap().to_owned());
    }
    assert_eq!(order[..2], ["Skip to the figures", "Pause updates"]);
    assert_eq!(order[2], "Keys stored as a table");
    let outlined = "getComputedStyle(document.activeElement).outlineStyle";
    assert_eq!(
        browser.value(outlined).await,
        json!("solid"),
        "the focus can be seen"
    );
    browser.press(ENTER).await;
    let rows = "document.querySelectorAll('[data-chart=keys] details[open] tbody tr').length > 0";
    await_shown(browser, rows, || json!(true)).await;
    browser
        .value("document.getElementById('pause').focus()")
        .await;
    browser.press(SPACE).await;
    let pause = "(() => { const one = document.getElementById('pause'); return [one.getAttribute('aria-pressed'), one.innerText]; })()";
    assert_eq!(
        browser.value(pause).await,
        json!(["true", "Resume updates"])
    );
    browser.press(SPACE).await;
    assert_eq!(
        browser.value(pause).await,
        json!(["false", "Pause updates"])
    );
    browser
        .value("document.querySelector('.skip').focus()")
        .await;
    browser.press(ENTER).await;
    let active = "document.activeElement.id";
    await_shown(browser, active, || json!("main")).await;
}

async fn fits_narrow_and_dark_screens(browser: &Browser) {
    let pictures = std::env::var_os("EFGS_CONSOLE_PICTURES").map(PathBuf::from);
    let mut backgrounds = Vec::new();
    for (name, width, scheme) in [
        ("light", 1400, "light"),
        ("dark", 1400, "dark"),
        ("narrow-dark", 400, "dark"),
        ("narrow", 400, "light"),
    ] {
        browser.emulate(width, 1000, scheme).await;
        let fits = "document.documentElement.scrollWidth <= window.innerWidth";
        await_shown(browser, fits, || json!(true)).await;
        let charts = r##"[...document.querySelectorAll(".plot")].every((one) =>
            Math.abs(one.querySelector(".uplot").offsetWidth - one.clientWidth) <= 1)"##;
        await_shown(browser, charts, || json!(true)).await;
        let color = "getComputedStyle(document.body).backgroundColor";
        backgrounds.push(browser.value(color).await);
        if let Some(folder) = &pictures {
            let height = browser.value("document.documentElement.scrollHeight").await;
            let height = u32::try_from(height.as_u64().unwrap()).unwrap();
            browser.emulate(width, height, scheme).await;
            browser.picture(&folder.join(format!("{name}.png"))).await;
        }
    }
    assert_ne!(backgrounds[0], backgrounds[1]);
    assert_eq!(backgrounds[1], backgrounds[2]);
    browser.emulate(1400, 1000, "light").await;
}

async fn tells_that_a_gateway_has_stopped(browser: &Browser, mut world: World) -> World {
    tokio::task::block_in_place(|| world.second.terminate()).unwrap();
    let state = format!("({GATEWAYS})['{SECOND}']");
    await_shown(browser, &state, || json!("Stopped")).await;
    let head = "document.querySelector('#state').innerText.replace(/^\\W+/, '')";
    await_shown(browser, head, || json!("Ready")).await;
    world
}

// The console: asks /console.json every few seconds and shows it.
import { CHARTS, HOUR_S, HistoryChart, HoursChart } from "/charts.js";
import {
  bar, byId, bytes, bytesPerSecond, clock, day, draw, make, marked, number, plural, relative, seconds, show, sub, table,
  tenths, time, whole,
} from "/elements.js";

const INTERVAL_MS = 5000;

// The head, attention, today ------------------------------------------------------------------

function showHead(view) {
  const errors = view.attention.filter((one) => one.severity === "error").length;
  const { gateways, gatewaysReady, day: today } = view.installation;
  const [state, text] = gatewaysReady < gateways || gateways === 0
    ? ["bad", `${gatewaysReady} of ${plural(gateways, "gateway")} ready`]
    : errors > 0 ? ["bad", `Ready, with ${plural(errors, "error")}`]
    : view.attention.length > 0 ? ["warn", `Ready, with ${plural(view.attention.length, "warning")}`]
    : ["good", gateways === 1 ? "Ready" : `All ${gateways} gateways ready`];
  const node = byId("state");
  if (node.textContent !== text) node.textContent = text;
  node.dataset.state = state;
  byId("facts").textContent = `${today ? `Day ${today} (UTC) · ` : ""}shown by gateway ${view.gateway}`;
  const updated = byId("updated");
  updated.textContent = `${clock(view.at)} UTC`;
  updated.setAttribute("datetime", new Date(view.at).toISOString());
  byId("version").textContent = `efgs ${view.version}`;
  document.title = `${errors > 0 ? `(${errors}) ` : ""}EFGS console`;
}

function showAttention(view) {
  show("attention", view.attention, () => {
    if (view.attention.length === 0) return make("p", { class: "all-good" }, "Nothing needs attention.");
    return make("ul", { class: "sentences" }, view.attention.map((one) =>
      make("li", { class: one.severity },
        make("span", { class: "level" }, one.severity === "error" ? "Error" : "Warning"),
        make("span", { class: "text" }, one.text),
        one.gateways.length > 0 && view.gateways.length > 1
          ? make("span", { class: "who" }, `Said by ${one.gateways.join(", ")}`) : null)));
  });
}

function tile(key, name, value, unit, more) {
  return make("div", { "data-tile": key },
    make("dt", null, name),
    make("dd", null,
      make("span", { class: "value" }, value, unit ? make("span", { class: "unit" }, ` ${unit}`) : null)),
    more ? make("dd", { class: "more" }, more) : null);
}

function showToday(view) {
  const all = view.installation;
  const refused = sum(view.refusals.map((one) => one.count));
  const uploading = view.participants.filter((one) => one.uploadsToday > 0).length;
  const batch = all.newestBatch
    ? `newest batch ${all.newestBatch}${all.newestBatchAt ? `, ${relative(all.newestBatchAt, view.at)}` : ""}`
    : "no download batch yet";
  byId("tiles").replaceChildren(
    tile("keysToday", "Keys stored", number(all.keysToday), null,
      uploading > 0 ? `by ${plural(uploading, "participant")}` : "no participant has uploaded today"),
    tile("uploadsToday", "Uploads stored", number(all.uploadsToday), null, `${number(all.logPosition)} in the log`),
    tile("downloadsToday", "Downloads answered", number(all.downloadsToday), null,
      `${number(all.downloadedKeysToday)} keys delivered`),
    tile("keysPerSecond", "Stored now", number(all.rates.keys), "keys/s", `${number(all.rates.uploads)} uploads/s`),
    tile("deliveredPerSecond", "Delivered now", bytesPerSecond(all.rates.downloadBytes), null,
      `${number(all.rates.downloads)} downloads/s`),
    tile("delay", "Upload to downloadable", seconds(all.delay.p50Seconds), all.delay.uploads > 0 ? "median" : null,
      all.delay.uploads > 0 ? `99 % within ${seconds(all.delay.p99Seconds)}; last hour` : "no upload in the last hour"),
    tile("waiting", "Waiting for a batch", number(all.uploadsWaiting), all.uploadsWaiting === 1 ? "upload" : "uploads", batch),
    tile("refused", "Refused requests", number(refused), null, "in the last hour"),
  );
  const { error, readAt } = view.statistics;
  const note = byId("statistics-note");
  note.hidden = !error && readAt !== null;
  note.textContent = error
    ? `The database's statistics cannot be read (${error})${readAt ? `; shown as of ${relative(readAt, view.at)}` : ""}.`
    : "The database's statistics have not been read yet.";
}

// Participants --------------------------------------------------------------------------------

function spark(participant, hours) {
  const most = Math.max(1, ...participant.keysByHour);
  const rects = participant.keysByHour.map((keys, index) => {
    const height = keys === 0 ? 0.6 : Math.max(1.5, keys / most * 18);
    return draw("rect", { x: index * 4, y: (18 - height).toFixed(2), width: 3, height: height.toFixed(2), class: keys === 0 ? "none" : "" });
  });
  const peak = participant.keysByHour.indexOf(most);
  const text = peak < 0 ? "none in 24 hours"
    : `peak ${number(most)} at ${clock(hours[peak]).slice(0, 5)}`;
  return [make("span", { class: "spark", "aria-hidden": "true" },
    draw("svg", { viewBox: "0 0 96 18", preserveAspectRatio: "none" }, ...rects)), sub(text)];
}

function certificates(participant) {
  return make("ul", { class: "certificates" }, participant.certificates.map((one) => {
    const left = one.daysLeft;
    const [level, text] = left === null ? [one.kind === "callback" ? null : "care", "none listed"]
      : left < 0 ? ["alarm", "expired"]
      : [left < 7 ? "alarm" : left < 30 ? "care" : null, plural(left, "day")];
    const end = one.notAfter === null ? null : `until ${day(one.notAfter)}`;
    return make("li", { title: end, "data-kind": one.kind }, make("span", { class: "kind" }, `${one.kind} `), marked(level, text));
  }));
}

function callbackCell(participant) {
  const all = participant.subscriptions;
  if (all.length === 0) return "none";
  const disabled = all.filter((one) => one.disabledAt !== null).length;
  const failing = all.filter((one) => one.disabledAt === null && one.failedAttempts > 0).length;
  if (disabled > 0) return marked("alarm", `${disabled} of ${all.length} disabled`);
  if (failing > 0) return marked("care", `${failing} of ${all.length} failing`);
  return `${all.length} in order`;
}

const sum = (counts) => counts.reduce((all, count) => all + count, 0);

/// All refused requests, then each reason. To ask for what is not there is in order.
function refusalCell({ refusals }) {
  const isInOrder = refusals.every((one) => one.whose === "nothing there");
  const all = number(sum(refusals.map((one) => one.count)));
  return [marked(isInOrder ? null : "care", all),
    ...refusals.map((one) => make("span", { class: "sub", "data-code": one.code, "data-count": one.count },
      `${number(one.count)} ${one.reason}`))];
}

function participantRow(one, view) {
  const share = one.keysPerDayMax > 0 ? one.keysToday / one.keysPerDayMax : 0;
  return {
    key: one.country,
    cells: [
      make("span", { class: "country" }, one.country),
      [number(one.keysToday), one.keysPerDayMax > 0 ? sub(`${tenths.format(share * 100)} % of quota`) : null],
      number(one.uploadsToday),
      one.keysByHour.length > 0 ? spark(one, view.hours) : "–",
      one.lastUploadAt ? time(one.lastUploadAt, view.at) : "none stored",
      [number(one.downloadsToday), sub(`${number(one.downloadedKeysToday)} keys`)],
      one.lastDownloadAt ? time(one.lastDownloadAt, view.at) : "none known",
      marked(one.batchesBehind > 100 ? "care" : null, number(one.batchesBehind)),
      [number(one.duplicateKeys), one.duplicateUploads > 0 ? sub(`in ${plural(one.duplicateUploads, "upload")}`) : null],
      refusalCell(one),
      certificates(one),
      callbackCell(one),
    ],
  };
}

const PARTICIPANT_COLUMNS = [
  { name: "Participant", key: "country" },
  { name: "Keys today", key: "keysToday" },
  { name: "Uploads today", key: "uploadsToday" },
  { name: "Keys by hour, 24 h", key: "keysByHour" },
  { name: "Last upload", key: "lastUpload" },
  { name: "Downloads today", key: "downloadsToday" },
  { name: "Last download", key: "lastDownload" },
  { name: "Batches behind", key: "batchesBehind" },
  { name: "Duplicate keys", key: "duplicates" },
  { name: "Requests refused", key: "refused" },
  { name: "Certificates, days left", key: "certificates", text: true },
  { name: "Callbacks", key: "callbacks", text: true },
];

function showParticipants(view) {
  const minute = Math.floor(view.at / 60000);
  show("participants", [view.participants, minute], () => {
    if (view.participants.length === 0) {
      if (!view.installation.day) return make("p", { class: "quiet boxed" }, "Known once the gateway has started.");
      return make("p", { class: "quiet boxed" },
        "No participant is listed: nobody can connect. List their certificates with efgs cert add.");
    }
    return table({ label: "Participants", wide: true }, PARTICIPANT_COLUMNS,
      view.participants.map((one) => participantRow(one, view)));
  });
  const select = byId("hours-country");
  const known = [...select.options].map((option) => option.value).join();
  const wanted = ["", ...view.participants.map((one) => one.country)];
  if (known !== wanted.join()) {
    const before = select.value;
    select.replaceChildren(...wanted.map((country) =>
      make("option", { value: country, selected: country === before }, country || "All participants")));
  }
}

// Refusals, callbacks, gateways ---------------------------------------------------------------

/// Who was refused for a reason, the most often refused first; the rest showed no listed certificate.
function refusedOf({ code, count }, participants) {
  const countOf = (one) => one.refusals.find((refusal) => refusal.code === code)?.count ?? 0;
  const known = participants.map((one) => [one.country, countOf(one)]).filter(([, count]) => count > 0);
  const rest = count - sum(known.map(([, count]) => count));
  // A gateway adds up the rarest reasons of a participant that is refused for many.
  const isExact = participants.every((one) => one.refusals.every((refusal) => refusal.code !== "other"));
  return [...known.sort((a, b) => b[1] - a[1]), ...(rest > 0 ? [[isExact ? "no participant" : "others", rest]] : [])];
}

function showRefusals(view) {
  const since = youngSince(view) ? "since this gateway began to sample" : "in the last hour";
  const byParticipant = view.participants.map(({ country, refusals }) => ({ country, refusals }));
  show("refusals", [view.refusals, byParticipant, since], () => {
    if (view.refusals.length === 0) return make("p", { class: "quiet boxed" }, `No request was refused ${since}.`);
    const most = view.refusals[0].count;
    return table({ label: "Refused requests by reason" },
      [{ name: "Reason", key: "reason", text: true }, { name: "Because of", key: "whose", text: true },
       { name: "Of", key: "of", text: true }, { name: "Requests", key: "count" }],
      view.refusals.map((one) => ({
        key: one.code,
        cells: [
          [one.reason, make("span", { class: "sub code" }, `${one.status ?? "?"} ${one.code}`)],
          one.whose ?? "not known here",
          refusedOf(one, byParticipant).map(([who, count]) => `${who} ${number(count)}`).join(", "),
          [number(one.count), bar(one.count / most, one.status >= 500 && one.status !== 503 ? "bad" : "")],
        ],
      })));
  });
}

function showCallbacks(view) {
  const all = view.participants.flatMap((one) => one.subscriptions.map((sub) => ({ country: one.country, ...sub })));
  show("callbacks", [all, Math.floor(view.at / 60000)], () => {
    if (all.length === 0) return make("p", { class: "quiet boxed" }, "No participant has subscribed to callbacks.");
    return table({ label: "Callback subscriptions" },
      [{ name: "Subscription", key: "id", text: true }, { name: "State", key: "state", text: true },
       { name: "Behind", key: "behind" }, { name: "Last error", key: "error", text: true }],
      all.map((one) => ({
        key: `${one.country} ${one.id}`,
        cells: [
          [`${one.country} ${one.id}`, make("span", { class: "sub code" }, one.url)],
          one.disabledAt !== null ? [marked("alarm", "disabled"), sub(time(one.disabledAt, view.at))]
            : one.failedAttempts > 0 ? [marked("care", `failed ${one.failedAttempts} times`),
                one.nextAttemptAt ? sub("next ", time(one.nextAttemptAt, view.at)) : null]
            : "in order",
          number(one.batchesBehind),
          one.lastError ? [one.lastError, one.lastErrorAt ? sub(time(one.lastErrorAt, view.at)) : null] : "none",
        ],
      })));
  });
}

const METERS = [
  ["uploadsInFlight", "Uploads in flight", number],
  ["uploadBytesInFlight", "Bytes of uploads", bytes],
  ["connections", "Connections", number],
  ["storedMemoryBytes", "Memory for stored keys", bytes],
  ["bundleCacheBytes", "Bundle cache", bytes],
  ["auditCacheBytes", "Audit cache", bytes],
  ["callbackDeliveries", "Callbacks under way", number],
  ["openFiles", "Open files", number],
  ["diskBytes", "Disk of the database", bytes],
];
/// A cache is meant to be full.
const CACHES = ["bundleCacheBytes", "auditCacheBytes"];

function meters(gauges) {
  return make("ul", { class: "meters" }, METERS.filter(([key]) => gauges[key].max > 0).map(([key, name, format]) => {
    const { used, max } = gauges[key];
    const share = used / max;
    const [warn, bad] = CACHES.includes(key) ? [2, 2] : key === "diskBytes" ? [0.9, 0.98] : [0.8, 0.95];
    const level = share < warn ? null : share < bad ? "warn" : "bad";
    return make("li", { "data-meter": key },
      make("span", { class: "label" }, make("span", null, name),
        make("span", null, `${format(used)} of ${format(max)}${level ? ` (${whole.format(share * 100)} %)` : ""}`)),
      bar(share, level));
  }));
}

const STATES = {
  ready: ["good", "Ready"], notReady: ["bad", "Not ready"], stopped: ["unknown", "Stopped"], lost: ["bad", "Lost"],
};

function gatewayCard(one, view) {
  const [state, text] = STATES[one.state] ?? ["unknown", one.state];
  const isAlive = one.state === "ready" || one.state === "notReady";
  const ahead = one.clockAheadOfDatabaseMs;
  const clockText = Math.abs(ahead) < 1000 ? "agrees with the database's"
    : `${seconds(Math.abs(ahead) / 1000)} ${ahead > 0 ? "ahead of" : "behind"} the database's`;
  const facts = [
    ["Version", one.version],
    ["Started", time(one.startedAt, view.at)],
    isAlive && !one.isThis ? ["Seen", `${plural(one.seenSecondsAgo, "second")} ago`] : null,
    isAlive ? null : ["Last seen", relative(view.at - one.seenSecondsAgo * 1000, view.at)],
    isAlive ? ["Database", marked(one.databaseAvailable ? null : "alarm", one.databaseAvailable ? "answers" : "does not answer")] : null,
    isAlive ? ["Clock", marked(Math.abs(ahead) > 60000 ? "care" : null, clockText)] : null,
    ["Epoch, log position", `${one.epoch}, ${number(one.logPosition)}`],
    isAlive ? ["Keys in memory", number(one.gauges.identities)] : null,
    isAlive ? ["Memory, processors", `${bytes(one.gauges.residentBytes)}, ${one.gauges.cpuCores.toFixed(2)} cores`] : null,
    isAlive ? ["Now", `${number(one.keysPerSecond)} keys/s, ${number(one.downloadsPerSecond)} downloads/s`] : null,
    ...(one.isThis ? view.ownCertificates.map(certificateFact) : []),
  ].filter((fact) => fact !== null);
  const roles = [one.isThis ? "shows this page" : null, isAlive && one.cuts ? "leader: cuts the download batches" : null,
    one.address ? `operations port ${one.address}` : "no operations port"].filter((role) => role !== null);
  return make("article", { class: `card gateway ${isAlive ? "" : "gone"}`, "data-gateway": one.name },
    make("header", null, make("h3", null, one.name), make("p", { class: "state", "data-state": state }, text)),
    make("p", { class: "role" }, roles.join(" · ")),
    make("div", { class: "body" },
      make("dl", null, facts.flatMap(([name, value]) => [make("dt", null, name), make("dd", null, value)])),
      isAlive ? meters(one.gauges) : null));
}

function certificateFact({ name, daysLeft: left }) {
  const text = left < 0 ? "expired" : `${plural(left, "day")} left`;
  return [name, marked(left < 7 ? "alarm" : left < 30 ? "care" : null, text)];
}

function showGateways(view) {
  show("gateways", [view.gateways, view.ownCertificates], () => view.gateways.map((one) => gatewayCard(one, view)));
}

// The loop ------------------------------------------------------------------------------------

let charts = [];
let lastView = null;
let isPaused = false;

function makeCharts() {
  charts = CHARTS.map((spec) => new HistoryChart(byId("charts"), spec));
  charts.push(new HoursChart(byId("hours-chart"), { key: "hours", title: "Keys by hour", series: [{ name: "Keys", color: "--accent" }] }));
}

/// Since when figures of the last hour are counted, if not for a whole hour.
function youngSince(view) {
  const first = view.history.at[0];
  if (first === undefined) return "now";
  return view.at / 1000 - first < HOUR_S - 60 ? `${clock(first * 1000)} UTC` : null;
}

function showHistoryNote(view) {
  const since = youngSince(view);
  byId("history-note").textContent = since ? `since ${since}, when this gateway began to sample` : "";
}

function showAll(view) {
  lastView = view;
  showHead(view);
  showAttention(view);
  showToday(view);
  showHistoryNote(view);
  showParticipants(view);
  showRefusals(view);
  showCallbacks(view);
  showGateways(view);
  for (const chart of charts) chart.update(view);
}

function showUnreachable(reason) {
  const banner = byId("unreachable");
  const since = lastView ? ` The figures are those of ${clock(lastView.at)} UTC.` : "";
  const text = `This gateway does not answer (${reason}).${since}`;
  if (banner.textContent !== text) banner.textContent = text;
  banner.hidden = false;
  byId("state").dataset.state = "bad";
  byId("state").textContent = "Unreachable";
}

async function poll() {
  if (!isPaused) {
    let view = null;
    try {
      const answer = await fetch("/console.json", { cache: "no-store", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      view = await answer.json();
    } catch (error) {
      showUnreachable(error.message);
    }
    if (view) {
      byId("unreachable").hidden = true;
      showAll(view);
    }
  }
  setTimeout(poll, INTERVAL_MS);
}

byId("pause").addEventListener("click", (event) => {
  isPaused = !isPaused;
  event.target.setAttribute("aria-pressed", String(isPaused));
  event.target.textContent = isPaused ? "Resume updates" : "Pause updates";
});
byId("hours-country").addEventListener("change", () => { if (lastView) charts.at(-1).update(lastView); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.restyle()));
makeCharts();
poll();

//! The bounds of the engine, with their reasons: all that can grow or take time. Bounds of a single
//! driver, decoder or algorithm, which nothing else depends on, are in its own file. A bound of a
//! setting is named `…_SETTING_MAX`; `…_MAX` is a bound or the default of one.
//!
//! Weighed against: a bound per queue in the file that owns the queue. One file keeps the sums
//! visible: what they allow together is what the process may use.

use std::time::Duration;

/// Keys in one upload: the reference's `maximum-upload-batch-size`.
pub const UPLOAD_KEYS_MAX: u32 = 5000;

/// Characters of one key's visited countries, joined with commas: what the reference can store (its
/// column holds 400 characters of ciphertext in base64). 96 countries of two letters.
pub const VISITED_COUNTRIES_CHARACTERS_MAX: usize = 287;

/// Bytes in one upload body. 5000 keys take 300 to 500 KB as protobuf and about 1.7 MB as JSON
/// with 27 countries each; clients may count on 8 MB (clients (a).1).
pub const UPLOAD_BODY_BYTES_MAX: usize = 8 << 20;

/// Uploads in flight over all participants: an hour's burst of the worst day is 134 full uploads,
/// whose clients do not all know how to come again; half as many again may still be on their way,
/// from slow lines. Their bytes have a bound of their own.
pub const BATCHES_IN_FLIGHT_MAX: usize = 200;

/// Body bytes in flight over all participants. A full protobuf upload of 400 KB takes about five
/// times its size while it is worked on; 64 MiB of bodies take up to 320 MiB.
pub const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// A participant may hold one part in this many of each shared bound, so that a flood from one leaves
/// room for the others.
pub const PARTICIPANT_SHARE_DIVISOR: usize = 4;

/// Keys that one participant may store in a day (UTC), if the settings do not say otherwise. On the
/// worst day that is planned for Germany, the largest, stores 3 million; four times as many are not a
/// pandemic but a fault or a stolen key. As identities they take 24 to 32 bytes of memory each: 380 MB.
pub const PARTICIPANT_KEYS_PER_DAY: u64 = 12_000_000;

/// One part in this many of the memory that the process may use is for what grows with the log. The rest is for
/// bundles (320 MiB), uploads and answers in flight (320 MiB and more), and for a shard of the set that
/// grows.
pub const STORED_MEMORY_DIVISOR: u64 = 2;

/// Memory for what grows with the log where nobody says how much the machine has.
pub const STORED_MEMORY_BYTES_FALLBACK: u64 = 2 << 30;

/// When to come back while the memory is used up: an operator has to see to it, or retention, at
/// midnight.
pub const MEMORY_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Longest wait of an upload before a download batch is cut.
pub const BUNDLE_MAX_DELAY: Duration = Duration::from_secs(2);

/// Keys in one download batch: the reference's `batching.doclimit`.
pub const BUNDLE_KEYS_MAX: u32 = 5000;

/// Bytes of encoded keys in one download batch, whatever their number: four times what 5000 usual
/// keys take, so that no real day has a batch more for it. An upload beyond it (5000 keys with the
/// longest lists of countries take 3 MB) makes a batch alone.
pub const BUNDLE_BYTES_MAX: u64 = 2 << 20;

/// Bytes of the audit of one download batch: 2700 usual uploads with their certificates, ten times
/// what a batch has on a day of many small uploads.
pub const AUDIT_BYTES_MAX: usize = 16 << 20;

/// What an entry of an audit takes beside its batch signature: two certificates with their operator
/// signatures, and the names of ten members. Large for certificates, small for chains.
pub const AUDIT_ENTRY_BYTES: u64 = 6 << 10;

/// The budget of download batches that are cut for age refills by one in this time, the rhythm in
/// which the reference cuts, and no upload waits longer because of it.
pub const PACING_INTERVAL: Duration = Duration::from_secs(300);

/// Most that the budget holds. With the refill of a day (288) it is 336 download batches, beside the
/// full ones: ES, the slowest reader, takes 500 a day.
pub const PACING_BATCHES_MAX: u32 = 48;

/// Memory for encoded bundles and audits. The bundles of a planning day take 9 MB, of the peak day
/// 208 MB.
///
/// It also holds what is being sent, so the sum of all that downloads and audits take is with the
/// default:
///
/// | bytes | of |
/// | --- | --- |
/// | 224 MiB | bundles, cached or being sent |
/// | 32 MiB | audits, likewise; up to 64 MiB while readers keep as many waiting |
/// | 64 MiB | uploads not cut yet ([`fresh_segments_bytes_max`]) |
/// | 14 MiB | what [`READER_THREADS`] read back: a sealed bundle and its keys, or a bundle as JSON |
/// | 64 KiB | per bundle that is converted to JSON while it is sent ([`JSON_PIECE_BYTES`]) |
/// | 256 KiB | per connection that does not read: buffers of HTTP and TLS |
pub const BUNDLE_CACHE_BYTES_MAX: usize = 256 << 20;

/// The part of that memory which is for audits.
pub const fn audit_cache_bytes_max(cache_bytes_max: usize) -> usize {
    cache_bytes_max / 8
}

/// Bytes in a cache that may be on their way to readers before nothing more is read for it: all of
/// it, and with a small cache one for each participant that has its whole share under way.
pub const fn in_use_bytes_max(cache_bytes_max: usize, largest_bytes: usize) -> usize {
    let few = PARTICIPANT_SHARE_DIVISOR * largest_bytes;
    if cache_bytes_max > few {
        cache_bytes_max
    } else {
        few
    }
}

/// Bytes of either that one participant may have under way, whether it reads them or not: as with
/// uploads a quarter of all. With the defaults 56 MiB of bundles, which are 125 usual full ones or 33
/// as JSON, and 16 MiB of audits.
pub const fn answer_share_bytes_max(in_use_bytes_max: usize) -> usize {
    in_use_bytes_max / PARTICIPANT_SHARE_DIVISOR
}

/// That share of bundles, for all the memory of a cache.
pub const fn bundle_share_bytes_max(cache_bytes_max: usize) -> usize {
    let bundles = cache_bytes_max - audit_cache_bytes_max(cache_bytes_max);
    answer_share_bytes_max(in_use_bytes_max(bundles, 4 * JSON_BUNDLE_BYTES_MAX))
}

/// That share of audits, for all the memory of a cache.
pub const fn audit_share_bytes_max(cache_bytes_max: usize) -> usize {
    let audits = audit_cache_bytes_max(cache_bytes_max);
    answer_share_bytes_max(in_use_bytes_max(audits, AUDIT_BYTES_MAX))
}

/// A bundle with more encoded keys than this is never JSON as a whole, which takes four times the
/// bytes: it is converted while it is sent. Twice a usual full bundle.
pub const JSON_BUNDLE_BYTES_MAX: usize = 1 << 20;

/// Encoded keys that are converted to JSON at a time while they are sent: some hundred keys, a few
/// tens of microseconds of a network thread.
pub const JSON_PIECE_BYTES: usize = 16 << 10;

/// Days before today that can still be downloaded: the reference's `max-age-in-days`.
pub const DOWNLOAD_MAX_AGE_DAYS: u32 = 2;

/// A key can be uploaded until this many days after its rolling start (wire §8.3).
pub const KEY_AGE_DAYS_MAX: u32 = 15;

/// Nesting of a batch signature's BER. Real signatures nest about a dozen deep.
pub const CMS_DEPTH_MAX: usize = 32;

/// Size of a decoded batch signature, in bytes: 16 KB of header is the least to accept, chains
/// of 4096-bit certificates stay under 12 KB.
pub const CMS_BYTES_MAX: usize = 24 << 10;

/// Values (in the sense of ASN.1) in a batch signature: a certificate has 100 to 200 of them, so
/// this is a message full of certificates.
pub const CMS_ELEMENTS_MAX: usize = 4096;

/// Most keys of an upload whose signature is explained by a usual mistake: with 16 passes, that visits as
/// many keys as three full uploads have. Who looks for a mistake can do so with fewer keys.
pub const EXPLAINED_KEYS_MAX: usize = 1000;

/// Bytes of sealed keys and identities from which on a group commit takes no further upload: the one
/// that passes them still goes along. A group must grow with the wait for the disk; 2 MiB are about 5
/// full uploads. An upload waits for the group that is being written, for
/// the one that is ready, and for its own: larger groups would only make it wait longer.
pub const GROUP_BYTES_MAX: usize = 2 << 20;

/// Uploads that one group may put off because they share a tag or a key with a member.
pub const GROUP_DEFERRED_MAX: usize = 16;

/// Bytes that a connection to SQLite writes before it asks for a checkpoint, which takes some ten
/// milliseconds of the disk beside the uploads that come meanwhile.
pub const CHECKPOINT_BYTES: usize = 8 << 20;

/// Pages of SQLite's log that a checkpoint may leave: 1 MiB.
pub const CHECKPOINT_PAGES_LEFT: u64 = 64;

/// Pages of SQLite's log, 64 MiB, from which on every commit tries a checkpoint of its own. A log
/// starts from its beginning only when a checkpoint meets its end, which a disk that is always busy prevents.
pub const WAL_PAGES_MAX: u64 = 4096;

/// Between looks at what other gateways have written, while there is nothing to write.
pub const FOLLOW_INTERVAL: Duration = Duration::from_millis(100);

/// Rows read at a time when following the log: 32 full uploads are 2.5 MB of identities.
pub const FOLLOW_ROWS: u64 = 32;

/// Pauses between attempts of the writer or the bundler while the database fails: the first
/// retry comes at once, then each pause is twice the one before. In the five seconds of
/// [`DATABASE_RETRY_MAX`] these are 15 attempts, and then two per second.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);

/// The longest of those pauses: how long an upload that comes when the database is well again may
/// still wait.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Between probes of a database that stores, while no uploads come: a disk may be full by then. A
/// probe is a transaction that is taken back.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(10);

/// Between probes of a database that has refused to store.
pub const PROBE_RETRY: Duration = Duration::from_secs(1);

/// What a probe writes, in bytes; after a refusal, as much as what was refused. A usual upload takes
/// 10 to 100 KB.
pub const PROBE_BYTES: usize = 64 << 10;

/// A database that has not answered the writer for so long counts as unavailable. A load balancer
/// that looks at `/ready` every second notices within three.
pub const SILENCE_MAX: Duration = Duration::from_millis(2500);

/// From the complete body of an upload to its answer, over all stages: below the shortest client
/// time-out (IT: 10 s). What has no outcome by then is answered 503, and may be stored.
pub const UPLOAD_ANSWER_MAX: Duration = Duration::from_secs(8);

/// Most characters shown of what a database server says.
pub const EXCERPT_CHARACTERS_MAX: usize = 300;

/// Lost races for the next position before the gateway locks the tail of the log. Between busy
/// gateways one to three are usual, and locking costs a round trip; but large groups lose again and
/// again to gateways that write small ones.
pub const LOST_RACES_MAX: u32 = 4;

/// How long an upload waits for a database that is away before it is answered with an error. Rides
/// out the change of a cluster's node; below the shortest client time-out (IT: 10 s).
pub const DATABASE_RETRY_MAX: Duration = Duration::from_secs(5);

/// How long an upload waits while other gateways are faster; below the shortest client time-out.
pub const CONTENTION_RETRY_MAX: Duration = Duration::from_secs(8);

/// How far the clock of the gateway that cuts may be from the database's: the names of download
/// batches are made of days, and never go back.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(300);

/// How long a clock must hold before its day is believed, unless it is the one after the known day:
/// time for an operator or for time synchronization to correct it.
pub const DAY_HOLD: Duration = Duration::from_secs(3600);

/// How long after a day that a jump of the clock brought the next one may come in the same way.
pub const DAY_STEP_INTERVAL: Duration = Duration::from_secs(12 * 3600);

/// Between log lines about a clock that is not believed.
pub const DAY_WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// Between log lines with one cause about a database that is away.
pub const OUTAGE_LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Causes that have log lines of their own while the database is away. The first ones tell what there
/// is to know: the connection was lost, the next one is refused, another host has no quorum.
pub const OUTAGE_CAUSES_MAX: usize = 8;

/// Between looks at the hosts of the database that are preferred to the one in use, and at most as
/// much again, at random. A host has to be good at two looks.
pub const HOST_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// How long a step of a migration may take before another gateway may migrate, too. Steps may be
/// repeated, and each begins by renewing the migration lock.
pub const MIGRATION_LEASE: Duration = Duration::from_secs(20);

/// Between looks whether another gateway has migrated.
pub const MIGRATION_RETRY: Duration = Duration::from_millis(100);

/// Rows that gateways change to make reads durable, one each. Two of four gateways share one in a
/// third of all cases, which costs a conflict now and then.
pub const TOUCHED_ROWS: u64 = 16;

/// Tries of a statement that is a transaction of its own, when it loses a race.
pub const STATEMENT_TRIES_MAX: u32 = 3;

/// A server that does not answer a gateway's thread within this time is taken for lost. Statements
/// of gateways at work touch some rows.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The same at start and for the command line. Full scans of the log, or of a reference database
/// with millions of keys, send nothing before they are done.
pub const LONG_ANSWER_TIMEOUT: Duration = Duration::from_secs(900);

/// How long to wait for another gateway that migrates.
pub const MIGRATION_WAIT_MAX: Duration = Duration::from_secs(60);

/// A server ends the session of a gateway that says nothing for so long: whatever became of the
/// gateway, its transaction and its locks are gone then.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(30);

/// The same at start and for the command line: an import reads one database for as long as
/// [`LONG_ANSWER_TIMEOUT`], and asks about callback URLs, before it continues with the other.
pub const LONG_SESSION_IDLE_MAX: Duration = Duration::from_secs(3600);

/// A connection that was idle for longer is not used again: the server may have ended its session.
pub const CONNECTION_IDLE_MAX: Duration = Duration::from_secs(10);

/// Download batches cut in one transaction, which must end long before the lease does.
pub const CUTS_MAX: usize = 64;

/// Between looks whether the database confirms what is answered from memory.
pub const RECONNECT_INTERVAL: Duration = Duration::from_millis(200);

/// Days of the log whose identities are kept: a key begins at most ten minutes after its upload
/// and can come again until [`KEY_AGE_DAYS_MAX`] days after that; a day more for the rounding.
pub const IDENTITY_AGE_DAYS: u32 = KEY_AGE_DAYS_MAX + 2;

/// How long the writer forgets at a time, between two groups. It looks at the clock between shards,
/// each a 256th of the set: an upload may wait for the sweep of one shard beyond it.
pub const FORGET_SLICE: Duration = Duration::from_millis(2);

/// Between looks at the clock for a new day of retention, and at its other tasks.
pub const RETENTION_WAKE: Duration = Duration::from_secs(1);

/// Between passes of retention. A pass with nothing to do takes a few small statements.
pub const RETENTION_INTERVAL: Duration = Duration::from_secs(60);

/// Until the next pass, when another gateway was at it or the database failed.
pub const RETENTION_RETRY: Duration = Duration::from_secs(1);

/// How long after midnight (UTC) the day begins for retention: gateways whose clocks are a little
/// behind still answer for the day that is about to go, and so do downloads that have begun.
pub const RETENTION_GRACE: Duration = Duration::from_secs(300);

/// Uploads that one transaction of retention empties or deletes: at the most 8 MB of rows that
/// SQLite has to rewrite without their key data, some milliseconds for uploads to wait.
pub const RETENTION_ROWS: u64 = 16;

/// Download batches that one transaction deletes: small rows.
pub const RETENTION_BATCHES: u64 = 500;

/// Shortest pause between two transactions of retention; the longest is as long as one took.
pub const RETENTION_PAUSE_MIN: Duration = Duration::from_millis(2);

/// Uploads deleted per transaction when an import starts from scratch; no request waits for it.
pub const IMPORT_DELETED_ROWS: u64 = 1000;

/// Sealed keys that an import buffers before it writes them: few commits for small uploads, and no
/// more memory for a large download batch.
pub const IMPORT_WRITE_BYTES: usize = 2 << 20;

/// Most uploads that an import buffers.
pub const IMPORT_WRITE_UPLOADS: usize = 500;

/// Uploads that are left out of an import and named one by one; those beyond are counted.
pub const IMPORT_UPLOADS_NAMED_MAX: usize = 1000;

/// Between writes of counted downloads: what a gateway that is killed has not counted.
pub const DOWNLOAD_COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// Between looks at what participants have downloaded from other gateways: a range of a primary key, some
/// thousand rows for a day.
pub const NEWEST_DOWNLOADS_INTERVAL: Duration = Duration::from_secs(30);

/// Pairs of participant and download batch that are counted while the database is away: 60
/// participants and the 3220 batches of the worst day, of 150 bytes each. Further ones are served
/// and not counted.
pub const DOWNLOAD_COUNTS_MAX: usize = 200_000;

/// Rows of download statistics in one statement: six parameters each, of which MySQL takes 65535.
pub const DOWNLOAD_COUNT_ROWS: usize = 500;

/// A lease that is not renewed is free after this time: how long download batches wait when the
/// gateway that cuts them dies.
pub const LEASE_TTL: Duration = Duration::from_secs(3);

/// Between renewals of the lease.
pub const LEASE_RENEWAL: Duration = Duration::from_millis(750);

/// Shortest time between two cuts: each is a commit, beside those of the uploads.
pub const CUT_INTERVAL: Duration = Duration::from_millis(20);

/// Between looks at the download batches that another gateway has cut.
pub const CATALOG_INTERVAL: Duration = Duration::from_millis(50);

/// Between looks at the revision of the certificate list; a revocation must reach every gateway
/// within five seconds.
pub const TRUST_INTERVAL: Duration = Duration::from_secs(1);

/// Largest answer of a database server, as a packet: a row with three columns of 16 MiB.
pub const DATABASE_PACKET_BYTES_MAX: usize = 64 << 20;

/// Largest answer of a database server to a query whose rows are all kept, in bytes of their columns,
/// each with what it takes in memory: the uploads of 15 days, 10 million with four columns each.
pub const DATABASE_ANSWER_BYTES_MAX: usize = 2 << 30;

/// Between complete reads of the certificate list when its revision stands still: anyone who can hold the
/// revision cannot hide a revocation for longer.
pub const TRUST_REREAD_INTERVAL: Duration = Duration::from_secs(30);

/// How often withdrawn uploads are looked for: a withdrawal is in force everywhere within two
/// seconds.
pub const WITHDRAWAL_INTERVAL: Duration = Duration::from_secs(1);

/// Uploads whose metadata is read at a time for cutting. MySQL reads a row's sealed keys to tell
/// their length: 512 full uploads are 200 MB of its memory, far below a second.
pub const CUT_ROWS: u64 = 512;

/// Threads that read cold bundles and audits, each with a connection.
pub const READER_THREADS: usize = 2;

/// Cold reads and audits that may wait. 60 participants asking for four batches each.
pub const COLD_READS_MAX: usize = 256;

/// Those of one participant. Clients ask for one at a time, and a few in parallel catch up faster.
pub const PARTICIPANT_COLD_READS_MAX: usize = COLD_READS_MAX / PARTICIPANT_SHARE_DIVISOR;

/// Encoded segments of uploads that wait to be cut, beside the bundle cache: a quarter as much again,
/// with the default 64 MiB, or 160 full uploads. They are cut as soon as they fill a download batch;
/// what does not fit is read back from the database.
pub const fn fresh_segments_bytes_max(cache_bytes_max: usize) -> usize {
    cache_bytes_max / 4
}

/// Callback subscriptions of one country. Clients use one; a few more leave room for moves.
pub const CALLBACKS_PER_COUNTRY_MAX: u64 = 16;

/// Most characters kept of the reason for a failed delivery: a sentence for operators. Each takes
/// up to four bytes in its column.
pub const CALLBACK_REASON_CHARACTERS_MAX: usize = 200;

/// Requests about callbacks that may wait for their thread: the deliveries under way, and a few
/// participants that change their subscriptions.
pub const CALLBACK_JOBS_MAX: usize = 256;

/// Those of one participant.
pub const PARTICIPANT_CALLBACK_JOBS_MAX: usize = CALLBACK_JOBS_MAX / PARTICIPANT_SHARE_DIVISOR;

/// Longest claim on a delivery, and longest wait for the next attempt. A row with a longer one was
/// written before the database's clock was set back.
pub const CALLBACK_WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// Longest time for which keys can be downloaded: what a phone can still use.
pub const MAX_AGE_DAYS_SETTING_MAX: u32 = 14;

/// Largest bound for a body that can be configured: a row's key data must fit a MEDIUMBLOB, 16 MiB.
pub const BODY_BYTES_SETTING_MAX: usize = 15 << 20;

/// The most bytes that a row of the log takes: sealed keys, one identity per key, the batch
/// signature and the rest of the statement.
pub const fn row_bytes_max(body_bytes_max: usize, keys_max: u32) -> usize {
    body_bytes_max + 16 * keys_max as usize + (128 << 10)
}

/// Most uploads that cannot be served and are named in `/ready`: anyone who has more looks with
/// `efgs db verify`.
pub const DAMAGED_UPLOADS_NAMED_MAX: usize = 20;

/// Rows of the log that `efgs db verify` reads at a time: a row may have some megabytes.
pub(crate) const VERIFY_ROWS: u64 = 8;

/// Download batches that `efgs db verify` reads at a time.
pub(crate) const VERIFY_BATCHES: u64 = 1000;

/// Bytes of what a gateway announces of itself: about 2 KB with 27 participants.
pub const GATEWAY_FIGURES_BYTES_MAX: usize = 64 << 10;

/// Gateways that the console shows, the last seen first: several times as many as anybody runs.
pub const GATEWAYS_SHOWN_MAX: usize = 64;

/// How long a gateway that is gone is remembered, with what participants have last downloaded from it.
pub const GATEWAY_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Between deletions of gateways that are gone for longer.
pub const GATEWAY_CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);

/// Hours of uploads that the console has: the present one, and those of a whole day before it.
pub const OVERVIEW_HOURS: u64 = 24;

/// Rows of the log that one statement counts for the console: some milliseconds, since large columns
/// are not read.
pub const OVERVIEW_ROWS: u64 = 20_000;

const _: () = assert!(
    FOLLOW_INTERVAL.as_millis() < 1000,
    "gateways must not fall behind"
);
const _: () = assert!(IDENTITY_AGE_DAYS > KEY_AGE_DAYS_MAX);
const _: () = assert!(DOWNLOAD_COUNT_ROWS * 6 < 32_766, "SQLite's parameters");
const _: () = assert!(LEASE_RENEWAL.as_millis() * 3 < LEASE_TTL.as_millis());
const _: () = assert!(
    CONNECTION_IDLE_MAX.as_secs() < SESSION_IDLE_MAX.as_secs(),
    "a session ends after the gateway has stopped using it"
);
const _: () = assert!(DATABASE_RETRY_MAX.as_secs() < CONTENTION_RETRY_MAX.as_secs());
const _: () = assert!(CONTENTION_RETRY_MAX.as_secs() <= UPLOAD_ANSWER_MAX.as_secs());
const _: () = assert!(RETRY_PAUSE_MAX.as_millis() < FOLLOW_INTERVAL.as_millis() * 10);
const _: () = assert!(SILENCE_MAX.as_millis() + RETRY_PAUSE_MAX.as_millis() <= 3000);
const _: () = assert!(ANSWER_TIMEOUT.as_secs() <= DATABASE_RETRY_MAX.as_secs());
const _: () = assert!(
    MIGRATION_WAIT_MAX.as_secs() < LONG_ANSWER_TIMEOUT.as_secs(),
    "a session that waits for a lock is not taken for lost"
);
const _: () = assert!(LONG_ANSWER_TIMEOUT.as_secs() < LONG_SESSION_IDLE_MAX.as_secs());
const _: () = assert!(GROUP_BYTES_MAX <= BYTES_IN_FLIGHT_MAX);
const _: () = assert!(UPLOAD_BODY_BYTES_MAX * PARTICIPANT_SHARE_DIVISOR <= BYTES_IN_FLIGHT_MAX);
const _: () = assert!(BATCHES_IN_FLIGHT_MAX >= 2 * PARTICIPANT_SHARE_DIVISOR);

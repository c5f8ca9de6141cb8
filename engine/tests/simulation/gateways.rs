//! The gateways of a simulation and their database: starting, ending, time, keys, and an operator
//! with a hand on the database.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::admin::Admin;
use engine::domain::{BatchTag, Country, Day, UnixMillis};
use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use engine::{Clock, Engine};
use mysql::prelude::Queryable as _;
use mysql::{Conn, Opts, OptsBuilder, SslOpts};

use crate::faults::Injector;
use crate::support::Installation;

/// How long anything may take that has to happen.
const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Gateways {
    pub(crate) installation: Installation,
    pub(crate) faults: Injector,
    engines: Vec<Engine>,
}

impl Gateways {
    pub(crate) fn start(installation: Installation, count: usize) -> Self {
        let mut gateways = Self {
            installation,
            faults: Injector::default(),
            engines: Vec::new(),
        };
        gateways.engines = (0..count).map(|_| gateways.start_one()).collect();
        gateways
    }

    fn start_one(&self) -> Engine {
        let clock: Arc<dyn Clock> = Arc::clone(&self.installation.clock) as _;
        let settings = self.installation.settings.clone();
        Engine::start_with_faults(settings, clock, self.faults.faults()).unwrap()
    }

    pub(crate) fn count(&self) -> usize {
        self.engines.len()
    }

    pub(crate) fn get(&self, via: u16) -> &Engine {
        &self.engines[usize::from(via) % self.engines.len()]
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Engine> {
        self.engines.iter()
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.installation.now()
    }

    pub(crate) fn today(&self) -> Day {
        self.now().day()
    }

    /// The oldest day that can be downloaded.
    pub(crate) fn oldest_day(&self) -> Day {
        let days = self.installation.settings.download.max_age_days;
        self.today().minus_days(days)
    }

    pub(crate) fn restart(&mut self, gateway: u16) {
        let at = usize::from(gateway) % self.engines.len();
        self.engines[at].shutdown();
        self.engines[at] = self.start_one();
    }

    fn restart_all(&mut self) {
        for at in 0..self.engines.len() {
            self.restart(u16::try_from(at).unwrap());
        }
    }

    /// Every gateway knows the new key before one of them seals with it.
    pub(crate) fn rotate_keys(&mut self) {
        for step in [Keys::add_standby_key_text, Keys::add_sealing_key_text] {
            let keys = step(&self.installation.keys).unwrap();
            self.installation.settings.keys = Keys::parse(&keys).unwrap();
            self.installation.keys = keys;
            self.restart_all();
        }
    }

    /// Time passes, and what is to be deleted then is deleted; returns the day of retention.
    pub(crate) fn pass_hours(&self, hours: u16) -> Day {
        let millis = u64::from(hours) * 3_600_000;
        self.installation.clock.advance_millis(millis);
        let grace = engine::limits::RETENTION_GRACE.as_millis();
        let today = UnixMillis(self.now().0 - u64::try_from(grace).unwrap()).day();
        let mut admin = self.admin();
        wait_until("retention runs", || {
            let statistics = admin.statistics(today, today).unwrap();
            statistics.cleanups.iter().any(|found| found.day == today)
        });
        today
    }

    fn admin(&self) -> Admin {
        Admin::open(&self.installation.settings.database).unwrap()
    }

    /// The newest uploads of the log go away, unless that were all, and with them the download
    /// batches that have them. Returns what is lost, and the last position that is kept.
    pub(crate) fn lose_rows(&self, count: u64) -> Option<(HashSet<(Country, String)>, u64)> {
        let mut table = Table::open(&self.installation.settings.database);
        let last = table.number("SELECT COALESCE(MAX(seq), 0) FROM upload_log");
        let first = table.number("SELECT COALESCE(MIN(seq), 0) FROM upload_log");
        let keep = last.saturating_sub(count).max(first);
        if keep == last {
            return None;
        }
        let behind = format!("SELECT country, upload_tag FROM upload_log WHERE seq > {keep}");
        let rows = table.pairs(&behind).into_iter();
        let lost = rows.map(|(country, tag)| (Country::parse(&country).unwrap(), tag));
        let lost = lost.collect();
        let newest = "(SELECT COALESCE(MAX(ordinal), 0) FROM download_batch)";
        // What was delivered after the last commit that is kept is lost, too.
        table.run(&[
            format!("DELETE FROM download_batch WHERE last_seq > {keep}"),
            format!("DELETE FROM upload_log WHERE seq > {keep}"),
            format!(
                "UPDATE callback_subscription SET delivered_ordinal = {newest} \
                 WHERE delivered_ordinal > {newest}"
            ),
        ]);
        Some((lost, keep))
    }

    /// An operator begins an epoch behind `newest`, and starts all gateways again.
    pub(crate) fn recover(&mut self, newest: BatchTag) {
        self.engines.iter().for_each(Engine::shutdown);
        let mut admin = self.admin();
        let plan = admin.plan_recovery(&[], Some(newest)).unwrap();
        admin.begin_epoch(&plan).unwrap();
        self.restart_all();
    }
}

/// The database, past all gateways.
enum Table {
    Sqlite(rusqlite::Connection),
    Mysql(Box<Conn>),
}

impl Table {
    fn open(url: &DatabaseUrl) -> Self {
        match url {
            DatabaseUrl::Sqlite(path) => {
                let file = rusqlite::Connection::open(path).unwrap();
                file.busy_timeout(SOON).unwrap();
                Self::Sqlite(file)
            }
            DatabaseUrl::Mysql(server) => {
                let tls = server.tls.as_ref();
                let tls =
                    tls.map(|tls| SslOpts::default().with_root_cert_path(Some(tls.ca.clone())));
                let opts = Opts::from_url(server.address()).unwrap();
                let opts = OptsBuilder::from_opts(opts).ssl_opts(tls);
                Self::Mysql(Box::new(Conn::new(opts).unwrap()))
            }
        }
    }

    fn number(&mut self, sql: &str) -> u64 {
        match self {
            Self::Sqlite(file) => {
                let found: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
                found.try_into().unwrap()
            }
            Self::Mysql(connection) => connection.query_first(sql).unwrap().unwrap(),
        }
    }

    fn pairs(&mut self, sql: &str) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        match self {
            Self::Sqlite(file) => {
                let mut statement = file.prepare(sql).unwrap();
                let pair = |row: &rusqlite::Row<'_>| Ok((text(row.get(0)?), text(row.get(1)?)));
                let rows = statement.query_map([], pair).unwrap();
                rows.map(Result::unwrap).collect()
            }
            Self::Mysql(connection) => {
                let rows: Vec<(Vec<u8>, Vec<u8>)> = connection.query(sql).unwrap();
                let pair = |(first, second)| (text(first), text(second));
                rows.into_iter().map(pair).collect()
            }
        }
    }

    fn run(&mut self, statements: &[String]) {
        let all = format!("BEGIN; {}; COMMIT", statements.join("; "));
        match self {
            Self::Sqlite(file) => {
                let all = all.replacen("BEGIN", "BEGIN IMMEDIATE", 1);
                file.execute_batch(&all).unwrap();
            }
            Self::Mysql(connection) => {
                for statement in all.split("; ") {
                    connection.query_drop(statement).unwrap();
                }
            }
        }
    }
}

pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

//! What an engine is started with: a database that is fit to work with, and what was read from it.

use std::sync::Arc;
use std::time::Instant;

use crossbeam::channel::{Receiver, Sender};

use crate::bundle::{Bundler, BundlerFeed, BundlerStatus, FreshSegments, Serve};
use crate::calendar::{Calendar, CalendarError};
use crate::clock::Clock;
use crate::continuity::{Continuity, check_remembered};
use crate::database::{Checkpoints, Cluster, Database};
use crate::failure::StartError;
use crate::key_ring::{KeyRing, agree_on_keys, check_keys};
use crate::limits;
use crate::persist::{StartProgress, Writer, WriterState};
use crate::retention::{Retention, oldest_identity};
use crate::settings::{BundleSettings, DownloadSettings, Settings};
use crate::statistics::DownloadCounts;
use crate::store::{
    CLUSTER, CachedStore, ImportState, Store, WithdrawalError, known_version, list_faults, migrate,
};
use crate::trust::TrustAnchors;
use crate::trust_list::TrustList;

/// What threads are started with: the database, and what was read from it.
pub(super) struct Bootstrap {
    pub(super) database: Database,
    pub(super) checkpoints: Option<Checkpoints>,
    pub(super) continuity: Arc<Continuity>,
    pub(super) calendar: Arc<Calendar>,
    pub(super) trust: Arc<TrustList>,
    pub(super) key_ring: Arc<KeyRing>,
    pub(super) fresh: Arc<FreshSegments>,
    pub(super) downloads: Arc<DownloadCounts>,
    pub(super) serve: Arc<Serve>,
}

impl Bootstrap {
    /// Also returns the connection that all of it was read on.
    pub(super) fn open(
        mut database: Database,
        settings: &Settings,
        clock: &Arc<dyn Clock>,
    ) -> Result<(Self, Store), StartError> {
        let checkpoints = database.checkpoints();
        let mut store = open(&database, settings)?;
        let file = settings.continuity.state_file.as_deref();
        let continuity = Arc::new(Continuity::start(
            &database,
            file,
            settings.keys.chain(),
            &mut store,
        )?);
        let skew_max = settings.bundle.clock_skew_max;
        let calendar = Calendar::start(Arc::clone(clock), skew_max, &mut store);
        let calendar = Arc::new(calendar.map_err(|error| match error {
            CalendarError::Database(error) => database.unreachable(error),
            CalendarError::FutureBatch(batch) => StartError::Unsuitable(batch),
        })?);
        let anchors = TrustAnchors::from_pem(&settings.trust_anchor_pem)
            .map_err(|error| StartError::Setting(error.to_string()))?;
        let trust = TrustList::load(
            anchors,
            &settings.keys,
            &continuity,
            &mut store,
            Instant::now(),
        );
        let trust = Arc::new(trust.map_err(|error| database.unreachable(error))?);
        let key_ring = KeyRing::load(&settings.keys, &mut store);
        let key_ring = Arc::new(key_ring.map_err(|error| database.unreachable(error))?);

        let cache_bytes = settings.bundle.cache_bytes_max;
        let fresh_bytes = limits::fresh_segments_bytes_max(cache_bytes);
        let fresh = Arc::new(FreshSegments::new(fresh_bytes));
        let downloads = Arc::new(DownloadCounts::default());
        let serve = Arc::new(Serve::new(
            settings.keys.clone(),
            Arc::<Calendar>::clone(&calendar),
            Arc::clone(&continuity),
            Arc::clone(&fresh),
            cache_bytes,
            settings.download.max_age_days,
            Arc::clone(&downloads),
        ));
        read_served(&serve, &mut store, &database, &calendar)?;
        let bootstrap = Self {
            database,
            checkpoints,
            continuity,
            calendar,
            trust,
            key_ring,
            fresh,
            downloads,
            serve,
        };
        Ok((bootstrap, store))
    }

    /// The writer, with the set that it reads.
    pub(super) fn writer(
        &self,
        mut store: Store,
        wake_bundler: Sender<()>,
        progress: &StartProgress,
    ) -> Result<Writer, StartError> {
        let since = oldest_identity(&mut store, self.calendar.agreed_now().day());
        let since = since.map_err(|error| self.database.unreachable(error))?;
        let feed = BundlerFeed::new(Arc::clone(&self.fresh), wake_bundler);
        let continuity = Arc::clone(&self.continuity);
        Writer::start(
            self.database.clone(),
            &mut store,
            since,
            Box::new(feed),
            continuity,
            progress,
        )
    }

    pub(super) fn bundler(
        &self,
        writer: &Arc<WriterState>,
        status: &Arc<BundlerStatus>,
        clock: &Arc<dyn Clock>,
        settings: BundleSettings,
    ) -> Bundler {
        Bundler {
            database: self.database.clone(),
            writer: Arc::clone(writer),
            continuity: Arc::clone(&self.continuity),
            serve: Arc::clone(&self.serve),
            clock: Arc::clone(clock),
            calendar: Arc::clone(&self.calendar),
            settings,
            holder: random_name(),
            status: Arc::clone(status),
            state: Default::default(),
        }
    }

    pub(super) fn retention(
        &self,
        writer: &Arc<WriterState>,
        settings: DownloadSettings,
        stop: Receiver<()>,
    ) -> Retention {
        Retention {
            connection: CachedStore::new(self.database.clone()),
            writer: Arc::clone(writer),
            continuity: Arc::clone(&self.continuity),
            downloads: Arc::clone(&self.downloads),
            calendar: Arc::clone(&self.calendar),
            serve: Arc::clone(&self.serve),
            settings,
            holder: random_name(),
            stop,
            state: Default::default(),
        }
    }
}

/// Reads the withdrawals and the download batches, which are served from then on.
fn read_served(
    serve: &Serve,
    store: &mut Store,
    database: &Database,
    calendar: &Calendar,
) -> Result<(), StartError> {
    let unreachable = |error| database.unreachable(error);
    serve.take_withdrawals(store).map_err(|error| match error {
        WithdrawalError::Database(error) => unreachable(error),
        WithdrawalError::Fault(fault) => StartError::Changed(fault.to_string()),
    })?;
    let today = calendar.agreed_now().day();
    serve.refresh(store, today).map_err(unreachable)?;
    let newest_cut_at = store.newest_cut_at().map_err(unreachable)?;
    serve.newest_cut_at(newest_cut_at);
    Ok(())
}

/// Refuses settings that contradict each other.
pub(super) fn check(settings: &Settings) -> Result<(), StartError> {
    match settings.contradiction() {
        None => Ok(()),
        Some(contradiction) => Err(StartError::Setting(contradiction.to_string())),
    }
}

/// Opens the database, checks that it is ours and fit to work with, and migrates it: a start that is
/// refused has changed nothing.
fn open(database: &Database, settings: &Settings) -> Result<Store, StartError> {
    let unreachable = |error| database.unreachable(error);
    let mut store = Store::open_for_long_statements(database).map_err(unreachable)?;
    let found = store.schema_version().map_err(unreachable)?;
    if found <= known_version() {
        check_schema(&mut store, database)?;
        check_server(&mut store, database, settings)?;
    }
    if (1..known_version()).contains(&found) {
        check_keys(&settings.keys, &mut store, database)?;
        if let Some(file) = &settings.continuity.state_file {
            check_remembered(file, &mut store)?;
        }
    }
    drop(store);
    migrate(database)?;
    let mut store = Store::open_for_long_statements(database).map_err(unreachable)?;
    check_schema(&mut store, database)?;
    if store.import_state().map_err(unreachable)? == ImportState::Begun {
        return Err(StartError::Unsuitable(
            "an import into this database did not complete: run efgs import again".to_owned(),
        ));
    }
    agree_on_keys(&settings.keys, &mut store, database)?;
    agree_on_cluster(&mut store, database)?;
    Ok(store)
}

/// All gateways of an installation take only members of a cluster for its database, once it is one:
/// a server that has left its cluster may take uploads that no other has.
fn agree_on_cluster(store: &mut Store, database: &Database) -> Result<(), StartError> {
    let unreachable = |error| database.unreachable(error);
    let found = store.cluster();
    let agreed = match found {
        Some(found) => Some(store.agree_on(CLUSTER, found.name().as_bytes())),
        None => store.installation_value(CLUSTER).transpose(),
    };
    let agreed = agreed.transpose().map_err(unreachable)?;
    let Some(agreed) = agreed.as_deref().and_then(Cluster::named) else {
        return Ok(());
    };
    if found != Some(agreed) {
        return Err(StartError::Unsuitable(format!(
            "the database is a cluster ({}), and this server does not belong to one: what is stored \
             there may be nowhere else; let it join, or run efgs db recovered after a restore to a \
             single server",
            agreed.name()
        )));
    }
    database.remember_cluster(agreed);
    Ok(())
}

/// Refuses a server whose settings do not suit.
fn check_server(
    store: &mut Store,
    database: &Database,
    settings: &Settings,
) -> Result<(), StartError> {
    let unreachable = |error| database.unreachable(error);
    let row_bytes = limits::row_bytes_max(settings.upload.body_bytes_max, settings.upload.keys_max);
    if let Some(unsuitable) = store.check_server(row_bytes).map_err(unreachable)? {
        return Err(StartError::Unsuitable(unsuitable));
    }
    check_flushing(store, database, settings)
}

/// Refuses a database with a trigger, or with tables that are not as the migrations made them. Before
/// the migration, which would take a foreign table for ours.
fn check_schema(store: &mut Store, database: &Database) -> Result<(), StartError> {
    let unreachable = |error| database.unreachable(error);
    let faults = store.check_schema().map_err(unreachable)?;
    if faults.is_empty() {
        return Ok(());
    }
    Err(StartError::Unsuitable(format!(
        "the database has objects that no migration created ({}): find out where they come from, and \
         drop them or restore the database",
        list_faults(&faults)
    )))
}

/// Refuses a server that may lose what it has confirmed, unless an operator accepts that.
fn check_flushing(
    store: &mut Store,
    database: &Database,
    settings: &Settings,
) -> Result<(), StartError> {
    let risk = store.flushing_risk();
    let Some(risk) = risk.map_err(|error| database.unreachable(error))? else {
        return Ok(());
    };
    if !settings.continuity.accept_unflushed_commits {
        return Err(StartError::Unsuitable(format!(
            "the database server may lose commits that it has confirmed: {risk}"
        )));
    }
    tracing::warn!(
        risk,
        "the database server may lose commits that it has confirmed, as accepted"
    );
    Ok(())
}

fn random_name() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    format!("{:032x}", u128::from_be_bytes(bytes))
}

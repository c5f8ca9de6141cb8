//! `sync`: outbox to gateway, gateway to inbox, for ever.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context as _;
use efgs_client::{
    Auditor, Cursor, DownloadError, DownloadedBatch, Downloader, Journal as _, Next, Read,
    Uploader, backoff,
};
use engine::clock::{Clock as _, SystemClock};
use engine::locks::LockIgnoringPoison as _;
use engine::output;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::files::Sorted;
use crate::outbox::Folders;
use crate::state::{Counter, State};
use crate::status::{self, SharedStatus, Status, Trouble};

/// Longest wait that a gateway can impose before a direction is tried again.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// After a refusal that an operator has to repair.
const STOPPED_WAIT: Duration = Duration::from_secs(60);

pub(crate) async fn run(config: &Config, once: bool) -> anyhow::Result<ExitCode> {
    let mut exchange = Exchange::open(config)?;
    if let Some(address) = config.status_listen {
        status::listen(address, Arc::clone(&exchange.status)).await?;
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let work = async {
        loop {
            let wait = exchange.pass().await?;
            let wait = match wait {
                None if once => return Ok(ExitCode::SUCCESS),
                None => config.poll(),
                Some(wait) => wait,
            };
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        ended = work => ended,
        // Nothing has to be finished: it can be killed at any instant.
        _ = terminate.recv() => Ok(ExitCode::SUCCESS),
    }
}

/// An exchange.
struct Exchange<'a> {
    config: &'a Config,
    folders: Folders,
    state: State,
    uploader: Uploader,
    downloader: Downloader,
    auditor: Option<Auditor>,
    status: SharedStatus,
    failed_uploads: u32,
    failed_downloads: u32,
}

impl<'a> Exchange<'a> {
    fn open(config: &'a Config) -> anyhow::Result<Self> {
        let folders = Folders::open(&config.folder())?;
        let state = State::open(&config.folder().join("state.sqlite"))?;
        Ok(Self {
            uploader: Uploader::new(config.connection()?, config.signer()?, &config.country),
            downloader: Downloader::new(config.connection()?),
            auditor: config.auditor()?,
            status: SharedStatus::new(Mutex::new(Status::default())),
            failed_uploads: 0,
            failed_downloads: 0,
            config,
            folders,
            state,
        })
    }

    /// Both directions once, as far as they go; how long to wait before what failed is tried again.
    async fn pass(&mut self) -> anyhow::Result<Option<Duration>> {
        self.folders.move_finished(&mut self.state)?;
        self.folders
            .take_in(&mut self.state, &self.config.country)?;
        let uploads = self.upload().await?;
        self.folders.move_finished(&mut self.state)?;
        let downloads = self.download().await?;
        self.show()?;
        let waits = [uploads, downloads].into_iter().flatten();
        Ok(waits.min().map(|wait| wait.min(WAIT_MAX)))
    }

    async fn upload(&mut self) -> anyhow::Result<Option<Duration>> {
        while let Some(pending) = self.state.oldest()? {
            match self.uploader.send(&pending).await {
                Next::Resolved(resolution) => {
                    self.state.resolve(&pending, resolution)?;
                    self.failed_uploads = 0;
                }
                Next::Again { wait, reason } => {
                    self.failed_uploads += 1;
                    self.trouble(|status| &mut status.uploads, &reason, false);
                    return Ok(Some(wait.unwrap_or_else(|| backoff(self.failed_uploads))));
                }
                Next::Stop { reason } => {
                    self.trouble(|status| &mut status.uploads, &reason, true);
                    return Ok(Some(STOPPED_WAIT));
                }
            }
        }
        self.lock().uploads.over();
        Ok(None)
    }

    async fn download(&mut self) -> anyhow::Result<Option<Duration>> {
        loop {
            match self.download_one().await {
                Ok(true) => self.failed_downloads = 0,
                Ok(false) => {
                    self.failed_downloads = 0;
                    self.lock().downloads.over();
                    return Ok(None);
                }
                Err(error) => {
                    let Some(error) = error.downcast_ref::<DownloadError>() else {
                        return Err(error);
                    };
                    return Ok(Some(self.download_failed(error)));
                }
            }
        }
    }

    fn download_failed(&mut self, error: &DownloadError) -> Duration {
        self.failed_downloads += 1;
        let wait = backoff(self.failed_downloads);
        let (needs_somebody, wait) = match error {
            DownloadError::Client(_) | DownloadError::Later { wait: None, .. } => (false, wait),
            DownloadError::Later {
                wait: Some(wait), ..
            } => (false, *wait),
            DownloadError::Refused(_) | DownloadError::Answer(_) => (true, STOPPED_WAIT),
        };
        let reason = engine::chain(error);
        self.trouble(|status| &mut status.downloads, &reason, needs_somebody);
        wait
    }

    /// Whether there was something.
    async fn download_one(&mut self) -> anyhow::Result<bool> {
        let cursor = match self.state.cursor()? {
            Some(cursor) => cursor,
            None => self.first_cursor()?,
        };
        match self.downloader.read(&cursor).await? {
            Read::UpToDate => Ok(false),
            Read::Gap(later) => {
                output::note(format_args!(
                    "efgs-backend: batches may be missing: the gateway no longer has what comes behind {}",
                    cursor.last().unwrap_or("the first day")
                ));
                self.state.advance(&later, &[(Counter::Gaps, 1)])?;
                Ok(true)
            }
            Read::Batch(batch) => {
                self.take(*batch).await?;
                Ok(true)
            }
        }
    }

    /// Writes a batch into the inbox, then moves the cursor: after a crash in between it is written again,
    /// under the same name and with the same content.
    async fn take(&mut self, batch: DownloadedBatch) -> anyhow::Result<()> {
        let audit = match &self.auditor {
            Some(auditor) => Some((auditor, self.downloader.audit(&batch.tag).await?)),
            None => None,
        };
        let audit = audit
            .as_ref()
            .map(|(auditor, audit)| (*auditor, &audit[..]));
        let sorted = Sorted::new(batch.keys()?, audit)?;
        if !sorted.reasons.is_empty() {
            output::note(format_args!(
                "efgs-backend: {}: not proven: {}",
                batch.tag,
                sorted.reasons.trim_end()
            ));
        }
        sorted.write(&self.folders.inbox, &batch.tag, self.config.json)?;
        let counts = [
            (Counter::BatchesDownloaded, 1),
            (Counter::KeysDownloaded, sorted.proven.len()),
            (Counter::KeysUnproven, sorted.unproven.len()),
        ];
        self.state.advance(&batch.cursor, &counts)
    }

    fn first_cursor(&self) -> anyhow::Result<Cursor> {
        let yesterday = SystemClock.now().day().minus_days(1).to_string();
        let since = self.config.since.as_deref().unwrap_or(&yesterday);
        Cursor::since(since).context("since is no day: write yyyy-MM-dd")
    }

    fn trouble(&self, of: fn(&mut Status) -> &mut Trouble, reason: &str, needs_somebody: bool) {
        output::note(format_args!("efgs-backend: {reason}"));
        of(&mut self.lock()).is(reason, needs_somebody);
    }

    fn show(&self) -> anyhow::Result<()> {
        let (counts, pending) = (self.state.counts()?, self.state.pending()?);
        let outbox_files = self.folders.waiting()?.len();
        let mut status = self.lock();
        status.counts = counts;
        status.pending_uploads = pending;
        status.outbox_files = outbox_files;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Status> {
        self.status.lock_ignoring_poison()
    }
}

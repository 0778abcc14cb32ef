//! `ringfence run`: starts the runtime and the daemon.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use filter_user::cli::Run;
use filter_user::config::Overrides;
use filter_user::{daemon, disable, logging};
use nix::sys::stat::{Mode, umask};

use super::common::{load, not_read};

/// The number of threads that read logs and serve clients.
pub(crate) const WORKERS: usize = 2;

pub(crate) fn start(path: Option<&Path>, run: &Run) -> Result<()> {
    // Every file it creates is for root only, even without systemd.
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    logging::start().context("start the log's thread")?;
    let overrides =
        Overrides { interfaces: run.interfaces.clone(), mode: run.mode, dry_run: run.dry_run };
    let switch = disable::file(path);
    let path = path.map(Path::to_owned);
    let load: daemon::Load = Arc::new(move || {
        let mut loaded = load(path.as_deref())?;
        loaded.override_with(&overrides)?;
        Ok(loaded)
    });
    let loaded = load()?;
    for ignored in &loaded.ignored {
        log::warn!("{}", not_read(ignored));
    }
    // The controller's loop has the main thread to itself; sources and clients run on the others.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("start the runtime")?;
    let ended = runtime.block_on(async {
        let signals = daemon::Signals::listen()?;
        Box::pin(daemon::run(loaded, load, switch, signals)).await
    });
    if ended.is_ok() {
        logging::finish();
    }
    ended
}

//! Logs the lines that the XDP program writes with aya-log, in a build with the feature `trace`.

use anyhow::{Context as _, Result};
use aya_log::EbpfLogger;
use log::warn;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

use crate::Kernel;

/// Logs the lines of every interface's program at level `debug`, until the runtime drops the handles.
///
/// # Errors
///
/// If a program has no log.
pub fn start(kernel: &mut Kernel) -> Result<Vec<JoinHandle<()>>> {
    let mut tasks = Vec::new();
    for program in kernel.programs() {
        let logger = EbpfLogger::init(program).context("find the program's log")?;
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, and the logger owns its descriptor"
        )]
        let mut logger = AsyncFd::new(logger).context("watch the program's log")?;
        tasks.push(tokio::spawn(async move {
            loop {
                match logger.readable_mut().await {
                    Ok(mut ready) => {
                        ready.get_inner_mut().flush();
                        ready.clear_ready();
                    }
                    Err(error) => {
                        warn!("cannot read the program's log: {error}");
                        return;
                    }
                }
            }
        }));
    }
    Ok(tasks)
}

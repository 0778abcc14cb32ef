//! What the doctor finds, and the last audit, for the page: looked for when somebody asks, at most once a minute, and
//! never by two at a time.
//!
//! Must never run in the loop, look at the host as an audit does, or wait for long: a program that the doctor asks is
//! killed after seconds.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::Status;
use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::{ASTERISK, Load};
use crate::check::Level;
use crate::clock::Rfc3339;
use crate::config::{Config, ConfigErrors};
use crate::page::findings::Found;
use crate::{audit, doctor};

/// How long what was found is shown.
const KEEP: Duration = Duration::from_mins(1);

/// What was found, and when.
type Last = Option<(Instant, Arc<Found>)>;

/// What has been found.
pub(super) struct Findings {
    load: Load,
    /// The configuration of the start, if there is no better one.
    started: Arc<Config>,
    state: PathBuf,
    last: Arc<Mutex<Last>>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Findings {
    pub(super) fn new(load: Load, config: &Config) -> Self {
        let (started, state) = (Arc::new(config.clone()), config.paths.state.clone());
        Self { load, started, state, last: Arc::default(), turn: Arc::default() }
    }

    /// Those of no host, for tests.
    #[cfg(test)]
    pub(super) fn nowhere() -> Self {
        let load: Load = Arc::new(|| anyhow::bail!("there is no configuration"));
        Self::new(load, &Config::default())
    }

    fn fresh(&self) -> Option<Arc<Found>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, found) = last.as_ref()?;
        (at.elapsed() < KEEP).then(|| Arc::clone(found))
    }

    /// What has been found within the last minute. Looks if that is nothing.
    pub(super) async fn get(&self, status: Status) -> Arc<Found> {
        // The look keeps its turn if the client goes.
        let turn = Arc::clone(&self.turn).lock_owned().await;
        if let Some(found) = self.fresh() {
            return found;
        }
        let (load, started) = (Arc::clone(&self.load), Arc::clone(&self.started));
        let (state, last) = (self.state.clone(), Arc::clone(&self.last));
        let look = spawn_blocking(move || {
            let found = Arc::new(look(&load, &started, &state, status));
            *last.lock().unwrap_or_else(PoisonError::into_inner) =
                Some((Instant::now(), Arc::clone(&found)));
            drop(turn);
            found
        });
        look.await.unwrap_or_else(|failed| {
            let at = Rfc3339(Timestamp::now()).to_string();
            Arc::new(Found { at, doctor: Vec::new(), audit: Err(failed.to_string()) })
        })
    }
}

fn look(load: &Load, started: &Config, state: &Path, status: Status) -> Found {
    let at = Rfc3339(Timestamp::now()).to_string();
    let host = doctor::Host::new(ASTERISK.as_ref());
    let (mut doctor, config) = match load() {
        Ok(loaded) => {
            let wrong = doctor::of_configuration(&loaded, &ConfigErrors::default());
            let wrong = wrong.into_iter().map(|finding| (Level::Warning, finding)).collect();
            (wrong, loaded.config)
        }
        Err(error) => {
            (vec![(Level::Critical, doctor::wrong_configuration(&error))], started.clone())
        }
    };
    doctor.extend(doctor::graded(&config, &Ok(status), &host));
    doctor.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    Found { at, doctor, audit: audit::kept(state).map_err(|why| format!("{why:#}")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{self, healthy};

    #[tokio::test]
    async fn it_looks_once_a_minute_and_reads_the_audit_that_was_kept() {
        let state = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.paths.state = state.path().to_owned();
        let load: Load = Arc::new(|| anyhow::bail!("`sip` is wrong"));
        let findings = Findings::new(load, &config);
        let first = findings.get(healthy()).await;
        assert!(matches!(first.audit, Ok(None)), "{:?}", first.audit);
        let (level, wrong) = &first.doctor[0];
        assert_eq!((*level, &*wrong.problem), (Level::Critical, "`sip` is wrong"));
        let mut broken = healthy();
        broken.interfaces[0].protected = false;
        assert!(Arc::ptr_eq(&first, &findings.get(broken.clone()).await));

        *findings.last.lock().unwrap() = None;
        audit::keep(state.path(), &examples::audit()).unwrap();
        let second = findings.get(broken).await;
        assert!(second.doctor.iter().any(|(_, one)| one.problem.starts_with("UNPROTECTED")));
        let audit = second.audit.as_ref().unwrap().as_ref().unwrap();
        assert_eq!(*audit, examples::audit());
        *findings.last.lock().unwrap() = None;
        std::fs::write(state.path().join("audit.json"), "[").unwrap();
        assert!(findings.get(healthy()).await.audit.is_err());
    }
}

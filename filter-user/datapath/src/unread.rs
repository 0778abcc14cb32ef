//! Failed reads of maps whose callers cannot return an error: they are remembered until they are logged.

use std::sync::{Mutex, PoisonError};

use anyhow::Error;

/// The failures since they were last logged.
#[derive(Debug, Default)]
pub(super) struct Unread(Mutex<Option<Failures>>);

#[derive(Debug)]
struct Failures {
    count: u64,
    last: Error,
}

impl Unread {
    /// The result, or `None` after it has recorded the failure.
    pub(super) fn or_note<T>(
        &self,
        what: &'static str,
        read: Result<T, impl Into<Error>>,
    ) -> Option<T> {
        read.map_err(|error| self.note(error.into().context(what))).ok()
    }

    /// Records a failure.
    pub(super) fn note(&self, error: Error) {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.as_ref().map_or(0, |failures| failures.count).saturating_add(1);
        *failures = Some(Failures { count, last: error });
    }

    /// The text to log, once.
    pub(super) fn take(&self) -> Option<String> {
        let failures = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let Failures { count, last } = failures;
        let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
        Some(format!("the kernel could not be read {times}: {last:#}"))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn what_is_not_read_is_said_once() {
        let unread = Unread::default();
        assert_eq!(unread.take(), None);
        let refused = Err(io::Error::from_raw_os_error(1));
        assert_eq!(unread.or_note("read numbers", Ok::<_, io::Error>(1)), Some(1));
        assert_eq!(unread.or_note("read numbers", refused), None::<u8>);
        let said = unread.take().unwrap();
        assert!(said.starts_with("the kernel could not be read once: read numbers: "), "{said}");
        assert_eq!(unread.take(), None);
        for _ in 0..1000 {
            unread.or_note("read a number", Err::<(), _>(io::Error::from_raw_os_error(12)));
        }
        assert!(unread.take().unwrap().contains("1000 times: read a number: "));
    }
}

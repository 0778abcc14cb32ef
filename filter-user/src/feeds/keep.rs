//! The files of a feed: its list, a list that was refused, and what is known about both.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use ::feeds::{List, from_kept, to_kept};
use serde::{Deserialize, Serialize};

use super::fetch::Version;
use crate::config::Feed;
use crate::whole_file;

/// The longest file of a list, in bytes.
const LIST_MAX: u64 = 128 << 20;

/// The longest file of what is known.
const STATE_MAX: u64 = 64 << 10;

/// What is known about a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// The URL and form of the list. The list of another one is not used.
    pub(super) source: String,
    /// When it was last fetched, or found to be unchanged, in seconds since 1970.
    #[serde(default)]
    pub(super) fetched: u64,
    #[serde(default)]
    pub(super) version: Version,
    /// Where the next part begins.
    #[serde(default)]
    pub(super) cursor: Option<String>,
    /// Why the last list was refused.
    #[serde(default)]
    pub(super) refused: Option<String>,
    #[serde(default)]
    pub(super) left_out: u64,
    #[serde(default)]
    pub(super) unread: u64,
}

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    list: PathBuf,
    refused: PathBuf,
    state: PathBuf,
    source: String,
}

impl Files {
    pub(super) fn new(directory: &Path, name: &str, feed: &Feed) -> Self {
        let file = |end: &str| directory.join(format!("{name}.{end}"));
        let url = feed.url.as_ref().map(ToString::to_string).unwrap_or_default();
        Self {
            list: file("list"),
            refused: file("refused"),
            state: file("json"),
            source: format!("{} {url}", feed.format),
        }
    }

    /// What is known of this list, if it is the same list.
    pub(super) fn state(&self) -> State {
        let fresh = State { source: self.source.clone(), ..State::default() };
        let text = read(&self.state, STATE_MAX).unwrap_or_default();
        let state: Option<State> = serde_json::from_str(&text).ok();
        state.filter(|state| state.source == self.source).unwrap_or(fresh)
    }

    /// Saves what is known.
    pub(super) fn set_state(&self, state: &State) -> io::Result<()> {
        let text = serde_json::to_vec(state).map_err(io::Error::other)?;
        write(&self.state, &text)
    }

    /// The list in use.
    pub(super) fn list(&self) -> io::Result<List> {
        parse(&read(&self.list, LIST_MAX)?)
    }

    /// Replaces the list in use.
    pub(super) fn set_list(&self, list: &List) -> io::Result<()> {
        write(&self.list, to_kept(list).as_bytes())
    }

    /// The list that was refused.
    pub(super) fn refused(&self) -> io::Result<List> {
        parse(&read(&self.refused, LIST_MAX)?)
    }

    /// Keeps a list that was refused, or removes it.
    pub(super) fn set_refused(&self, list: Option<&List>) -> io::Result<()> {
        match list {
            Some(list) => write(&self.refused, to_kept(list).as_bytes()),
            None => match fs::remove_file(&self.refused) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
        }
    }
}

fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    whole_file::replace(file, content)
}

fn read(file: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(file)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

fn parse(text: &str) -> io::Result<List> {
    from_kept(text).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use ::feeds::Listed;

    use super::*;

    #[test]
    fn the_list_of_another_url_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let feed = |url: &str| Feed { url: Some(url.parse().unwrap()), ..Feed::default() };
        let files = Files::new(directory.path(), "a", &feed("https://lists.example/a"));
        let entries = vec![Listed { network: "185.0.0.1/32".parse().unwrap(), until: 0 }];
        let list = List::new(entries, &[]);
        let state = State { fetched: 7, ..files.state() };
        files.set_list(&list).unwrap();
        files.set_state(&state).unwrap();
        assert_eq!((files.state(), files.list().unwrap()), (state, list));
        let other = Files::new(directory.path(), "a", &feed("https://lists.example/b"));
        assert_eq!(other.state().fetched, 0);
        assert!(other.refused().is_err());
        other.set_refused(None).unwrap();
    }
}

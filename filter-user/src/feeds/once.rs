//! `feeds test`: fetches a list once, and says what a feed would make of it. Nothing is kept or banned.

use std::path::PathBuf;

use ::feeds::{Form, List, judge, parse};
use anyhow::{Context as _, Result, anyhow, bail};
use api::FeedTest;
use ipnet::IpNet;

use super::fetch::{Answer, Version, fetch};
use super::wall;
use crate::config::Feed;

/// How many entries are shown.
const SHOWN: usize = 5;

/// The list to test.
#[derive(Clone, Debug)]
pub struct Once {
    /// A URL or the path of a file.
    pub place: String,
    /// Its form.
    pub format: Form,
    /// The file with the key that the server asks for.
    pub key_file: Option<PathBuf>,
    /// Networks that are never banned.
    pub trusted: Vec<IpNet>,
}

/// Fetches a list, or the first part of one.
///
/// # Errors
///
/// If it cannot be fetched or read.
pub fn test(once: Once) -> Result<FeedTest> {
    let Once { place, format, key_file, trusted } = once;
    let place = match place.parse() {
        // A path may be relative here.
        Err(_) if !place.contains("://") && std::path::Path::new(&place).exists() => {
            crate::config::Place::File(std::path::absolute(&place)?)
        }
        place => place.map_err(|why: String| anyhow!(why))?,
    };
    let feed = Feed { url: Some(place.clone()), format, key_file, ..Feed::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let answer = runtime.block_on(fetch(&feed, &Version::default(), None));
    let bytes = match answer.map_err(|failure| anyhow!("{place}: {}", failure.why))? {
        Answer::Document(bytes, _) => bytes,
        Answer::Unchanged => bail!("{place}: the server sends no list"),
    };
    let size = bytes.len() as u64;
    let parsed = parse(&feed.format, &bytes, wall()).map_err(|why| anyhow!("{place}: {why}"))?;
    let (list, dropped) = List::counted(parsed.listed, &trusted);
    let show = |network: &IpNet| crate::controller::show(*network);
    Ok(FeedTest {
        url: place.to_string(),
        format: feed.format.to_string(),
        bytes: size,
        entries: list.entries().len() as u64,
        bogons: dropped.bogons,
        wide: dropped.wide,
        trusted: dropped.protected,
        covered: dropped.covered,
        unread: parsed.unread.count,
        first_unread: parsed.unread.first.map(|(place, text)| format!("{place}: {text}")),
        sample: list.entries().iter().take(SHOWN).map(|entry| show(&entry.network)).collect(),
        refused: judge(None, &list).err().map(|why| why.to_string()),
    })
}

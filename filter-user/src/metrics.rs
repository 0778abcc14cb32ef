//! Metrics: the counts that the controller keeps enter, and a page in the format of Prometheus or
//! `OpenMetrics` leaves.
//!
//! Labels have only names from the configuration, of interfaces and of sets that the program defines. Nothing
//! that an attacker writes becomes a label.
//!
//! Must never have a label with a value that an attacker chooses.

mod process;
mod single;
mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use api::Alerts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

pub use self::process::Process;
use self::single::SINGLE;
pub use self::single::Values;
use self::table::{Kind, LABELLED, Metric, Sample};
use crate::whole_file;

/// The bounds of the histogram of reactions, in seconds.
const BOUNDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The metric of reactions.
const REACTIONS: (&str, &str) = (
    "ringfence_failure_to_ban_seconds",
    "The time from the reading of the failure that led to a ban by a jail until the kernel had the ban",
);

/// A format of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4, which the node exporter reads from files.
    Prometheus,
}

impl Format {
    /// The format that a client accepts, by its header `Accept`.
    pub fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            Some(_) | None => Self::Prometheus,
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The counts at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The metrics without labels.
    pub values: Values,
    /// The packets of each interface, by reason.
    pub packets: Vec<Packets>,
    /// The packets of each interface that a dry run would have dropped, by reason.
    pub would_drop: Vec<Packets>,
    /// The bans in force, by jail, scope and kind.
    pub bans: BTreeMap<(String, String, &'static str), u64>,
    /// The bans that each jail has made since the start.
    pub bans_made: Vec<(String, u64)>,
    /// The failures since the start, by source, class and whether they are proven.
    pub failures: Vec<((&'static str, &'static str, bool), u64)>,
    /// The sources of failures, by name: whether all of this name are read, and when an attempt was last read, in
    /// seconds since 1970.
    pub sources: BTreeMap<&'static str, (bool, Option<f64>)>,
    /// The feeds.
    pub feeds: Vec<FeedCount>,
    /// The interfaces: their names and modes, and whether they are protected.
    pub interfaces: Vec<(String, &'static str, bool)>,
    /// The maps: their names, their entries and the room in them.
    pub maps: Vec<(&'static str, u64, u64)>,
    /// How quickly bans followed failures.
    pub reactions: Reactions,
    /// The state of alerts and actions.
    pub alerts: Alerts,
}

/// A feed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FeedCount {
    /// Its name.
    pub name: String,
    /// Whether it is fetched as planned, and its list is in use.
    pub up: bool,
    /// When it was last fetched, in seconds since 1970.
    pub fetched: Option<f64>,
    /// The entries of the list in use.
    pub entries: u64,
    /// Packets that its bans matched.
    pub packets: u64,
}

/// Packets of an interface with one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packets {
    /// The interface.
    pub interface: String,
    /// `pass` or `drop`.
    pub verdict: &'static str,
    /// The reason.
    pub reason: &'static str,
    /// Their number.
    pub count: u64,
    /// Their length, in bytes.
    pub bytes: u64,
}

/// How quickly bans followed failures, as a histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reactions {
    /// By bound, and those above all bounds.
    counts: [u64; BOUNDS.len() + 1],
    seconds: f64,
}

impl Reactions {
    /// Adds bans that followed after this time.
    pub fn add(&mut self, time: Duration, bans: u64) {
        let seconds = time.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(bans);
        }
        // A sum needs no more than 52 bits.
        #[expect(clippy::cast_precision_loss, reason = "so many bans at once do not occur")]
        let bans = bans as f64;
        self.seconds += seconds * bans;
    }

    /// The number of bans.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The page of a snapshot.
///
/// # Errors
///
/// If it cannot be formatted.
pub fn page(snapshot: Snapshot, process: Process, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page { snapshot, process }));
    let mut text = String::new();
    match format {
        Format::OpenMetrics => {
            prometheus_client::encoding::text::encode(&mut text, &registry)?;
        }
        Format::Prometheus => {
            prometheus_client::encoding::prometheus_text::encode(&mut text, &registry)?;
        }
    }
    Ok(text)
}

#[derive(Debug)]
struct Page {
    snapshot: Snapshot,
    process: Process,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Metric { name, help, kind, samples } in table() {
            let samples = samples(self);
            // A metric without samples would be a name without meaning.
            if samples.is_empty() {
                continue;
            }
            let kind_of = match kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let mut metric = encoder.encode_descriptor(name, help, None, kind_of)?;
            for Sample { labels, value } in samples {
                let labels: Vec<_> =
                    labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let mut one = metric.encode_family(&labels)?;
                match kind {
                    Kind::Counter => one.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
                    Kind::Gauge => one.encode_gauge(&value)?,
                }
            }
        }
        let (name, help) = REACTIONS;
        let Reactions { counts, seconds } = self.snapshot.reactions;
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts).collect();
        let count = self.snapshot.reactions.count();
        encoder
            .encode_descriptor(name, help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }
}

/// Replaces a file for the node exporter. Metrics of the process are left out, because the exporter has its own.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_textfile(file: &Path, page: &str) -> io::Result<()> {
    let is_own = |line: &&str| {
        let described = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ");
        !described.starts_with("process_")
    };
    let lines = page.lines().filter(is_own);
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    whole_file::replace(file, text.as_bytes())
}

/// All metrics but the histogram.
fn table() -> impl Iterator<Item = &'static Metric> {
    LABELLED.iter().chain(SINGLE)
}

/// The names of all metrics, as queries use them, with their descriptions.
pub fn names() -> impl Iterator<Item = (String, &'static str, &'static str)> {
    let simple = table().map(|metric| match metric.kind {
        Kind::Counter => (format!("{}_total", metric.name), "counter", metric.help),
        Kind::Gauge => (metric.name.to_owned(), "gauge", metric.help),
    });
    simple.chain([(REACTIONS.0.to_owned(), "histogram", REACTIONS.1)])
}

#[cfg(test)]
mod tests;

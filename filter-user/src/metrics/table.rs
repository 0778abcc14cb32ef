//! The table of metrics with labels: name, description, kind, and the samples of each.

use api::{AlertRow, Alerts};

use super::{FeedCount, Packets, Page};

/// What a metric may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows. Its name gets the suffix `_total`.
    Counter,
    /// It may also fall.
    Gauge,
}

/// A metric.
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) samples: fn(&Page) -> Vec<Sample>,
}

/// A value with its labels.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) labels: Vec<(&'static str, String)>,
    pub(super) value: f64,
}

/// Those with labels, and those of the process.
pub(super) const LABELLED: &[Metric] = &[
    Metric {
        name: "ringfence_packets",
        help: "Packets since the filter was first attached to the interface, by verdict and reason",
        kind: Kind::Counter,
        samples: |page| by_reason(&page.snapshot.packets, |of| of.count),
    },
    Metric {
        name: "ringfence_bytes",
        help: "The length of these packets, in bytes",
        kind: Kind::Counter,
        samples: |page| by_reason(&page.snapshot.packets, |of| of.bytes),
    },
    Metric {
        name: "ringfence_would_drop_packets",
        help: "Packets that a dry run would have dropped, by reason",
        kind: Kind::Counter,
        samples: |page| by_reason(&page.snapshot.would_drop, |of| of.count),
    },
    Metric {
        name: "ringfence_bans",
        help: "Bans in force, by jail, scope and kind (ban or throttle)",
        kind: Kind::Gauge,
        samples: |page| {
            let bans = page.snapshot.bans.iter();
            bans.map(|((jail, scope, kind), count)| {
                let labels = [("jail", &**jail), ("scope", &**scope), ("kind", *kind)];
                sample(labels, number(*count))
            })
            .collect()
        },
    },
    Metric {
        name: "ringfence_bans_made",
        help: "Bans that a jail has decided on since the start of the daemon",
        kind: Kind::Counter,
        samples: |page| {
            let made = page.snapshot.bans_made.iter();
            made.map(|(jail, count)| sample([("jail", jail)], number(*count))).collect()
        },
    },
    Metric {
        name: "ringfence_failures",
        help: "Failures that a source has read since the start of the daemon, by class, and whether the source itself proves them",
        kind: Kind::Counter,
        samples: |page| {
            let failures = page.snapshot.failures.iter();
            failures
                .map(|((source, class, proven), count)| {
                    let proven = if *proven { "true" } else { "false" };
                    let labels = [("source", *source), ("class", *class), ("proven", proven)];
                    sample(labels, number(*count))
                })
                .collect()
        },
    },
    Metric {
        name: "ringfence_source_up",
        help: "Whether a source of failures is read",
        kind: Kind::Gauge,
        samples: |page| {
            let sources = page.snapshot.sources.iter();
            sources.map(|(name, (up, _))| sample([("source", *name)], truth(*up))).collect()
        },
    },
    Metric {
        name: "ringfence_source_last_event_timestamp_seconds",
        help: "When a source last read an attempt, in seconds since 1970; absent until it does",
        kind: Kind::Gauge,
        samples: |page| {
            let sources = page.snapshot.sources.iter();
            sources
                .filter_map(|(name, (_, last))| Some(sample([("source", *name)], (*last)?)))
                .collect()
        },
    },
    Metric {
        name: "ringfence_feed_up",
        help: "Whether a feed is fetched as planned, and its list is used",
        kind: Kind::Gauge,
        samples: |page| of_feeds(page, |feed| Some(truth(feed.up))),
    },
    Metric {
        name: "ringfence_feed_last_fetch_timestamp_seconds",
        help: "When the list of a feed was last fetched, in seconds since 1970; absent until it is",
        kind: Kind::Gauge,
        samples: |page| of_feeds(page, |feed| feed.fetched),
    },
    Metric {
        name: "ringfence_feed_entries",
        help: "The entries of the list of a feed that is in use",
        kind: Kind::Gauge,
        samples: |page| of_feeds(page, |feed| Some(number(feed.entries))),
    },
    Metric {
        name: "ringfence_feed_packets",
        help: "Packets that the bans by a feed matched since the start of the daemon",
        kind: Kind::Counter,
        samples: |page| of_feeds(page, |feed| Some(number(feed.packets))),
    },
    Metric {
        name: "ringfence_protected",
        help: "Whether the packets of an interface are filtered, by the mode of the filter (native or generic)",
        kind: Kind::Gauge,
        samples: |page| {
            let interfaces = page.snapshot.interfaces.iter();
            interfaces
                .map(|(name, mode, protected)| {
                    sample([("interface", &**name), ("mode", *mode)], truth(*protected))
                })
                .collect()
        },
    },
    Metric {
        name: "ringfence_map_entries",
        help: "Entries in a map of the kernel",
        kind: Kind::Gauge,
        samples: |page| {
            let maps = page.snapshot.maps.iter();
            maps.map(|(name, entries, _)| sample([("map", *name)], number(*entries))).collect()
        },
    },
    Metric {
        name: "ringfence_map_capacity",
        help: "The entries for which a map of the kernel has room",
        kind: Kind::Gauge,
        samples: |page| {
            let maps = page.snapshot.maps.iter();
            maps.map(|(name, _, room)| sample([("map", *name)], number(*room))).collect()
        },
    },
    Metric {
        name: "ringfence_alert_messages",
        help: "Messages of alerts and actions that were sent, or given up (failed), since the start of the daemon or a change of their settings",
        kind: Kind::Counter,
        samples: |page| of_alerts(page, |row| vec![("sent", row.sent), ("failed", row.failed)]),
    },
    Metric {
        name: "ringfence_alert_events",
        help: "Events of alerts and actions that were sent, only counted in a message (suppressed), or not sent (lost)",
        kind: Kind::Counter,
        samples: |page| {
            of_alerts(page, |row| {
                vec![("sent", row.events), ("suppressed", row.suppressed), ("lost", row.lost)]
            })
        },
    },
    Metric {
        name: "ringfence_alert_up",
        help: "Whether the last message of an alert or action was sent",
        kind: Kind::Gauge,
        samples: |page| {
            rows(page)
                .map(|(kind, row)| {
                    let labels = [("kind", kind), ("name", &*row.name)];
                    sample(labels, truth(row.problem.is_none()))
                })
                .collect()
        },
    },
    Metric {
        name: "ringfence_build_info",
        help: "Always 1; the version of the daemon",
        kind: Kind::Gauge,
        samples: |_page| vec![sample([("version", env!("CARGO_PKG_VERSION"))], 1.0)],
    },
    Metric {
        name: "process_cpu_seconds",
        help: "CPU time of the daemon",
        kind: Kind::Counter,
        samples: |page| some(page.process.cpu_seconds),
    },
    Metric {
        name: "process_resident_memory_bytes",
        help: "Resident memory of the daemon",
        kind: Kind::Gauge,
        samples: |page| some(page.process.resident_bytes),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        help: "Virtual memory of the daemon",
        kind: Kind::Gauge,
        samples: |page| some(page.process.virtual_bytes),
    },
    Metric {
        name: "process_open_fds",
        help: "Open file descriptors of the daemon",
        kind: Kind::Gauge,
        samples: |page| some(page.process.open_files),
    },
    Metric {
        name: "process_max_fds",
        help: "The most file descriptors that the daemon may open",
        kind: Kind::Gauge,
        samples: |page| some(page.process.most_files),
    },
    Metric {
        name: "process_start_time_seconds",
        help: "When the daemon was started, in seconds since 1970",
        kind: Kind::Gauge,
        samples: |page| some(page.process.started),
    },
];

fn of_feeds(page: &Page, value: fn(&FeedCount) -> Option<f64>) -> Vec<Sample> {
    let feeds = page.snapshot.feeds.iter();
    feeds.filter_map(|feed| Some(sample([("feed", &*feed.name)], value(feed)?))).collect()
}

fn by_reason(packets: &[Packets], value: fn(&Packets) -> u64) -> Vec<Sample> {
    let sample_of = |of: &Packets| {
        let labels =
            [("interface", &*of.interface), ("verdict", of.verdict), ("reason", of.reason)];
        sample(labels, number(value(of)))
    };
    packets.iter().map(sample_of).collect()
}

/// Alerts and actions, with their kind.
fn rows(page: &Page) -> impl Iterator<Item = (&'static str, &AlertRow)> {
    let Alerts { alerts, actions } = &page.snapshot.alerts;
    let alerts = alerts.iter().map(|row| ("alert", row));
    alerts.chain(actions.iter().map(|row| ("action", row)))
}

fn of_alerts(page: &Page, values: fn(&AlertRow) -> Vec<(&'static str, u64)>) -> Vec<Sample> {
    let samples = rows(page).flat_map(|(kind, row)| {
        values(row).into_iter().map(move |(result, value)| {
            let labels = [("kind", kind), ("name", &*row.name), ("result", result)];
            sample(labels, number(value))
        })
    });
    samples.collect()
}

fn sample<const N: usize, T: AsRef<str>>(labels: [(&'static str, T); N], value: f64) -> Sample {
    let labels = labels.into_iter().map(|(name, value)| (name, value.as_ref().to_owned()));
    Sample { labels: labels.collect(), value }
}

pub(super) fn one(value: f64) -> Vec<Sample> {
    vec![Sample { labels: Vec::new(), value }]
}

/// A value that there is.
pub(super) fn some(value: Option<f64>) -> Vec<Sample> {
    value.map(one).unwrap_or_default()
}

pub(super) fn truth(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[expect(clippy::cast_precision_loss, reason = "the formats have only floating-point numbers")]
pub(super) fn number(value: u64) -> f64 {
    value as f64
}

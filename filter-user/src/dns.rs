//! Resolves host names. Each name is looked up again when its answer expires, and the last good answer is
//! used until there is a new one.
//!
//! A name without an address is looked up as a SIP domain, and stands for the hosts of its SRV records.
//!
//! It uses the system's resolvers (`resolv.conf`, `/etc/hosts`). Nothing else uses hickory, which is here because
//! `tokio::net::lookup_host` has neither TTLs nor SRV records.
//!
//! Must never block the loop.

mod followed;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use self::followed::{ADDRESSES_MAX, Addresses, RETRY, TTL_MAX, TTL_MIN};
use self::followed::{Answer, Followed};
use crate::config::{Config, HostName};

/// The most news that wait for the receiver. The sender waits when there are more.
const NEWS_WAITING: usize = 16;

/// How long an answer without a TTL is valid: a simple server's answer that there is no such record.
const NO_TTL: Duration = Duration::from_mins(1);

/// The services whose hosts stand for a name without an address (RFC 3263).
const SERVICES: [&str; 3] = ["_sip._udp", "_sip._tcp", "_sips._tcp"];

/// The most hosts that are used of a name's services.
const TARGETS_MAX: usize = 16;

/// A name's addresses, or the success of its lookups, have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The name.
    pub name: HostName,
    /// Its addresses now.
    pub addresses: Addresses,
}

/// The names, which are followed until this is dropped.
#[derive(Debug)]
pub struct Following {
    _tasks: JoinSet<()>,
    news: mpsc::Receiver<News>,
}

impl Following {
    /// Starts to follow `names` and does not wait for an answer. `resolver` creates a resolver for each
    /// lookup, because the system's configuration may have changed.
    pub fn start(
        names: impl IntoIterator<Item = HostName>,
        resolver: impl Fn() -> Result<TokioResolver, String> + Clone + Send + 'static,
    ) -> Self {
        let (sender, news) = mpsc::channel(NEWS_WAITING);
        let mut tasks = JoinSet::new();
        for name in names {
            tasks.spawn(follow(name, resolver.clone(), sender.clone()));
        }
        Self { _tasks: tasks, news }
    }

    /// Waits for news; `None` if no name is followed. Cancel safe.
    pub async fn next(&mut self) -> Option<News> {
        self.news.recv().await
    }
}

/// A resolver with the system's configuration.
///
/// # Errors
///
/// Why `resolv.conf` cannot be used.
pub fn system_resolver() -> Result<TokioResolver, String> {
    let builder =
        TokioResolver::builder_tokio().map_err(|error| format!("resolv.conf: {error}"))?;
    builder.build().map_err(|error| error.to_string())
}

async fn follow(
    name: HostName,
    resolver: impl Fn() -> Result<TokioResolver, String>,
    news: mpsc::Sender<News>,
) {
    let mut followed = Followed::default();
    let mut told = None;
    loop {
        let answers = match resolver() {
            Ok(resolver) => ask(&resolver, &name).await,
            Err(why) => [Err(why.clone()), Err(why)],
        };
        let (addresses, wait) = followed.take(answers);
        if told.as_ref() != Some(&addresses) {
            told = Some(addresses.clone());
            if news.send(News { name: name.clone(), addresses }).await.is_err() {
                return;
            }
        }
        sleep(wait).await;
    }
}

async fn ask(resolver: &TokioResolver, name: &HostName) -> [Result<Answer, String>; 2] {
    // A final dot makes the name absolute, so that the host's search domains do not matter.
    let name = format!("{name}.");
    let answers = addresses(resolver, &name).await;
    let is_none = |answer: &Result<Answer, String>| {
        answer.as_ref().is_ok_and(|answer| answer.addresses.is_empty())
    };
    if answers.iter().all(is_none) { of_services(resolver, &name, answers).await } else { answers }
}

/// The IPv4 and IPv6 addresses of a name.
async fn addresses(resolver: &TokioResolver, name: &str) -> [Result<Answer, String>; 2] {
    let (v4, v6) = tokio::join!(
        records(resolver, name, RecordType::A),
        records(resolver, name, RecordType::AAAA)
    );
    [v4, v6].map(|found| {
        let (data, ttl) = found?;
        Ok(Answer {
            addresses: data.iter().filter_map(RData::ip_addr).collect(),
            ttl,
            missing: None,
        })
    })
}

/// The addresses of the hosts that provide SIP for a name without an address.
async fn of_services(
    resolver: &TokioResolver,
    name: &str,
    [mut v4, mut v6]: [Result<Answer, String>; 2],
) -> [Result<Answer, String>; 2] {
    let mut hosts: Vec<String> = Vec::new();
    for service in SERVICES {
        match records(resolver, &format!("{service}.{name}"), RecordType::SRV).await {
            Ok((data, ttl)) => {
                let targets = data.iter().filter_map(|data| {
                    if let RData::SRV(service) = data {
                        Some(service.target.to_string())
                    } else {
                        None
                    }
                });
                // A single dot means that there is no such service.
                hosts.extend(targets.filter(|target| target != "."));
                for answer in [&mut v4, &mut v6].into_iter().flatten() {
                    answer.ttl = answer.ttl.min(ttl);
                }
            }
            Err(why) => {
                for answer in [&mut v4, &mut v6].into_iter().flatten() {
                    answer.missing.get_or_insert(format!("{service}: {why}"));
                }
            }
        }
    }
    hosts.sort();
    hosts.dedup();
    for host in hosts.iter().take(TARGETS_MAX) {
        for (sum, found) in [&mut v4, &mut v6].into_iter().zip(addresses(resolver, host).await) {
            if let Ok(sum) = sum {
                sum.add(host, found);
            }
        }
    }
    [v4, v6]
}

/// The records of one kind of a name, and how long they are valid.
async fn records(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<(Vec<RData>, Duration), String> {
    match resolver.lookup(name, kind).await {
        Ok(found) => {
            let ttl = found.valid_until().saturating_duration_since(Instant::now());
            Ok((found.answers().iter().map(|record| record.data.clone()).collect(), ttl))
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NoError | ResponseCode::NXDomain) =>
        {
            let ttl = none.negative_ttl.map_or(NO_TTL, |ttl| Duration::from_secs(ttl.into()));
            Ok((Vec::new(), ttl))
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Every name in a configuration, once.
pub fn names(config: &Config) -> BTreeSet<HostName> {
    let ignored = config.jails.values().flat_map(|jail| &jail.ignore_names);
    ignored.chain(&config.trusted_names).cloned().collect()
}

#[cfg(test)]
mod tests;

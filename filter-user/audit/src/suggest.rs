//! Suggests which services to close, from what listens and from the networks that use it.
//!
//! Must never close what a stranger or the administrator uses, unless only the host needs it.

mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::{
    ExposureSuggestion, OpenTo, PortUse, PortUser, Reach, RuleSet, SuggestedPort, Transport,
};
use detection::settings::{Exposure, SERVICES, Service};
use ipnet::IpNet;

pub use self::text::in_words;
use crate::facts::{Facts, Time, Uses, Visits};
use crate::firewall::{self, Packet};
use crate::listeners::{self, Row};
use crate::reach;
use crate::services::Bind;
use crate::text::place;
use crate::words::shown;

/// How long the users of a port are recorded before a suggestion is certain, and how long they count.
const WEEK: Duration = Duration::from_hours(7 * 24);

/// The most networks that are listed for a port, and the most that are suggested as they are.
const NETWORKS_MAX: usize = 16;
const TRUSTED_MAX: usize = 8;

/// The blocks of private addresses, which stand for too many networks in them.
const PRIVATE: [&str; 5] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"];

/// The services that listen, the suggestion for each, and the configuration that follows from them.
pub fn suggest(facts: &Facts) -> ExposureSuggestion {
    let mut places: BTreeMap<(u16, Transport), Vec<Row>> = BTreeMap::new();
    for row in listeners::rows(facts) {
        let place = (row.listener.port, row.listener.transport);
        if row.listener.reach > Reach::Multicast && !row.is_media && is_closable(facts, place) {
            places.entry(place).or_default().push(row);
        }
    }
    let mut ports: Vec<SuggestedPort> = places
        .into_iter()
        .map(|((port, transport), rows)| one(facts, transport, port, &rows))
        .collect();
    name_services(facts, &mut ports);
    let trusted = more_trusted(facts, &ports);
    let rules = |rules: &firewall::Rules| RuleSet {
        tool: rules.tool.clone(),
        chains: firewall::in_words(rules),
    };
    ExposureSuggestion {
        version: facts.version.clone(),
        host: shown(&facts.host),
        time: facts.time.clone(),
        configuration: configuration(facts, &ports, &trusted),
        trusted,
        ports,
        firewall: facts.firewall.iter().map(rules).collect(),
        unread: facts.unread.clone(),
    }
}

/// Whether `exposure` can close it for good: not SIP, DHCP, or ports on which a program only waits for replies.
fn is_closable(facts: &Facts, (port, transport): (u16, Transport)) -> bool {
    let is_udp = transport == Transport::Udp;
    let is_temporary = (facts.ephemeral.0..=facts.ephemeral.1).contains(&port);
    let is_none = listeners::is_sip(facts, transport, port) || (is_udp && is_temporary);
    !is_none && written(transport, port).parse::<Service>().is_ok()
}

fn written(transport: Transport, port: u16) -> String {
    format!("{port}/{}", transport.as_str())
}

fn one(facts: &Facts, transport: Transport, port: u16, rows: &[Row]) -> SuggestedPort {
    let is_it = |visits: &&Visits| (visits.transport, visits.port) == (transport, port);
    let visits = facts.visits.as_ref().and_then(|all| all.iter().find(is_it));
    let is_recent = |time: &Time| time.ago <= WEEK;
    let networks: Vec<PortUser> = visits
        .iter()
        .flat_map(|visits| &visits.networks)
        .filter(|(_, last)| is_recent(last))
        .map(|(network, last)| PortUser {
            network: network.to_string(),
            last: last.text.clone(),
            trusted: is_trusted(facts, network),
        })
        .collect();
    let uses = |of: fn(&Visits) -> &Uses| {
        let uses = visits.map(of).cloned().unwrap_or_default();
        PortUse {
            networks: uses.networks,
            missed: uses.missed,
            last: uses.last.filter(is_recent).map(|time| time.text),
        }
    };
    let (private, public) = (uses(|visits| &visits.private), uses(|visits| &visits.public));
    let now = open_to(facts, transport, port);
    let seen = Seen { visits, networks: &networks, private: &private, public: &public };
    let (suggested, reason) = if now == OpenTo::Everybody {
        decide(kind(rows), &seen)
    } else {
        (now, "`exposure` closes it already".to_owned())
    };
    let listeners = || rows.iter().map(|row| &row.listener);
    let guards: BTreeSet<String> = listeners().flat_map(|one| one.guards.clone()).collect();
    let addresses: BTreeSet<String> = listeners().map(place).collect();
    let processes: BTreeSet<String> = listeners().filter_map(|one| one.process.clone()).collect();
    SuggestedPort {
        service: written(transport, port),
        transport,
        port,
        addresses: addresses.into_iter().collect(),
        processes: processes.into_iter().collect(),
        now,
        suggested,
        reason,
        since: visits.map(|visits| visits.since.text.clone()),
        week: visits.is_some_and(|visits| visits.since.ago >= WEEK),
        private,
        public,
        contradictions: contradictions(facts, rows, suggested),
        networks: networks.into_iter().take(NETWORKS_MAX).collect(),
        guards: guards.into_iter().collect(),
    }
}

fn is_trusted(facts: &Facts, network: &IpNet) -> bool {
    facts.trusted.iter().any(|trusted| trusted.contains(network))
}

/// The sources to which the configuration opens a port.
fn open_to(facts: &Facts, transport: Transport, port: u16) -> OpenTo {
    let Exposure { trusted, closed, dry_run, .. } = &facts.exposure;
    let has = |services: &[Service]| {
        let mut ports = services.iter().flat_map(|service| service.ports(&facts.sip));
        ports.any(|(tcp, range)| tcp == (transport == Transport::Tcp) && range.contains(port))
    };
    match (*dry_run, has(closed), has(trusted)) {
        (false, true, _) => OpenTo::Nobody,
        (false, false, true) => OpenTo::Trusted,
        (true, ..) | (false, false, false) => OpenTo::Everybody,
    }
}

/// What a service is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The administrator's own access.
    Ssh,
    /// Others are to reach it.
    Public,
    /// Only the host itself needs it.
    Internal,
    /// Unknown.
    Unknown,
}

fn kind(rows: &[Row]) -> Kind {
    let is_ssh = rows
        .iter()
        .any(|row| row.listener.port == 22 || row.listener.process.as_deref() == Some("sshd"));
    match rows.iter().find_map(|row| row.service).map(|service| service.bind) {
        _ if is_ssh => Kind::Ssh,
        Some(Bind::Any) => Kind::Public,
        Some(Bind::Local) => Kind::Internal,
        None => Kind::Unknown,
    }
}

/// The users of a port.
struct Seen<'a> {
    visits: Option<&'a Visits>,
    networks: &'a [PortUser],
    private: &'a PortUse,
    public: &'a PortUse,
}

/// The sources to which a port should be open, and why.
fn decide(kind: Kind, seen: &Seen<'_>) -> (OpenTo, String) {
    let Some(visits) = seen.visits else {
        let why = "it is not recorded yet which networks use it";
        let suggested = if kind == Kind::Internal { OpenTo::Trusted } else { OpenTo::Everybody };
        return (suggested, why.to_owned());
    };
    let since = if visits.since.ago >= WEEK {
        "within the last week".to_owned()
    } else {
        format!("since {}, which is less than a week,", visits.since.text)
    };
    let strangers = seen.strangers();
    let (suggested, why) = match (kind, &strangers, seen.is_used()) {
        (Kind::Ssh, None, false) => (OpenTo::Everybody, "nobody used it".to_owned()),
        (_, None, true) => (OpenTo::Trusted, seen.users()),
        (Kind::Public, None, false) => {
            (OpenTo::Everybody, "nobody used it; stop it if nobody is to".to_owned())
        }
        (Kind::Ssh | Kind::Public, Some(strangers), _) => {
            (OpenTo::Everybody, format!("{strangers} used it"))
        }
        (Kind::Internal | Kind::Unknown, None, false) => {
            (OpenTo::Nobody, "nobody but the host itself used it".to_owned())
        }
        (Kind::Internal, Some(strangers), is_used) => {
            let suggested = if is_used { OpenTo::Trusted } else { OpenTo::Nobody };
            let why = "only the host itself should need it, so they may be scanners; if you know one, \
                       list it under `trusted`";
            (suggested, format!("{strangers} used it: {why}"))
        }
        (Kind::Unknown, Some(strangers), _) => {
            (OpenTo::Everybody, format!("{strangers} used it, and its purpose is unknown"))
        }
    };
    (suggested, format!("{since} {why}"))
}

impl Seen<'_> {
    /// Whether a private or trusted address used it.
    fn is_used(&self) -> bool {
        self.private.last.is_some() || self.networks.iter().any(|user| user.trusted)
    }

    /// The public networks that used it and are not trusted, in words.
    fn strangers(&self) -> Option<String> {
        let last = self.public.last.as_ref()?;
        let of_public = self.networks.iter().filter(|user| !is_private(&user.network));
        let trusted = of_public.filter(|user| user.trusted).count() as u64;
        if trusted >= self.public.networks && self.public.missed == 0 {
            return None;
        }
        let number = self.public.networks.saturating_sub(trusted);
        let more = if self.public.missed > 0 { "at least " } else { "" };
        let noun = if number == 1 { "public network" } else { "public networks" };
        Some(format!("{more}{number} {noun} (the last use was at {last})"))
    }

    /// The private and trusted users in words.
    fn users(&self) -> String {
        let known = self.networks.iter().filter(|user| user.trusted || is_private(&user.network));
        let known: Vec<IpNet> = known.filter_map(|user| user.network.parse().ok()).collect();
        if known.is_empty() {
            return "only private addresses used it".to_owned();
        }
        format!("only {} used it", joined(few(known)))
    }
}

fn is_private(network: &str) -> bool {
    network.parse::<IpNet>().is_ok_and(|network| !reach::is_exposed(reach::of(network.addr())))
}

fn joined(items: impl IntoIterator<Item = impl ToString>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

/// The networks, or the blocks of private addresses around them if there are many.
fn few(networks: Vec<IpNet>) -> Vec<IpNet> {
    if networks.len() <= TRUSTED_MAX {
        return networks;
    }
    let blocks: Vec<IpNet> = PRIVATE.iter().filter_map(|block| block.parse().ok()).collect();
    let around = |network: IpNet| {
        blocks.iter().find(|block| block.contains(&network)).copied().unwrap_or(network)
    };
    let all: BTreeSet<IpNet> = networks.into_iter().map(around).collect();
    all.into_iter().take(NETWORKS_MAX).collect()
}

/// Private networks that are not trusted, and use what is suggested for trusted networks.
fn more_trusted(facts: &Facts, ports: &[SuggestedPort]) -> Vec<String> {
    let open = ports
        .iter()
        .filter(|port| port.suggested == OpenTo::Trusted && port.now == OpenTo::Everybody);
    let users = open.flat_map(|port| &port.networks).filter(|user| !user.trusted);
    let networks: BTreeSet<IpNet> = users
        .filter(|user| is_private(&user.network))
        .filter_map(|user| user.network.parse().ok())
        .filter(|network| !is_trusted(facts, network))
        .collect();
    few(networks.into_iter().collect()).iter().map(ToString::to_string).collect()
}

/// The rules that differ from the suggestion.
fn contradictions(facts: &Facts, rows: &[Row], suggested: OpenTo) -> Vec<String> {
    let mut found = BTreeSet::new();
    for row in rows {
        for (takes, is_v6) in [(row.listener.ipv4, false), (row.listener.ipv6, true)] {
            let packet =
                Packet { is_v6, transport: row.listener.transport, port: row.listener.port };
            for rules in facts.firewall.iter().filter(|_| takes) {
                let (tool, family) = (&rules.tool, if is_v6 { "IPv6" } else { "IPv4" });
                if firewall::closes(rules, packet) {
                    if suggested != OpenTo::Nobody {
                        found
                            .insert(format!("{tool} drops the packets of strangers over {family}"));
                    }
                } else if suggested != OpenTo::Everybody && firewall::accepts_port(rules, packet) {
                    found.insert(format!(
                        "{tool} has a rule that accepts it over {family}; the filter decides before it"
                    ));
                }
            }
        }
    }
    found.into_iter().collect()
}

/// Replaces ports by the name of their service if the suggestions for all ports of it are the same.
fn name_services(facts: &Facts, ports: &mut [SuggestedPort]) {
    for named in SERVICES {
        let Ok(service) = named.name.parse::<Service>() else { continue };
        let ranges = service.ports(&facts.sip);
        let is_of = |port: &SuggestedPort| {
            let tcp = port.transport == Transport::Tcp;
            ranges.iter().any(|(of_tcp, range)| *of_tcp == tcp && range.contains(port.port))
        };
        let states: BTreeSet<OpenTo> =
            ports.iter().filter(|port| is_of(port)).map(|port| port.suggested).collect();
        if states.len() == 1 {
            for port in ports.iter_mut().filter(|port| is_of(port)) {
                named.name.clone_into(&mut port.service);
            }
        }
    }
}

/// The configuration to paste, with what `exposure` has already; `None` if nothing is to be closed.
fn configuration(facts: &Facts, ports: &[SuggestedPort], trusted: &[String]) -> Option<String> {
    let new = |state: OpenTo| {
        let of_state = ports
            .iter()
            .filter(move |port| port.suggested == state && port.now == OpenTo::Everybody);
        of_state.map(|port| port.service.clone()).collect::<BTreeSet<String>>()
    };
    let (to_trusted, to_nobody) = (new(OpenTo::Trusted), new(OpenTo::Nobody));
    if to_trusted.is_empty() && to_nobody.is_empty() {
        return None;
    }
    let mut text = String::new();
    if !trusted.is_empty() {
        add!(text, "# Add to `trusted`: {}\n", trusted.join(", "));
    } else if !to_trusted.is_empty() && facts.trusted.is_empty() {
        text += "# List your own networks under `trusted` first.\n";
    }
    text += &exposure_lines(facts, &to_trusted, &to_nobody);
    Some(text)
}

/// The setting `exposure` with more services, in a dry run if it is new.
fn exposure_lines(
    facts: &Facts,
    to_trusted: &BTreeSet<String>,
    to_nobody: &BTreeSet<String>,
) -> String {
    let Exposure { trusted, closed, dry_run, .. } = &facts.exposure;
    let with = |old: &[Service], more: &BTreeSet<String>| {
        let mut all: Vec<String> = old.iter().map(ToString::to_string).collect();
        all.extend(
            more.iter().filter(|name| !old.iter().any(|one| one.to_string() == **name)).cloned(),
        );
        all
    };
    let mut text = String::from("exposure:\n");
    for (name, all) in [("trusted", with(trusted, to_trusted)), ("closed", with(closed, to_nobody))]
    {
        if !all.is_empty() {
            add!(text, "  {name}: [{}]\n", all.join(", "));
        }
    }
    if *dry_run || (trusted.is_empty() && closed.is_empty()) {
        text += "  dry_run: true\n";
    }
    text
}

/// The setting `exposure` on one line, with a port that becomes open to trusted networks only.
pub fn line(facts: &Facts, transport: Transport, port: u16) -> Option<String> {
    if !is_closable(facts, (port, transport)) {
        return None;
    }
    let Exposure { trusted, closed, dry_run, .. } = &facts.exposure;
    let name = service_of(facts, transport, port);
    let trusted = joined(trusted.iter().map(ToString::to_string).chain([name]));
    let closed =
        if closed.is_empty() { String::new() } else { format!(", closed: [{}]", joined(closed)) };
    let dry_run = if *dry_run { ", dry_run: true" } else { "" };
    Some(format!("exposure: {{trusted: [{trusted}]{closed}{dry_run}}}"))
}

/// The name of the service that has only this port, or the port.
fn service_of(facts: &Facts, transport: Transport, port: u16) -> String {
    let is_it = |service: Service| match service.ports(&facts.sip)[..] {
        [(tcp, range)] => {
            tcp == (transport == Transport::Tcp) && (range.first, range.last) == (port, port)
        }
        _ => false,
    };
    let named = SERVICES.iter().map(|named| named.name);
    let mut named = named.filter(|name| name.parse().is_ok_and(is_it));
    named.next().map_or_else(|| written(transport, port), str::to_owned)
}

#[cfg(test)]
mod tests;

//! The ports that a jail's bans close: fail2ban's `port` and `banaction` as `scope`, `ports` and `sip`.

use detection::register::{self, ASTERISK_JAIL};
use detection::settings::{self, PortClass, PortRange, RECIDIVE, Scope};

use super::{Section, Taking};
use crate::jails::Jail;

/// The ports of services by the names that `port` may use.
const SERVICES: [(&str, u16); 22] = [
    ("ssh", 22),
    ("http", 80),
    ("https", 443),
    ("sip", 5060),
    ("sips", 5061),
    ("sip-tls", 5061),
    ("ftp", 21),
    ("ftp-data", 20),
    ("ftps", 990),
    ("ftps-data", 989),
    ("smtp", 25),
    ("smtps", 465),
    ("submission", 587),
    ("submissions", 465),
    ("imap", 143),
    ("imap2", 143),
    ("imap3", 220),
    ("imaps", 993),
    ("pop3", 110),
    ("pop3s", 995),
    ("sieve", 4190),
    ("domain", 53),
];

/// The most ports of `port` that are added to `sip`. More are probably media ports, to which SIP limits
/// should not apply.
const SIP_MAX: usize = 16;

/// A note on bans that close everything.
const FORGED: &str = "failures over UDP, whose source can be forged, close only SIP; \
                      `unproven_scope: all` acts as fail2ban does";

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    first: u16,
    last: u16,
}

impl Range {
    fn text(self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("\"{}-{}\"", self.first, self.last)
        }
    }

    fn is_in(self, ranges: &[PortRange]) -> bool {
        (self.first..=self.last).all(|port| ranges.iter().any(|range| range.contains(port)))
    }

    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// The ports that an action closes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Closed {
    Everything,
    Ports(Vec<Range>),
    /// A word that is neither a port nor a known service.
    Unknown(String),
}

impl Closed {
    fn by(jail: &Jail) -> Self {
        let ports = jail.ports.trim();
        if jail.all_ports || ports.is_empty() {
            return Self::Everything;
        }
        let mut ranges = Vec::new();
        for word in ports.split([',', ' ', '\n']).filter(|word| !word.is_empty()) {
            // A name may contain a dash.
            let is_range =
                |(first, _): &(&str, &str)| first.is_empty() || first.parse::<u16>().is_ok();
            let (first, last) =
                word.split_once([':', '-']).filter(is_range).unwrap_or((word, word));
            let first = if first.is_empty() { Some(0) } else { port(first) };
            let last = if last.is_empty() { Some(u16::MAX) } else { port(last) };
            match (first, last) {
                (Some(0 | 1), Some(u16::MAX)) => return Self::Everything,
                (Some(first), Some(last)) if (1..=last).contains(&first) => {
                    ranges.push(Range { first, last });
                }
                _ => return Self::Unknown(word.to_owned()),
            }
        }
        Self::Ports(ranges)
    }
}

fn port(name: &str) -> Option<u16> {
    let service = SERVICES.iter().find_map(|(known, port)| (*known == name).then_some(*port));
    service.or_else(|| name.parse().ok())
}

fn texts(ranges: &[Range]) -> String {
    ranges.iter().map(|range| range.text()).collect::<Vec<_>>().join(", ")
}

impl<'a> Taking<'a> {
    /// Sets what the bans of a built-in jail close.
    pub(super) fn closes_of(&mut self, jail: &Jail, section: &mut Section<'_>) {
        let ports = jail.ports.trim().replace('\n', " ");
        let name = section.name.clone();
        let ranges = match Closed::by(jail) {
            Closed::Everything => {
                section.set("scope", "all");
                if name != RECIDIVE {
                    let text = "a ban closes all ports, as in fail2ban (`scope: all`)";
                    section.taken.push(text.to_owned());
                }
                if name == ASTERISK_JAIL {
                    section.notes.push(FORGED.to_owned());
                }
                return;
            }
            Closed::Unknown(word) => {
                section.left_out.push(format!(
                    "port `{ports}`: `{word}` is not a known port, so a ban closes the default \
                     ports"
                ));
                return;
            }
            Closed::Ports(ranges) => ranges,
        };
        let scope = register::of_jail(&name)
            .and_then(|source| settings::defaults().remove(source.jail))
            .map_or(Scope::All, |jail| jail.scope);
        match scope {
            Scope::Sip | Scope::Throttle => self.sip_ports(&ranges, &ports, section),
            Scope::Ports(_) => {
                let mut classes = self.existing.ports.iter();
                if let Some((_, class)) = classes.find(|(of, _)| *of == scope) {
                    self.named_ports(class, ranges, section);
                }
            }
            Scope::All => section.left_out.push(format!("port `{ports}`: a ban closes all ports")),
        }
    }

    /// Sets the TCP ports of a name. Its UDP ports remain.
    fn named_ports(&mut self, class: &'a PortClass, ranges: Vec<Range>, section: &mut Section<'_>) {
        let is_closed = |range: &Range| range.is_in(&class.tcp) || range.is_in(&class.udp);
        let mut here = class.tcp.iter().flat_map(|range| range.ports());
        let closes_no_more = !class.udp.is_empty()
            || here.all(|port| ranges.iter().any(|range| range.contains(port)));
        if ranges.iter().all(is_closed) && closes_no_more {
            return;
        }
        let (shown, name) = (texts(&ranges), &*class.name);
        section.taken.push(format!("a ban closes the TCP ports {shown} (`ports.{name}`)"));
        self.ports.insert(name, ranges);
    }

    /// Adds ports to those of `sip`, because Asterisk listens on them too.
    fn sip_ports(&mut self, ranges: &[Range], ports: &str, section: &mut Section<'_>) {
        let sip = self.existing.sip;
        let is_here = |range: &Range| range.is_in(&sip.udp) || range.is_in(&sip.tcp);
        let more: Vec<Range> = ranges.iter().copied().filter(|range| !is_here(range)).collect();
        let of_others =
            |range: &Range| self.existing.ports.iter().any(|(_, class)| range.is_in(&class.tcp));
        let count: usize = more.iter().map(|range| usize::from(range.last - range.first) + 1).sum();
        if more.iter().any(of_others) || count > SIP_MAX {
            section.left_out.push(format!(
                "port `{ports}`: a ban closes all ports (`scope: all`), because {} cannot be SIP \
                 ports",
                texts(&more)
            ));
            section.notes.push(FORGED.to_owned());
            section.set("scope", "all");
        } else if !more.is_empty() {
            section.taken.push(format!(
                "port {} becomes a SIP port (`sip`): bans close it, limits apply to it, and \
                 packets to it are witnesses of failures",
                texts(&more)
            ));
            self.sip = Some(more.iter().flat_map(|range| range.first..=range.last).collect());
        }
    }

    /// The scope that closes the ports of its action and no others that matter, if there is one.
    pub(super) fn scope(&self, jail: &Jail) -> Option<String> {
        let ranges = match Closed::by(jail) {
            Closed::Everything => return Some("all".to_owned()),
            Closed::Unknown(_) => return None,
            Closed::Ports(ranges) => ranges,
        };
        let sip = self.existing.sip;
        if ranges.iter().all(|range| range.is_in(&sip.udp) || range.is_in(&sip.tcp)) {
            return Some("sip".to_owned());
        }
        let mut classes = self.existing.ports.iter().map(|(_scope, class)| class);
        let class = classes.find(|class| match self.ports.get(&*class.name) {
            // With the ports that the import sets.
            Some(own) => ranges.iter().all(|range| {
                own.iter().any(|own| own.first <= range.first && range.last <= own.last)
            }),
            None => ranges.iter().all(|range| range.is_in(&class.tcp)),
        })?;
        Some(class.name.clone())
    }

    /// The section `ports`, if it is not empty.
    pub(super) fn port_sections(&self) -> String {
        let line = |(class, ranges): (&&str, &Vec<Range>)| {
            format!("  {class}: {{tcp: [{}]}}\n", texts(ranges))
        };
        let lines = self.ports.iter().map(line).collect::<Vec<_>>().concat();
        if lines.is_empty() { lines } else { format!("ports:\n{lines}") }
    }

    /// The section `sip`, if it is not empty. It lists all ports, because lists are replaced as a whole.
    pub(super) fn sip_section(&self) -> String {
        let Some(more) = &self.sip else { return String::new() };
        let list = |here: &[PortRange]| {
            let here = here.iter().map(|range| format!("\"{range}\""));
            let more = more.iter().map(|port| format!("\"{port}\""));
            here.chain(more).collect::<Vec<_>>().join(", ")
        };
        let sip = self.existing.sip;
        format!("sip:\n  udp: [{}]\n  tcp: [{}]\n", list(&sip.udp), list(&sip.tcp))
    }
}

//! Named ports, and what a ban closes.

use std::fmt;

use super::{Row, Value, below};
use crate::duration::snippet;

/// The most names besides `sip` and `all`: the kernel keeps the scopes of a ban in one byte.
pub const PORT_CLASSES_MAX: usize = 5;

/// The longest name, in bytes.
const NAME_MAX: usize = 32;

/// The name of the scope that throttles.
const THROTTLE: &str = "throttle";

/// The name in the configuration for no scope at all.
pub const NONE: &str = "none";

/// The bit of [`Scope::Throttle`].
const THROTTLE_BIT: u8 = 6;

/// The bit of [`Scope::All`].
const ALL_BIT: u8 = 7;

/// The ports that a ban closes to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The SIP ports over UDP, except to requests that answer a challenge or are retransmitted: a throttle.
    Throttle,
    /// The SIP ports.
    Sip,
    /// The ports of one of [`PortClasses`], by its number, from 1 to [`PORT_CLASSES_MAX`].
    Ports(u8),
    /// Everything.
    All,
}

impl Scope {
    /// The first of them in their order.
    pub const FIRST: Self = Self::Throttle;

    /// Its bit in the kernel's masks, from 0 to 7.
    pub fn bit(self) -> u8 {
        match self {
            Self::Sip => 0,
            Self::Ports(number) => number,
            Self::Throttle => THROTTLE_BIT,
            Self::All => ALL_BIT,
        }
    }

    /// Whether a ban of this scope closes everything that one of the other closes.
    pub fn covers(self, other: Self) -> bool {
        self == other || self == Self::All || self == Self::Sip && other == Self::Throttle
    }

    /// Whether it closes nothing but SIP.
    pub const fn is_sip(self) -> bool {
        matches!(self, Self::Sip | Self::Throttle)
    }

    /// The inverse of [`bit`](Self::bit); `None` for a bit without a scope.
    pub fn from_bit(bit: u8) -> Option<Self> {
        match bit {
            0 => Some(Self::Sip),
            ALL_BIT => Some(Self::All),
            THROTTLE_BIT => Some(Self::Throttle),
            bit if usize::from(bit) <= PORT_CLASSES_MAX => Some(Self::Ports(bit)),
            _ => None,
        }
    }
}

/// Ports from `first` to `last`, both included; never port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// A single port. Port 0 cannot be written in a configuration and matches nothing.
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The ports of this range.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// Whether `port` is in this range.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// The ports that carry SIP, by transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SipPorts {
    /// UDP ports.
    pub udp: Vec<PortRange>,
    /// TCP and TLS ports.
    pub tcp: Vec<PortRange>,
}

impl Default for SipPorts {
    fn default() -> Self {
        Self {
            udp: vec![PortRange::single(5060)],
            tcp: vec![PortRange::single(5060), PortRange::single(5061)],
        }
    }
}

impl SipPorts {
    /// Its settings, which are below the path `at`.
    pub fn rows(&mut self, at: &str) -> Vec<Row<'_>> {
        let udp = "The UDP ports that carry SIP. Write a range as `\"5060-5070\"`.";
        let tcp = "The TCP ports that carry SIP, with or without TLS.";
        vec![
            Row { path: below(at, "udp"), doc: udp.to_owned(), value: Value::Ports(&mut self.udp) },
            Row { path: below(at, "tcp"), doc: tcp.to_owned(), value: Value::Ports(&mut self.tcp) },
        ]
    }
}

/// Ports that a ban can close together, under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortClass {
    /// The name, as `--scope` takes it.
    pub name: String,
    /// UDP ports.
    pub udp: Vec<PortRange>,
    /// TCP ports.
    pub tcp: Vec<PortRange>,
}

impl PortClass {
    fn new(name: &str, udp: &[u16], tcp: &[u16]) -> Self {
        let ranges = |ports: &[u16]| ports.iter().copied().map(PortRange::single).collect();
        Self { name: name.to_owned(), udp: ranges(udp), tcp: ranges(tcp) }
    }

    fn is_empty(&self) -> bool {
        self.udp.is_empty() && self.tcp.is_empty()
    }
}

/// The port classes besides SIP. Those of a Wazo host always come first, so that their numbers never
/// change; the administrator's follow in alphabetical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortClasses(Vec<PortClass>);

impl Default for PortClasses {
    /// The other open ports of a Wazo host: TFTP and nginx for the configurations of phones, nginx for
    /// everything else.
    fn default() -> Self {
        Self(vec![
            PortClass::new("ssh", &[], &[22]),
            PortClass::new("provisioning", &[69], &[8667]),
            PortClass::new("http", &[], &[80, 443]),
        ])
    }
}

impl PortClasses {
    /// The scope that closes SSH.
    pub const SSH: Scope = Scope::Ports(1);

    /// The scope that closes the provisioning of phones.
    pub const PROVISIONING: Scope = Scope::Ports(2);

    /// The scope that closes HTTP.
    pub const HTTP: Scope = Scope::Ports(3);

    /// The classes, each with the scope that closes it.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, &PortClass)> {
        (1..).map(Scope::Ports).zip(&self.0)
    }

    /// The scope with this name.
    ///
    /// # Errors
    ///
    /// If there is no such scope, or it would close nothing; the error lists the possible ones.
    pub fn scope(&self, name: &str) -> Result<Scope, String> {
        let scope = named(name, &self.names()).ok_or_else(|| {
            format!("there is no scope `{}`; use {}", snippet(name), self.choice())
        })?;
        match self.class(scope) {
            Some(class) if class.is_empty() => Err(format!(
                "the scope `{name}` closes no ports; list them in `ports: {{{name}: {{tcp: [...]}}}}`"
            )),
            Some(_) | None => Ok(scope),
        }
    }

    /// The name of a scope.
    pub fn name(&self, scope: Scope) -> &str {
        match scope {
            Scope::Sip => "sip",
            Scope::All => "all",
            Scope::Throttle => THROTTLE,
            // A ban may outlive the configuration that named its ports.
            Scope::Ports(_) => self.class(scope).map_or("unnamed", |class| &class.name),
        }
    }

    /// All names, as a phrase.
    pub fn choice(&self) -> String {
        choice(&self.names())
    }

    /// Every name.
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|class| class.name.clone()).collect()
    }

    /// The classes, to set their ports.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut PortClass> {
        self.0.iter_mut()
    }

    /// Its settings, which are below the path `at`.
    pub fn rows(&mut self, at: &str) -> Vec<Row<'_>> {
        let rows = self.iter_mut().flat_map(|PortClass { name, udp, tcp }| {
            let row = |key, transport, ports| Row {
                path: below(at, &format!("{name}.{key}")),
                doc: format!("The {transport} ports that a ban of scope {name} closes."),
                value: Value::Ports(ports),
            };
            [row("udp", "UDP", udp), row("tcp", "TCP", tcp)]
        });
        rows.collect()
    }

    /// Adds a class without ports, unless one with this name exists.
    ///
    /// # Errors
    ///
    /// If it is not possible; the error says why.
    pub fn add(&mut self, name: &str) -> Result<(), String> {
        if self.0.iter().any(|class| class.name == name) {
            return Ok(());
        }
        let shown = snippet(name);
        if ["sip", "all", THROTTLE, NONE].contains(&name) {
            return Err(format!("`{name}` is taken; give these ports another name"));
        }
        let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !begins || !name.bytes().all(letters) || name.len() > NAME_MAX {
            return Err(format!(
                "`{shown}` is not a name for ports; use lower-case letters, digits, `-` and `_`, at \
                 most {NAME_MAX}"
            ));
        }
        if self.0.len() >= PORT_CLASSES_MAX {
            let names = self.names().join("`, `");
            return Err(format!(
                "`{shown}` is one too many: at most {PORT_CLASSES_MAX} names are possible, and \
                 there are `{names}`"
            ));
        }
        self.0.push(PortClass::new(name, &[], &[]));
        Ok(())
    }

    fn class(&self, scope: Scope) -> Option<&PortClass> {
        self.iter().find_map(|(other, class)| (other == scope).then_some(class))
    }
}

/// The scope with this name, given the names of these port classes.
pub fn named(name: &str, classes: &[String]) -> Option<Scope> {
    match name {
        "sip" => Some(Scope::Sip),
        "all" => Some(Scope::All),
        THROTTLE => Some(Scope::Throttle),
        name => {
            (1..).zip(classes).find_map(|(n, class)| (class == name).then_some(Scope::Ports(n)))
        }
    }
}

/// The names of all scopes, as a phrase.
pub fn choice(classes: &[String]) -> String {
    let names: Vec<String> = classes.iter().map(|name| format!("`{name}`")).collect();
    format!("`sip`, {}, `{THROTTLE}` or `all`", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_have_bits() {
        let ports = (1..).take(PORT_CLASSES_MAX).map(Scope::Ports);
        for scope in ports.chain([Scope::Sip, Scope::Throttle, Scope::All]) {
            assert_eq!(Scope::from_bit(scope.bit()), Some(scope));
        }
        assert_eq!(Scope::from_bit(8), None);
    }

    #[test]
    fn scopes_have_names() {
        let ports = PortClasses::default();
        for name in ["sip", "ssh", "provisioning", "http", "all"] {
            assert_eq!(ports.name(ports.scope(name).unwrap()), name);
        }
        assert_eq!(ports.scope("ssh"), Ok(PortClasses::SSH));
        assert_eq!(ports.scope("provisioning"), Ok(PortClasses::PROVISIONING));
        assert_eq!(ports.scope("http"), Ok(PortClasses::HTTP));
        assert_eq!(
            ports.scope("shh").unwrap_err(),
            "there is no scope `shh`; use `sip`, `ssh`, `provisioning`, `http`, `throttle` or `all`"
        );
        assert_eq!(ports.name(Scope::Ports(5)), "unnamed");
    }

    const SCOPES: [Scope; 5] =
        [Scope::Throttle, Scope::Sip, Scope::Ports(1), Scope::Ports(2), Scope::All];

    #[test]
    fn what_a_scope_covers() {
        for (scope, covers) in SCOPES.into_iter().zip([
            [true, false, false, false, false],
            [true, true, false, false, false],
            [false, false, true, false, false],
            [false, false, false, true, false],
            [true; 5],
        ]) {
            assert_eq!(SCOPES.map(|other| scope.covers(other)), covers, "{scope:?}");
        }
        assert_eq!(SCOPES.map(Scope::is_sip), [true, true, false, false, false]);
        assert!(SCOPES.is_sorted() && SCOPES[0] == Scope::FIRST);
    }

    #[test]
    fn a_range_has_both_its_ends() {
        let range = PortRange { first: 9, last: 11 };
        assert_eq!(range.ports().collect::<Vec<_>>(), [9, 10, 11]);
        assert_eq!([8, 9, 11, 12].map(|port| range.contains(port)), [false, true, true, false]);
        assert_eq!((&*range.to_string(), &*PortRange::single(9).to_string()), ("9-11", "9"));
    }

    #[test]
    fn names_of_ports() {
        let long = "a".repeat(NAME_MAX);
        for name in ["a", "web-2", "z_0", &long] {
            let mut ports = PortClasses::default();
            assert_eq!(ports.add(name), Ok(()), "{name}");
            // It closes nothing until it has ports of either protocol.
            let error = ports.scope(name).unwrap_err();
            assert!(error.contains("closes no ports; list them in `ports: {"), "{name}: {error}");
            for is_tcp in [true, false] {
                let mut ports = ports.clone();
                let class = ports.iter_mut().last().unwrap();
                let range = vec![PortRange::single(8080)];
                *(if is_tcp { &mut class.tcp } else { &mut class.udp }) = range;
                assert_eq!(
                    (ports.scope(name), ports.name(Scope::Ports(4))),
                    (Ok(Scope::Ports(4)), name)
                );
            }
        }
        let too_long = "a".repeat(NAME_MAX + 1);
        let wrong = ["", "A", "aB", "1a", "-a", "a b", "é", "a:b", &too_long];
        let says = wrong.map(|name| (name, "is not a name for ports"));
        let taken = ["sip", "all", THROTTLE, NONE].map(|name| (name, "is taken"));
        for (name, why) in says.into_iter().chain(taken) {
            let error = PortClasses::default().add(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn there_is_room_for_so_many_names_of_ports() {
        let mut ports = PortClasses::default();
        for name in ["ssh", "http", "a", "b", "a"] {
            assert_eq!(ports.add(name), Ok(()), "{name}");
        }
        assert_eq!(ports.names(), ["ssh", "provisioning", "http", "a", "b"]);
        let error = ports.add("c").unwrap_err();
        assert!(error.starts_with("`c` is one too many: at most 5 names"), "{error}");
        let scopes: Vec<Scope> = ports.iter().map(|(scope, _)| scope).collect();
        assert_eq!(scopes, [1, 2, 3, 4, 5].map(Scope::Ports));
        let all_names = ports.names();
        let scope = |name| named(name, &all_names);
        let found = ["sip", THROTTLE, "all", "ssh", "b", "c", NONE].map(scope);
        let [sip, throttle, all] = [Scope::Sip, Scope::Throttle, Scope::All].map(Some);
        let [ssh, b] = [PortClasses::SSH, Scope::Ports(5)].map(Some);
        assert_eq!(found, [sip, throttle, all, ssh, b, None, None]);
        assert_eq!(ports.choice(), choice(&all_names));
    }
}

//! One contender under all attacks.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::net::if_::if_nametoindex;

use super::Contender;
use super::attacks::{ATTACKS, Attack, Client, FORGERIES, GAP, Over, Victim, source};
use super::report::{Found, Run, Seen};
use crate::asterisk::{self, Asterisk};
use crate::bpf::Curtain;
use crate::fail2ban::{Fail2ban, Rules};
use crate::interrupt;
use crate::netns::{Lan, Netns};
use crate::phone::{Account, Phone};
use crate::ringfence::{Config, Ringfence};
use crate::world::{PBX, PBX6, PHONE, SIP_PORT};

/// How often the bans are read.
const LOOK: Duration = Duration::from_millis(100);

/// How long the contender may still react after the last attempt.
const SETTLE: Duration = Duration::from_secs(8);

/// How long a stranger's phone may take to register.
const REGISTERS: Duration = Duration::from_secs(5);

/// Fields are dropped in this order: processes before their namespaces.
pub(super) struct World {
    contender: Contender,
    defence: Defence,
    phone: Phone,
    asterisk: Asterisk,
    endpoints: Vec<(String, String)>,
    attacker: Netns,
    _curtain: Option<Curtain>,
    _hosts: [Netns; 2],
    _lan: Lan,
}

enum Defence {
    Fail2ban(Box<Fail2ban>),
    Ringfence(Box<Ringfence>),
}

/// The attacks and the forgeries with their sources.
fn all() -> impl Iterator<Item = (&'static Attack, IpAddr)> {
    ATTACKS.iter().chain(&FORGERIES).enumerate().map(|(n, attack)| (attack, source(n, attack.over)))
}

impl World {
    pub(super) fn build(
        root: &Path,
        contender: Contender,
        ringfence: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut lan = Lan::new()?;
        let pbx = lan.host("pbx", &[PBX, PBX6])?;
        let phone_host = lan.host("phone", &[PHONE])?;
        let sources: Vec<IpAddr> = all().map(|(_, source)| source).collect();
        let attacker = lan.host("attacker", &sources)?;
        let secret = (contender == Contender::RingfenceAll).then(|| "a secret of AMI".to_owned());
        let options = asterisk::Options { ami_secret: secret, ..asterisk::Options::default() };
        let asterisk = Asterisk::start(&pbx, root, &options)?;
        let defence = Defence::start(contender, &pbx, &asterisk, ringfence)?;
        let hide = || Curtain::draw(if_nametoindex("eth0").context("find the interface")?);
        let curtain = match contender {
            Contender::RingfenceLog => Some(pbx.run_in(hide)?),
            Contender::RingfenceWire
            | Contender::Ringfence
            | Contender::RingfenceAll
            | Contender::Fail2ban
            | Contender::Fail2banWazo => None,
        };
        let (name, password) = options.endpoints.first().cloned().context("no endpoint")?;
        let registrar = SocketAddr::new(PBX, SIP_PORT);
        let account = Account { name, password, local: PHONE, registrar };
        let phone = Phone::start(&phone_host, account, Duration::from_secs(1))?;
        let endpoints = options.endpoints;
        let hosts = [pbx, phone_host];
        Ok(Self {
            contender,
            defence,
            phone,
            asterisk,
            endpoints,
            attacker,
            _curtain: curtain,
            _hosts: hosts,
            _lan: lan,
        })
    }

    pub(super) fn run(mut self) -> anyhow::Result<Run> {
        let attempts: Vec<AtomicU32> = all().map(|_| AtomicU32::new(0)).collect();
        let answered: Vec<AtomicU32> = all().map(|_| AtomicU32::new(0)).collect();
        let (_, password) = self.endpoints.first().cloned().context("no endpoint")?;
        // After how many attempts of every attack each address was first seen among the bans.
        let mut found: HashMap<IpAddr, (Vec<u32>, Found)> = HashMap::new();
        let Self { attacker, defence, asterisk, .. } = &mut self;
        let attacker: &Netns = attacker;
        thread::scope(|scope| -> anyhow::Result<()> {
            let counts = attempts.iter().zip(&answered);
            let clients: Vec<_> = all()
                .zip(counts)
                .map(|((attack, source), (attempts, answered))| {
                    let password = password.as_str();
                    scope.spawn(move || -> anyhow::Result<()> {
                        let mut client = Client::new(attacker, attack, source, password)?;
                        for number in 1..=attack.attempts {
                            let start = Instant::now();
                            attempts.store(number, Ordering::Relaxed);
                            let full = client.attempt(number);
                            answered.fetch_add(u32::from(full), Ordering::Relaxed);
                            interrupt::check()?;
                            thread::sleep(GAP.saturating_sub(start.elapsed()));
                        }
                        Ok(())
                    })
                })
                .collect();
            let mut settled: Option<Instant> = None;
            while settled.is_none_or(|end| Instant::now() < end) {
                interrupt::check()?;
                asterisk.check()?;
                let bans = defence.bans()?;
                let so_far: Vec<u32> =
                    attempts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
                for (address, ban) in bans {
                    let (_, first) =
                        found.entry(address).or_insert_with(|| (so_far.clone(), ban.clone()));
                    // A throttle becomes a ban once enough failures are proven.
                    first.is_throttle &= ban.is_throttle;
                }
                if settled.is_none() && clients.iter().all(ScopedJoinHandle::is_finished) {
                    settled = Some(Instant::now() + SETTLE);
                }
                thread::sleep(LOOK);
            }
            for client in clients {
                client.join().ok().context("a client has panicked")??;
            }
            Ok(())
        })?;
        self.defence.explain(&mut found)?;
        let strangers = self.strangers()?;
        Ok(self.conclude(&found, &answered, &strangers))
    }

    /// Whether the owners of forged sources can register.
    fn strangers(&self) -> anyhow::Result<HashMap<IpAddr, bool>> {
        let (name, password) = self.endpoints.get(1).cloned().context("no second endpoint")?;
        let mut all_of = HashMap::new();
        for (_, local) in all().filter(|(attack, _)| attack.victim == Some(Victim::Source)) {
            let registrar = SocketAddr::new(PBX, SIP_PORT);
            let account =
                Account { name: name.clone(), password: password.clone(), local, registrar };
            let phone = Phone::start(&self.attacker, account, Duration::from_secs(1))?;
            let end = Instant::now() + REGISTERS;
            while phone.report().attempts == 0 && Instant::now() < end {
                interrupt::check()?;
                thread::sleep(LOOK);
            }
            let report = phone.report();
            all_of.insert(local, report.attempts > report.failures);
        }
        Ok(all_of)
    }

    fn conclude(
        self,
        found: &HashMap<IpAddr, (Vec<u32>, Found)>,
        answered: &[AtomicU32],
        strangers: &HashMap<IpAddr, bool>,
    ) -> Run {
        let is_source = |address: &IpAddr| all().any(|(_, source)| source == *address);
        let mut hurt: Vec<IpAddr> =
            found.keys().filter(|address| !is_source(address)).copied().collect();
        hurt.sort_unstable();
        let seen = all().zip(answered).enumerate().map(|(place, ((attack, source), answered))| {
            let ban = found.get(&source);
            let named = match attack.victim {
                Some(Victim::Named(victim)) => found.contains_key(&victim.into()),
                Some(Victim::Source) | None => false,
            };
            Seen {
                attack: attack.name,
                is_forgery: attack.victim.is_some(),
                after: ban.and_then(|(attempts, _)| attempts.get(place).copied()),
                found: ban.map(|(_, found)| found.clone()),
                answered: answered.load(Ordering::Relaxed),
                wrong_address: named,
                stranger_registers: strangers.get(&source).copied(),
                over_tcp: attack.over == Over::Tcp,
            }
        });
        let phone = self.phone.report();
        Run {
            contender: self.contender,
            seen: seen.collect(),
            hurt,
            phone_attempts: phone.attempts,
            phone_failures: phone.failures,
        }
    }
}

impl Defence {
    fn start(
        contender: Contender,
        pbx: &Netns,
        asterisk: &Asterisk,
        ringfence: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let notices = asterisk.notice_log();
        let fail2ban = |log: &Path, rules| -> anyhow::Result<Self> {
            Ok(Self::Fail2ban(Box::new(Fail2ban::start_with(pbx, log, rules)?)))
        };
        let ringfence = |config: Config| -> anyhow::Result<Self> {
            let binary = ringfence.context("no ringfence was named")?;
            Ok(Self::Ringfence(Box::new(Ringfence::start(pbx, binary, &config)?)))
        };
        match contender {
            Contender::Fail2ban => fail2ban(&asterisk.log_dir().join("messages"), Rules::Shipped),
            Contender::Fail2banWazo => fail2ban(&notices, Rules::Wazo),
            Contender::RingfenceWire => ringfence(Config::new(Path::new("/dev/null"))),
            Contender::RingfenceLog | Contender::Ringfence => ringfence(Config::new(&notices)),
            Contender::RingfenceAll => ringfence(Config {
                ami_secret: Some(asterisk.ami_secret()),
                ..Config::new(&notices)
            }),
        }
    }

    /// The addresses that are banned or throttled.
    fn bans(&self) -> anyhow::Result<Vec<(IpAddr, Found)>> {
        match self {
            Self::Fail2ban(fail2ban) => {
                let banned = fail2ban.banned()?.into_iter();
                let found = || Found { is_throttle: false, by: "log".to_owned() };
                Ok(banned.map(|address| (address, found())).collect())
            }
            Self::Ringfence(ringfence) => {
                let said: serde_json::Value = ringfence.client().ask(&["bans"])?;
                let bans = said["bans"].as_array().context("a list of bans")?;
                let read = |ban: &serde_json::Value| {
                    let network = ban["network"].as_str().unwrap_or_default();
                    let of_sources = |network: ipnet::IpNet| {
                        all().map(|(_, source)| source).find(|source| network.contains(source))
                    };
                    let address = network.parse::<IpAddr>().ok();
                    let address = address.or_else(|| network.parse().ok().and_then(of_sources))?;
                    let is_throttle = ban["kind"] == "throttle";
                    Some((address, Found { is_throttle, by: String::new() }))
                };
                Ok(bans.iter().filter_map(read).collect())
            }
        }
    }

    /// Adds the sources that reported the failures.
    fn explain(&self, found: &mut HashMap<IpAddr, (Vec<u32>, Found)>) -> anyhow::Result<()> {
        let Self::Ringfence(ringfence) = self else { return Ok(()) };
        for (address, (_, found)) in found {
            let why = ringfence.why(*address)?;
            let evidence = why["evidence"].as_array().map_or(&[][..], Vec::as_slice);
            let mut by: Vec<&str> =
                evidence.iter().filter_map(|failure| failure["source"].as_str()).collect();
            by.sort_unstable();
            by.dedup();
            found.by =
                by.join(", ").replace("asterisk-notice", "log").replace("asterisk-ami", "AMI");
        }
        Ok(())
    }
}

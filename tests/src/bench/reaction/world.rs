//! One measurement in a new environment, so that nothing of an earlier one is left in Asterisk, its log
//! or a firewall.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::report::Measurement;
use super::{Contender, Over, Pace};
use crate::asterisk::{self, Asterisk};
use crate::attack::{Attacker, Method, Plan};
use crate::fail2ban::{Fail2ban, Rules};
use crate::interrupt;
use crate::netns::{Lan, Netns};
use crate::phone::{Account, Phone};
use crate::ringfence::{Config, Ringfence};
use crate::tap::Tap;

const PBX: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 20));
const GUESSER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));
const SIP_PORT: u16 = 5060;
const PHONE_INTERVAL: Duration = Duration::from_millis(400);

const TICK: Duration = Duration::from_millis(20);
/// How long the started programs may need to become idle.
const REST: Duration = Duration::from_secs(1);
/// How long the last packets may take to appear in every counter.
const SETTLE: Duration = Duration::from_millis(700);

/// Everything that the run has created. Fields are dropped in this order: processes before their
/// namespaces.
pub(super) struct World {
    contender: Contender,
    phone: Phone,
    defence: Defence,
    /// A tap in the PBX, where answers leave.
    arrived: Tap,
    /// A tap at the switch, where nothing is dropped yet.
    sent: Tap,
    asterisk: Asterisk,
    guesser: Netns,
    _hosts: [Netns; 2],
    _lan: Lan,
}

enum Defence {
    None,
    Fail2ban(Box<Fail2ban>),
    Ringfence(Box<Ringfence>),
}

impl World {
    pub(super) fn build(
        root: &Path,
        contender: Contender,
        ringfence: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let mut lan = Lan::new()?;
        let pbx = lan.host("pbx", &[PBX])?;
        let phone_host = lan.host("phone", &[PHONE])?;
        let guesser = lan.host("guesser", &[GUESSER])?;
        let arrived = Tap::start(&pbx, "eth0")?;
        let port = pbx.switch_port().context("the PBX is not plugged in")?;
        let sent = Tap::start(lan.switch(), port)?;
        let options = asterisk::Options::default();
        let asterisk = Asterisk::start(&pbx, root, &options)?;
        let defence = Defence::start(contender, &pbx, &asterisk, ringfence)?;
        let (name, password) = options.endpoints.first().cloned().context("no endpoint")?;
        let registrar = SocketAddr::new(PBX, SIP_PORT);
        let account = Account { name, password, local: PHONE, registrar };
        let phone = Phone::start(&phone_host, account, PHONE_INTERVAL)?;
        let hosts = [pbx, phone_host];
        Ok(Self {
            contender,
            phone,
            defence,
            arrived,
            sent,
            asterisk,
            guesser,
            _hosts: hosts,
            _lan: lan,
        })
    }

    /// Starts the guesser once everything is idle and `wait` is over; returns the result.
    pub(super) fn measure(
        mut self,
        pace: &Pace,
        run: u32,
        wait: Duration,
    ) -> anyhow::Result<Measurement> {
        self.watch(REST + wait, |_world| Ok(false))?;
        let plan = Plan {
            method: match pace.over {
                Over::Udp => Method::Guess,
                Over::Tcp => Method::GuessTcp,
            },
            source: GUESSER,
            target: PBX,
            rate: pace.rate,
            duration: Duration::from_secs(pace.seconds.into()),
        };
        let mut attacker = Attacker::start(&self.guesser, &plan)?;
        // The attacker ends by itself; its own time limit is shorter than this.
        self.watch(plan.duration * 2 + REST * 10, |_world| Ok(attacker.ended()?.is_some()))?;
        self.watch(SETTLE, |_world| Ok(false))?;
        self.conclude(pace, &plan, run, &attacker)
    }

    fn conclude(
        self,
        pace: &Pace,
        plan: &Plan,
        run: u32,
        attacker: &Attacker,
    ) -> anyhow::Result<Measurement> {
        let (arrived, sent) = (self.arrived.seen(GUESSER), self.sent.seen(GUESSER));
        let lost = self.arrived.lost() + self.sent.lost();
        ensure!(lost == 0, "the lab missed {lost} packets, so its figures would be too low");
        // Every guess begins with a REGISTER without credentials, whether it is answered or not. A connection
        // that is not served takes no more of them.
        let maxretry = self.contender.maxretry();
        let begun_min = match pace.over {
            Over::Udp => u64::from(plan.count()) * 9 / 10,
            Over::Tcp => maxretry,
        };
        ensure!(
            sent.without_credentials >= begun_min,
            "sipp began {} guesses of {}, so nothing was measured; it said:\n{}",
            sent.without_credentials,
            plan.count(),
            attacker.output().trim()
        );
        let banned = self.defence.bans(GUESSER)?;
        let last_answer = arrived.last_answer.filter(|_at| banned);
        let time_to_ban =
            last_answer.zip(sent.first).and_then(|(last, first)| last.duration_since(first).ok());
        let means = self.defence.means()?;
        interrupt::check()?;
        let phone = self.phone.finish();
        interrupt::check()?;
        ensure!(phone.attempts > 0, "the phone never registered");
        Ok(Measurement {
            contender: self.contender,
            means,
            over: pace.over,
            rate: plan.rate,
            run,
            begun: sent.without_credentials,
            seconds: sent.seconds(),
            answered: arrived.guesses_answered,
            after_limit: arrived.guesses_answered.saturating_sub(maxretry),
            banned,
            time_to_ban_ms: time_to_ban
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            phone,
        })
    }

    /// Checks that everything keeps running until `done` or `limit`.
    fn watch(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            interrupt::check()?;
            self.asterisk.check()?;
            self.defence.check()?;
            if done(self)? {
                return Ok(());
            }
            thread::sleep(TICK);
        }
        Ok(())
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
        Ok(match contender {
            Contender::None => Self::None,
            Contender::Fail2ban => fail2ban(&notices, Rules::Wazo)?,
            Contender::Fail2banShipped => {
                fail2ban(&asterisk.log_dir().join("messages"), Rules::Shipped)?
            }
            Contender::Ringfence => {
                let binary = ringfence.context("no ringfence was named")?;
                let config = Config::new(&notices);
                Self::Ringfence(Box::new(Ringfence::start(pbx, binary, &config)?))
            }
        })
    }

    fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Self::None => Ok(()),
            Self::Fail2ban(fail2ban) => fail2ban.check(),
            Self::Ringfence(ringfence) => ringfence.check(),
        }
    }

    fn bans(&self, address: IpAddr) -> anyhow::Result<bool> {
        Ok(match self {
            Self::None => false,
            Self::Fail2ban(fail2ban) => fail2ban.banned()?.contains(&address),
            Self::Ringfence(ringfence) => {
                ringfence.bans()?.iter().any(|ban| ban.address() == Some(address))
            }
        })
    }

    /// The contender's mechanism: fail2ban's backend, or the mode of the XDP program.
    fn means(&self) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::None => None,
            Self::Fail2ban(fail2ban) => Some(fail2ban.backend()?),
            Self::Ringfence(ringfence) => {
                Some(ringfence.status()?.interfaces.into_iter().next().context("interface")?.mode)
            }
        })
    }
}

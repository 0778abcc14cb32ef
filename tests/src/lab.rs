//! The demonstration: a phone that works, attackers that appear one after another and then together, and
//! the filter's reaction to them.

mod door;
mod filter;
mod plan;
mod report;
mod view;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;

use crate::asterisk::{self, Asterisk};
use crate::attack::{self, Attacker, Plan};
use crate::browser::Browser;
use crate::interrupt::Interrupted;
use crate::netns::{self, Lan, Netns};
use crate::notice::Notices;
use crate::phone::{Account, Phone, PhoneReport};
use crate::ringfence::{self, Config, Ringfence};
use crate::screen::Screen;
use crate::tap::Tap;
use crate::tmux::Tmux;
use crate::{interrupt, picture, screen};

use self::door::Door;
use self::filter::FilterWatch;
use self::plan::{AttackHost, PHASES, Phase};
use self::report::{AttackerResult, Limits};
pub use self::report::{Check, Report};
use self::view::{Snapshot, State};

const PBX: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 20));
const PHONE_INTERVAL: Duration = Duration::from_millis(400);
const SIP_PORT: u16 = 5060;

/// The columns and lines of the picture of `ringfence top`.
const PICTURE: (u16, u16) = (100, 28);
/// The width and height of the picture of the page, in pixels.
const PAGE_PICTURE: (u32, u32) = (1000, 900);

/// How often a new link to the page is shown while it is left up: one is valid for five minutes.
const NEW_LINK: Duration = Duration::from_mins(4);

const TICK: Duration = Duration::from_millis(50);
const REDRAW_LIVE: Duration = Duration::from_millis(250);
const REDRAW_PLAIN: Duration = Duration::from_secs(1);
/// How long the last packets may take to appear in every counter.
const SETTLE: Duration = Duration::from_millis(500);

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ringfence` binary. Without one, Asterisk is unprotected.
    pub ringfence: Option<PathBuf>,
    /// The directory where Asterisk is kept between runs.
    pub cache: PathBuf,
    /// How long the demonstration takes, without the set-up.
    pub seconds: u32,
    /// The file for a picture of `ringfence top`, if one is wanted.
    pub picture: Option<PathBuf>,
    /// The file for a picture of the page, if one is wanted.
    pub page_picture: Option<PathBuf>,
    /// Whether the host is left up, under attack, until a signal.
    pub keep: bool,
}

/// The default duration.
pub fn default_seconds() -> u32 {
    plan::seconds()
}

/// Runs the demonstration and reports the result. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If the environment cannot be built or breaks down, or the run is interrupted. A failed check is not an
/// error; see [`Report::passed`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    attack::check_tools()?;
    if let Some(binary) = &settings.ringfence {
        ringfence::find(binary)?;
    }
    netns::sweep().context("remove what an earlier run left behind")?;
    let started = Instant::now();
    let mut lab = Lab::build(settings, screen)?;
    screen.say(&format!("ready after {:.1} s\n", started.elapsed().as_secs_f64()))?;
    lab.play(settings, screen)?;
    let report = lab.conclude(screen)?;
    screen.say(&report.text(screen.paint()))?;
    if let Some(link) = lab.link()? {
        if settings.keep {
            lab.stay(link, screen)?;
        } else {
            screen.say(&format!(
                "\nThe page of this host was at {}; `cargo xtask run --keep` leaves it up.",
                link.split("login").next().unwrap_or_default()
            ))?;
        }
    }
    Ok(report)
}

/// Everything that the run has created. Fields are dropped in this order: processes before their
/// namespaces.
struct Lab {
    attacks: Vec<Attack>,
    phone: Option<Phone>,
    last_phone: PhoneReport,
    watch: Option<FilterWatch>,
    view: Option<Tmux>,
    browser: Option<Browser>,
    door: Option<Door>,
    ringfence: Option<Ringfence>,
    limits: Limits,
    notices: Notices,
    arrived: Tap,
    sent: Tap,
    asterisk: Asterisk,
    hosts: Hosts,
    _lan: Lan,
    started: Instant,
}

struct Hosts {
    pbx: Netns,
    guesser: Netns,
    scanner: Netns,
    flooder: Netns,
    phone: Netns,
}

struct Attack {
    what: &'static plan::Attack,
    source: IpAddr,
    attacker: Option<Attacker>,
    /// The output of the tool, once it has ended.
    said: String,
}

impl Lab {
    fn build(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Self> {
        let root = Asterisk::ensure_root_on(&settings.cache, screen)?;
        screen.say("  network namespaces: a switch, the PBX, a phone and three attackers")?;
        let mut lan = Lan::new()?;
        let pbx = lan.host("pbx", &[PBX])?;
        let hosts = Hosts {
            guesser: lan.host("guesser", &plan::addresses(AttackHost::Guesser))?,
            scanner: lan.host("scanner", &plan::addresses(AttackHost::Scanner))?,
            flooder: lan.host("flooder", &plan::addresses(AttackHost::Flooder))?,
            phone: lan.host("phone", &[PHONE])?,
            pbx,
        };
        let arrived = Tap::start(&hosts.pbx, "eth0")?;
        let port = hosts.pbx.switch_port().context("the PBX is not plugged in")?;
        let sent = Tap::start(lan.switch(), port)?;
        screen.say("  a real Asterisk 22, set up as Wazo sets it up")?;
        let options = asterisk::Options::default();
        let asterisk = Asterisk::start(&hosts.pbx, &root, &options)?;
        let mut config = Config::new(&asterisk.notice_log());
        config.more = format!("api: {{listen: '127.0.0.1:{}', wazo_auth: ''}}\n", door::PORT);
        let ringfence = if let Some(binary) = &settings.ringfence {
            screen.say("  ringfence on the PBX's network interface, reading Asterisk's log")?;
            Some(Ringfence::start(&hosts.pbx, binary, &config)?)
        } else {
            screen.say("  no filter: these are the attacks that it prevents")?;
            None
        };
        let watch = ringfence.as_ref().map(|ringfence| FilterWatch::start(ringfence.client()));
        let view = ringfence.as_ref().filter(|_running| settings.picture.is_some());
        let view = view.map(|ringfence| {
            let client = ringfence.client();
            let (binary, socket) = (client.binary().display(), client.socket().display());
            Tmux::start(PICTURE.0, PICTURE.1, &format!("{binary} --socket {socket} top"))
        });
        let door = ringfence.as_ref().map(|_running| Door::open(&hosts.pbx)).transpose()?;
        let wanted = ringfence.as_ref().filter(|_running| settings.page_picture.is_some());
        let browser = wanted.map(|_running| Browser::start(&hosts.pbx)).transpose()?;
        Ok(Self {
            attacks: Vec::new(),
            phone: Some(start_phone(&hosts.phone, &options)?),
            last_phone: PhoneReport::default(),
            watch: watch.transpose()?,
            view: view.transpose()?,
            browser,
            door,
            ringfence,
            limits: Limits {
                maxretry: config.maxretry.into(),
                rate: config.register_rate,
                burst: config.register_burst,
            },
            notices: Notices::new(&asterisk.notice_log()),
            arrived,
            sent,
            asterisk,
            hosts,
            _lan: lan,
            started: Instant::now(),
        })
    }

    fn play(&mut self, settings: &Settings, screen: &mut Screen) -> anyhow::Result<()> {
        let scale = f64::from(settings.seconds) / f64::from(plan::seconds());
        self.started = Instant::now();
        let mut planned = Duration::ZERO;
        for (number, phase) in PHASES.iter().enumerate() {
            screen.say(&view::heading(number, phase, self.ringfence.is_some(), screen.paint()))?;
            let length = Duration::from_secs(phase.seconds.into()).mul_f64(scale);
            planned += length;
            for what in phase.attacks {
                self.attack(what, scale)?;
            }
            let end = self.started + planned;
            if number + 1 == PHASES.len() - 1 {
                // All of its attacks go on at this time.
                let during = planned.saturating_sub(length * 7 / 12);
                self.watch_until(self.started + during, number, phase, screen)?;
                self.take_picture(settings)?;
            }
            self.watch_until(end, number, phase, screen)?;
            for attack in &mut self.attacks {
                attack.end();
            }
        }
        Ok(())
    }

    fn attack(&mut self, what: &'static plan::Attack, scale: f64) -> anyhow::Result<()> {
        let host = match what.from {
            AttackHost::Guesser => &self.hosts.guesser,
            AttackHost::Scanner => &self.hosts.scanner,
            AttackHost::Flooder => &self.hosts.flooder,
        };
        let plan = Plan {
            method: what.method,
            source: what.source(),
            target: PBX,
            rate: what.rate,
            duration: Duration::from_secs(what.seconds.into()).mul_f64(scale),
        };
        let attacker = Some(Attacker::start(host, &plan)?);
        self.attacks.push(Attack { what, source: plan.source, attacker, said: String::new() });
        Ok(())
    }

    /// Writes the pictures that are wanted.
    fn take_picture(&self, settings: &Settings) -> anyhow::Result<()> {
        if let (Some(view), Some(file)) = (&self.view, &settings.picture) {
            let title = "ringfence top while three attackers work at once";
            let svg = picture::svg(&view.coloured()?, title);
            std::fs::write(file, svg).with_context(|| format!("write {}", file.display()))?;
        }
        if let (Some(browser), Some(file)) = (&self.browser, &settings.page_picture) {
            let (width, height) = PAGE_PICTURE;
            browser.screen(width, height)?;
            browser.open(self.inner_link()?.trim())?;
            browser.picture(file)?;
        }
        Ok(())
    }

    /// What `ringfence page` prints.
    fn inner_link(&self) -> anyhow::Result<String> {
        let ringfence = self.ringfence.as_ref().context("there is no filter")?;
        Ok(ringfence.client().run(&["page"], false)?.success("ringfence page")?.stdout)
    }

    /// A new link to the page for a browser on this machine, if there is a page.
    fn link(&self) -> anyhow::Result<Option<String>> {
        let Some(door) = &self.door else { return Ok(None) };
        Ok(Some(door.link(&self.inner_link()?)))
    }

    /// Leaves the host up and under attack, until a signal ends it.
    fn stay(&mut self, link: String, screen: &mut Screen) -> anyhow::Result<()> {
        let (number, phase) = (PHASES.len() - 2, &PHASES[PHASES.len() - 2]);
        let options = asterisk::Options::default();
        self.phone = Some(start_phone(&self.hosts.phone, &options)?);
        let mut shown = Some(link);
        let mut at = Instant::now();
        let done = loop {
            if at.elapsed() >= NEW_LINK {
                (shown, at) = (self.link()?, Instant::now());
            }
            if let Some(link) = shown.take() {
                screen.say(&format!(
                    "\nThe page of this host, which stays under attack until Ctrl-C:\n  {}\nThis link is valid \
                     once, for five minutes; then there is a new one. From another computer, forward the port first \
                     (ssh -L).\n",
                    screen.paint().bold(&link)
                ))?;
            }
            self.attacks.clear();
            for what in phase.attacks {
                self.attack(what, 1.0)?;
            }
            let end = Instant::now() + Duration::from_secs(phase.seconds.into());
            if let Err(error) = self.watch_until(end, number, phase, screen) {
                break error;
            }
        };
        if done.is::<Interrupted>() { Ok(()) } else { Err(done) }
    }

    fn watch_until(
        &mut self,
        end: Instant,
        number: usize,
        phase: &Phase,
        screen: &mut Screen,
    ) -> anyhow::Result<()> {
        let interval = if screen.is_live() { REDRAW_LIVE } else { REDRAW_PLAIN };
        let mut drawn = Instant::now();
        while Instant::now() < end {
            interrupt::check()?;
            self.asterisk.check()?;
            for attack in &mut self.attacks {
                attack.look()?;
            }
            if drawn.elapsed() >= interval {
                drawn = Instant::now();
                let snapshot = self.snapshot(number, phase)?;
                if screen.is_live() {
                    screen.draw(&view::table(&snapshot, screen.paint()))?;
                } else {
                    screen.say(&view::line(&snapshot))?;
                }
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    fn snapshot(&mut self, number: usize, phase: &Phase) -> anyhow::Result<Snapshot> {
        self.notices.update()?;
        if let Some(phone) = &self.phone {
            self.last_phone = phone.report();
        }
        Ok(Snapshot {
            elapsed: self.started.elapsed(),
            number,
            title: phase.title,
            phone_address: PHONE,
            phone: self.last_phone.clone(),
            attackers: self.attacks.iter().map(|attack| self.result(attack)).collect(),
            filter: self.watch.as_ref().map(FilterWatch::view),
        })
    }

    fn result(&self, attack: &Attack) -> AttackerResult {
        // In this order, so that no packet seems to arrive before it was sent.
        let arrived = self.arrived.seen(attack.source);
        let sent = self.sent.seen(attack.source);
        let banned_at = self.watch.as_ref().and_then(|watch| watch.banned_at(attack.source));
        let time_to_ban = banned_at.and_then(|at| since(sent.first?, at));
        let state = match (banned_at, &attack.attacker) {
            (Some(_), _) => State::Banned,
            (None, _) if arrived.registers() * 2 < sent.registers() => State::Limited,
            (None, Some(_)) => State::Attacking,
            (None, None) => State::Ended,
        };
        AttackerResult {
            name: attack.what.name,
            tool: attack.what.method.tool(),
            method: attack.what.method,
            address: attack.source,
            rate: attack.what.rate,
            sent,
            arrived,
            notices: self.notices.of(attack.source),
            time_to_ban,
            state,
            active: attack.attacker.is_some(),
            said: attack.said.clone(),
        }
    }

    /// Stops everything that sends, lets the counters settle, and judges the result.
    fn conclude(&mut self, screen: &mut Screen) -> anyhow::Result<Report> {
        let seconds = self.started.elapsed().as_secs_f64();
        if let Some(phone) = self.phone.take() {
            self.last_phone = phone.finish();
        }
        interrupt::check()?;
        std::thread::sleep(SETTLE);
        let last = PHASES.last().context("a run has phases")?;
        if let Some(watch) = &self.watch {
            watch.refresh()?;
        }
        let snapshot = self.snapshot(PHASES.len() - 1, last)?;
        if screen.is_live() {
            screen.draw(&view::table(&snapshot, screen.paint()))?;
            screen.keep();
        }
        let unseen = self.sent.lost() + self.arrived.lost();
        let report = Report::new(&snapshot, &self.limits, seconds, unseen);
        if let (false, Some(ringfence)) = (report.passed(), &self.ringfence) {
            screen::complain(&format!("what ringfence said:\n{}", ringfence.log().trim_end()));
        }
        Ok(report)
    }
}

impl Attack {
    fn look(&mut self) -> anyhow::Result<()> {
        if let Some(attacker) = &mut self.attacker
            && attacker.ended()?.is_some()
        {
            self.end();
        }
        Ok(())
    }

    fn end(&mut self) {
        if let Some(attacker) = self.attacker.take() {
            self.said = attacker.output();
        }
    }
}

fn start_phone(host: &Netns, options: &asterisk::Options) -> anyhow::Result<Phone> {
    let (name, password) = options.endpoints.first().cloned().context("no endpoint")?;
    let registrar = SocketAddr::new(PBX, SIP_PORT);
    Phone::start(host, Account { name, password, local: PHONE, registrar }, PHONE_INTERVAL)
}

/// The time between two readings of the system's clock; `None` if it was set back in between.
fn since(first: SystemTime, at: SystemTime) -> Option<Duration> {
    at.duration_since(first).ok()
}

/// Writes the report for `--json`.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_json(report: &Report, path: &Path) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(report).context("make JSON of the report")?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

//! A PBX on a cable, with the phone and the flood at the other end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;

use super::Contender;
use super::flood::Flood;
use crate::asterisk::{self, Asterisk};
use crate::bench::packets::register_frame;
use crate::child::{self, OnSignal};
use crate::netns::Cable;
use crate::packet_builder::TARGET_V4;
use crate::phone::{Account, Phone, PhoneReport};
use crate::ringfence::{Config, Ringfence};
use crate::{interrupt, scratch};

const PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
const SIP_PORT: u16 = 5060;
const INTERVAL: Duration = Duration::from_millis(250);
const TICK: Duration = Duration::from_millis(20);
/// The time limit for a few registrations before the flood.
const CALM: Duration = Duration::from_secs(20);
const CALM_REGISTRATIONS: u64 = 4;
/// How long a flood lasts before a new phone appears.
const HEAD_START: Duration = Duration::from_secs(3);

/// Rules that an administrator would write against floods, for UDP to port 5060. New sources are added to
/// the set until it is full; then they pass.
const NFT_SOURCE: &str = "table inet filter {\n \
    set flooders { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 1m; }\n \
    chain input { type filter hook input priority 0; policy accept;\n  \
    udp dport 5060 add @flooders { ip saddr limit rate over 10/second burst 50 packets } drop\n";
const NFT_TOTAL: &str = "  udp dport 5060 limit rate over 1000/second burst 1000 packets drop\n";
const NFT_END: &str = " }\n}\n";

/// Everything that the run has created. Fields are dropped in this order: processes before their
/// namespaces.
pub(super) struct World {
    phone: Option<Phone>,
    account: Account,
    ringfence: Option<Ringfence>,
    asterisk: Asterisk,
    cable: Cable,
}

/// The result of one flood.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    /// The number of frames that were sent per second.
    pub(super) sent_a_second: u64,
    /// The seconds from the first to the last frame.
    pub(super) seconds: f64,
    /// The number of registrations that an undisturbed phone completes during the flood.
    pub(super) due: u64,
    /// The number that this phone completed.
    pub(super) in_time: u64,
    /// The phone's results in the flood, including registrations that ended after it.
    pub(super) phone: PhoneReport,
    /// Its results before the flood.
    pub(super) before: Option<PhoneReport>,
}

impl World {
    pub(super) fn build(
        root: &Path,
        contender: Contender,
        ringfence: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let cable = Cable::new()?;
        cable.near_address(PHONE)?;
        // Replies to forged sources leave as on the Internet, and end at the far end.
        cable.far_default_route(PHONE)?;
        let options = asterisk::Options::default();
        let asterisk = Asterisk::start(&cable.far, root, &options)?;
        let ringfence = match contender {
            Contender::None => None,
            Contender::NftSource => nft(&cable, &[NFT_SOURCE, NFT_END])?,
            Contender::NftTotal => nft(&cable, &[NFT_SOURCE, NFT_TOTAL, NFT_END])?,
            Contender::Ringfence | Contender::RingfenceNew => {
                let binary = ringfence.context("which ringfence? Name it with --ringfence PATH")?;
                Some(Ringfence::start(&cable.far, binary, &Config::new(&asterisk.notice_log()))?)
            }
        };
        if ringfence.is_none() {
            cable.far_takes_frames()?;
        }
        let (name, password) = options.endpoints.first().cloned().context("no endpoint")?;
        let registrar = SocketAddr::new(IpAddr::V4(TARGET_V4), SIP_PORT);
        let account = Account { name, password, local: PHONE.into(), registrar };
        let phone = if contender == Contender::RingfenceNew {
            None
        } else {
            Some(Phone::start(&cable.near, account.clone(), INTERVAL)?)
        };
        Ok(Self { phone, account, ringfence, asterisk, cable })
    }

    /// Lets the phone register without a flood and then in a flood; or, for a new phone, in a flood that
    /// has exhausted the limits of unknown sources.
    pub(super) fn measure(mut self, rate: u32, time: Duration) -> anyhow::Result<Outcome> {
        let before = match &self.phone {
            Some(_) => Some(self.calm()?),
            None => None,
        };
        let flood = Flood::start(&self.cable, &register_frame(), rate)?;
        if let Some(phone) = &self.phone {
            phone.count_anew();
        } else {
            self.watch(HEAD_START, |_phone| false)?;
            let phone = Phone::start(&self.cable.near, self.account.clone(), INTERVAL)?;
            self.phone = Some(phone);
        }
        self.watch(time, |_phone| false)?;
        let phone = self.phone.take().context("there is no phone")?;
        let report = phone.report();
        let in_time = report.attempts - report.failures;
        let phone = phone.finish();
        let sent = flood.finish()?;
        interrupt::check()?;
        let nanoseconds = sent.time.as_nanos().max(1);
        let sent_a_second = u128::from(sent.frames) * 1_000_000_000 / nanoseconds;
        Ok(Outcome {
            sent_a_second: u64::try_from(sent_a_second)?,
            due: u64::try_from(time.as_millis() / INTERVAL.as_millis())?,
            in_time,
            seconds: sent.time.as_secs_f64(),
            phone,
            before,
        })
    }

    /// The phone's results without a flood.
    fn calm(&mut self) -> anyhow::Result<PhoneReport> {
        self.watch(CALM, |phone| phone.attempts >= CALM_REGISTRATIONS)?;
        let report = self.phone.as_ref().context("there is no phone")?.report();
        if report.attempts < CALM_REGISTRATIONS || report.failures > 0 {
            bail!("the phone does not register even without a flood: {report:?}");
        }
        Ok(report)
    }

    /// Checks that everything keeps running until `done` or `limit`.
    fn watch(
        &mut self,
        limit: Duration,
        done: impl Fn(&PhoneReport) -> bool,
    ) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        let is_done = |phone: &Option<Phone>| phone.as_ref().is_some_and(|p| done(&p.report()));
        while Instant::now() < end && !is_done(&self.phone) {
            interrupt::check()?;
            self.asterisk.check()?;
            if let Some(ringfence) = &mut self.ringfence {
                ringfence.check()?;
            }
            thread::sleep(TICK);
        }
        Ok(())
    }
}

fn nft(cable: &Cable, rules: &[&str]) -> anyhow::Result<Option<Ringfence>> {
    let directory = scratch::directory("nft")?;
    let path = directory.path().join("rules");
    fs::write(&path, rules.concat()).with_context(|| format!("write {}", path.display()))?;
    let mut command = cable.far.command("nft");
    command.arg("-f").arg(&path);
    let finished = child::finish("nft", &mut command, Duration::from_secs(10), OnSignal::Finish)?;
    finished.success("nft")?;
    Ok(None)
}

//! One interface: attaching the program to it, or taking over where it is attached already.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{Xdp, XdpLink, XdpMode};
use aya::programs::{ProgramError, loaded_programs};
use filter_common::abi::PROGRAM;
use nix::net::if_::if_nametoindex;

use super::netlink;
use super::pins::{self, Pins, describe_process};
use crate::config;

/// How the program runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
}

impl Mode {
    /// The word that `status` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    fn flag(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// An interface under protection.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Which part of the counters is its.
    pub slot: u32,
    /// How the program runs on it.
    pub mode: Mode,
    /// Why it does not run in the driver, where it was to run there if possible.
    pub fallback: Option<String>,
    /// Whether the program was attached before this controller came.
    pub adopted: bool,
    /// Whether the program is on it now.
    pub attached: bool,
}

/// The index of an interface.
pub(super) fn index(name: &str) -> Result<u32> {
    if_nametoindex(name).map_err(|error| {
        anyhow!(
            "there is no interface `{name}` ({}); `ip link` lists those that there are",
            error.desc()
        )
    })
}

/// Puts the program on an interface: in place of ours where it has one, without a packet between;
/// else anew.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    name: &str,
    slot: u32,
    wanted: config::Mode,
) -> Result<Interface> {
    let index = index(name)?;
    let program: &mut Xdp = ebpf
        .program_mut(PROGRAM)
        .with_context(|| format!("the object has no program `{PROGRAM}`"))?
        .try_into()?;
    loaded(program.load())?;
    let adopted = adopt(program, pins, index, name, slot, wanted)?;
    let (mode, fallback) = match adopted {
        Some(Mode::Generic) if wanted == config::Mode::Auto => {
            (Mode::Generic, Some("it was attached so before this controller started".to_owned()))
        }
        Some(mode) => (mode, None),
        None => attach_anew(program, pins, index, name, slot, wanted)?,
    };
    let pin = pins.program(slot, name);
    pins::replace(&pin, |path| Ok(program.pin(path)?))?;
    Ok(Interface {
        name: name.to_owned(),
        slot,
        mode,
        fallback,
        adopted: adopted.is_some(),
        attached: true,
    })
}

/// What came of loading a program, which happens once.
pub(super) fn loaded(result: std::result::Result<(), ProgramError>) -> Result<()> {
    match result {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().rev().take(VERIFIER_LINES).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            Err(anyhow!(
                "the kernel's verifier refuses the program ({io_error}); its last words: {}",
                end.join(" / ")
            ))
        }
        Err(error) => Err(error).context("load the program"),
    }
}

/// Lines of the verifier's log that an error shows.
const VERIFIER_LINES: usize = 4;

/// Replaces the program of our pinned link, if there is one that works and runs as is wanted.
fn adopt(
    program: &mut Xdp,
    pins: &Pins,
    index: u32,
    name: &str,
    slot: u32,
    wanted: config::Mode,
) -> Result<Option<Mode>> {
    let path = pins.link(slot, name);
    if !path.exists() {
        return Ok(None);
    }
    let attached = netlink::attached(index)?;
    let mode = attached.map(|a| if a.native { Mode::Native } else { Mode::Generic });
    let fits = matches!(
        (mode, wanted),
        (Some(_), config::Mode::Auto)
            | (Some(Mode::Native), config::Mode::Native)
            | (Some(Mode::Generic), config::Mode::Generic)
    );
    if let (true, Some(attached), Some(mode)) = (fits, attached, mode) {
        let link = FdLink::from(PinnedLink::from_pin(&path)?);
        if link.info()?.program_id() == attached.program {
            let link = XdpLink::try_from(link)?;
            let id = program.attach_to_link(link).context("replace the running program")?;
            // The pin keeps the link; the handle is closed with what is taken here.
            drop(program.take_link(id)?);
            return Ok(Some(mode));
        }
    }
    // Left behind by an interface that is gone, or running in another mode than is wanted.
    fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    wait_until_free(index, attached);
    Ok(None)
}

/// Waits until a program whose link is gone is off its interface: the kernel takes it off a moment
/// later (`bpf_link_put` in `kernel/bpf/syscall.c`).
fn wait_until_free(index: u32, was: Option<netlink::Attached>) {
    const LOOKS: usize = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    for _ in 0..LOOKS {
        match netlink::attached(index) {
            Ok(Some(now)) if Some(now) == was => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}

/// Whether the program of this slot still is on its interface. It is not when the interface was
/// deleted, even if there is a new one of its name.
pub(super) fn is_attached(ebpf: &Ebpf, name: &str) -> Result<bool> {
    let Some(program) = ebpf.program(PROGRAM) else { return Ok(false) };
    let program: &Xdp = program.try_into()?;
    let attached = netlink::attached(index(name)?)?;
    Ok(attached.is_some_and(|attached| program.info().is_ok_and(|p| p.id() == attached.program)))
}

fn attach_anew(
    program: &mut Xdp,
    pins: &Pins,
    index: u32,
    name: &str,
    slot: u32,
    wanted: config::Mode,
) -> Result<(Mode, Option<String>)> {
    let (mode, fallback) = match wanted {
        config::Mode::Native => (Mode::Native, None),
        config::Mode::Generic => (Mode::Generic, None),
        config::Mode::Auto => match try_attach(program, pins, index, name, slot, Mode::Native) {
            Ok(()) => return Ok((Mode::Native, None)),
            Err(Refused::Busy(error)) => return Err(error),
            Err(Refused::Mode(error)) => (Mode::Generic, Some(format!("{error:#}"))),
        },
    };
    match try_attach(program, pins, index, name, slot, mode) {
        Ok(()) => Ok((mode, fallback)),
        Err(Refused::Busy(error)) => Err(error),
        Err(Refused::Mode(error)) => Err(error.context(match mode {
            Mode::Native => format!(
                "`{name}` cannot run XDP in its driver; `mode: auto` or `mode: generic` can"
            ),
            Mode::Generic => format!("attach to `{name}`"),
        })),
    }
}

/// Why the kernel did not attach.
enum Refused {
    /// There is another program, or this is not allowed: another mode would not help.
    Busy(anyhow::Error),
    /// Not in this mode.
    Mode(anyhow::Error),
}

fn try_attach(
    program: &mut Xdp,
    pins: &Pins,
    index: u32,
    name: &str,
    slot: u32,
    mode: Mode,
) -> Result<(), Refused> {
    let id = match program.attach_to_if_index(index, mode.flag()) {
        Ok(id) => id,
        Err(error) => return Err(refused(error, index, name)),
    };
    let pin = || -> Result<()> {
        let link = FdLink::try_from(program.take_link(id)?)
            .context("the kernel gave no link that can be pinned (it is older than Linux 5.9)")?;
        let path = pins.link(slot, name);
        link.pin(&path).with_context(|| format!("pin {}", path.display()))?;
        Ok(())
    };
    pin().map_err(Refused::Busy)
}

fn refused(error: ProgramError, index: u32, name: &str) -> Refused {
    let code = if let ProgramError::SyscallError(call) = &error {
        call.io_error.raw_os_error()
    } else {
        None
    };
    match code {
        // The kernel says EBUSY, or EEXIST where the other program runs in the other mode.
        Some(code) if code == nix::libc::EBUSY || code == nix::libc::EEXIST => {
            Refused::Busy(busy(index, name))
        }
        Some(nix::libc::EPERM) => Refused::Busy(anyhow!(
            "attach to `{name}`: not permitted; it takes root, or CAP_BPF, CAP_NET_ADMIN and \
             CAP_PERFMON"
        )),
        Some(code) => Refused::Mode(anyhow!(io::Error::from_raw_os_error(code))),
        None => Refused::Mode(anyhow!(error)),
    }
}

/// Says whose program is on an interface.
fn busy(index: u32, name: &str) -> anyhow::Error {
    let describe = || -> Result<String> {
        let Some(attached) = netlink::attached(index)? else {
            bail!("it is gone again");
        };
        let program = loaded_programs()
            .filter_map(Result::ok)
            .find(|program| program.id() == attached.program)
            .and_then(|program| program.name_as_str().map(str::to_owned))
            .unwrap_or_default();
        let holder = holder(attached.program)
            .map_or_else(|| "held by no process".to_owned(), |who| format!("held by {who}"));
        Ok(format!("`{program}` (id {}, {holder})", attached.program))
    };
    let whose = describe().unwrap_or_else(|error| format!("another one ({error:#})"));
    anyhow!(
        "`{name}` already has an XDP program: {whose}; stop its owner (one that is pinned goes with \
         its pin below /sys/fs/bpf, one without a link with `ip link set dev {name} xdp off`)"
    )
}

/// A process that holds an XDP program or a link to it open, from `/proc/*/fdinfo`.
fn holder(program: u32) -> Option<String> {
    let wanted = format!("prog_id:\t{program}");
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let id = process.file_name().to_string_lossy().into_owned();
        id.parse::<u32>().ok()?;
        let mut files = fs::read_dir(process.path().join("fdinfo")).ok()?.flatten();
        let holds = files.any(|file| {
            let info = fs::read_to_string(file.path()).unwrap_or_default();
            info.lines().any(|line| line == wanted)
        });
        holds.then(|| describe_process(&id))
    })
}

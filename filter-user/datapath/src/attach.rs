//! One interface: attaching the program to it, or taking over where it is attached already.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::{Xdp, XdpLink, XdpMode};
use aya::programs::{ProgramError, loaded_programs};
use filter_common::abi::PROGRAM;
use nix::net::if_::if_nametoindex;

use super::pins::{self, Pins, describe_process, pinned_program};
use super::port::Mode;
use super::programs::{Place, loaded};
use super::settings::Mode as Wanted;
use super::{netlink, network};

/// The index of an interface.
pub(super) fn index(name: &str) -> Result<u32> {
    if_nametoindex(name).map_err(|error| {
        anyhow!(
            "there is no interface `{name}` ({}); `ip link` lists those that there are",
            error.desc()
        )
    })
}

/// The index of an interface that the program can judge.
pub(super) fn usable(name: &str) -> Result<u32> {
    let index = index(name)?;
    let link = netlink::link(index)?;
    if !link.has_ethernet() {
        let kind = if link.kind.is_empty() { "a tunnel" } else { &*link.kind };
        let instead = network::beneath(&link).map_or_else(
            || "name the interface that its packets come in by".to_owned(),
            |beneath| format!("name `{beneath}`, by which its packets come in"),
        );
        let seen = if link.is_ppp() {
            "PPPoE is looked into there"
        } else {
            "what is inside is not seen there"
        };
        bail!(
            "`{name}` ({kind}) has no Ethernet header, without which the program reads nothing; \
             {instead} ({seen})"
        );
    }
    Ok(index)
}

/// How the program was attached.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) mode: Mode,
    /// Why not in the driver, if that was tried.
    pub(super) fallback: Option<String>,
    /// Whether it was there already.
    pub(super) adopted: bool,
}

/// Puts the program on an interface: in place of ours where it has one, without a packet between;
/// else anew.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    pins: &Pins,
    place: Place<'_>,
    wanted: Wanted,
) -> Result<Taken> {
    let program = load(ebpf)?;
    let path = pins.link(place.slot, place.pin);
    let taken = if let Some(ours) = ours(&path, place.index)? {
        replace_ours(program, pins, place, ours, wanted)?
    } else {
        // Left behind by an interface that is gone.
        pins::remove(&path)?;
        attach_anew(program, pins, place, wanted)?
    };
    let pin = pins.program(place.slot, place.pin);
    pins::replace(&pin, |path| Ok(program.pin(path)?))?;
    Ok(taken)
}

/// The program, loaded.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program: &mut Xdp = ebpf
        .program_mut(PROGRAM)
        .with_context(|| format!("the object has no program `{PROGRAM}`"))?
        .try_into()?;
    loaded(program.load())?;
    Ok(program)
}

/// Our pinned link, if its program is what the interface has, and how it runs.
fn ours(path: &Path, index: u32) -> Result<Option<(FdLink, Mode)>> {
    let Some(attached) = netlink::attached(index)? else { return Ok(None) };
    if pinned_program(path) != Some(attached.program) {
        return Ok(None);
    }
    let mode = if attached.native { Mode::Native } else { Mode::Generic };
    Ok(Some((FdLink::from(PinnedLink::from_pin(path)?), mode)))
}

/// Replaces the program of our link, or the link where it is to run in another mode.
fn replace_ours(
    program: &mut Xdp,
    pins: &Pins,
    place: Place<'_>,
    (link, mode): (FdLink, Mode),
    wanted: Wanted,
) -> Result<Taken> {
    let other = match (wanted, mode) {
        (Wanted::Generic, Mode::Native) => Some(Mode::Generic),
        (Wanted::Native, Mode::Generic) if does_xdp(place.index) == Some(false) => {
            return Err(stays(place.name, NO_XDP));
        }
        (Wanted::Native, Mode::Generic) => Some(Mode::Native),
        // It came by itself, and what it came of may be gone.
        (Wanted::Auto, Mode::Generic) if does_xdp(place.index) != Some(false) => Some(Mode::Native),
        (Wanted::Auto, _) | (Wanted::Native, Mode::Native) | (Wanted::Generic, Mode::Generic) => {
            None
        }
    };
    let Some(other) = other else {
        let came_by_itself = wanted == Wanted::Auto && mode == Mode::Generic;
        return keep(program, link, mode, came_by_itself.then(|| NO_XDP.to_owned()));
    };
    // Nothing can be attached beneath a program, so that what is taken off could not be put back.
    if let Some(upon) = program_upon(place.index)? {
        let why = format!("`{upon}`, which lies upon it, has an XDP program");
        return if wanted == Wanted::Auto {
            keep(program, link, mode, Some(why))
        } else {
            Err(stays(place.name, &why))
        };
    }
    // The kernel lets no interface have both at once.
    let was = netlink::attached(place.index)?;
    pins::remove(&pins.link(place.slot, place.pin))?;
    drop(link);
    wait_until_free(place.index, was);
    let Err(refused) = try_attach(program, pins, place, other) else {
        return Ok(Taken { mode: other, fallback: None, adopted: false });
    };
    let back = try_attach(program, pins, place, mode);
    back.map_err(Refused::into_error)
        .with_context(|| format!("`{}` has lost the program that it had", place.name))?;
    match refused {
        Refused::Mode(why) if wanted == Wanted::Auto => {
            Ok(Taken { mode, fallback: Some(format!("{why:#}")), adopted: true })
        }
        Refused::Mode(why) => Err(stays(place.name, &format!("{why:#}"))),
        Refused::Busy(error) => Err(error),
    }
}

/// Replaces the program of a link, in one step.
fn keep(program: &mut Xdp, link: FdLink, mode: Mode, fallback: Option<String>) -> Result<Taken> {
    let link = XdpLink::try_from(link)?;
    let id = program.attach_to_link(link).context("replace the running program")?;
    // The pin keeps the link; the handle is closed with what is taken here.
    drop(program.take_link(id)?);
    Ok(Taken { mode, fallback, adopted: true })
}

/// The interface upon this one that has an XDP program: its bridge, bond or VLAN.
fn program_upon(index: u32) -> Result<Option<String>> {
    let links = netlink::links()?;
    let master = links.iter().find(|link| link.index == index).and_then(|link| link.master);
    let is_upon = |link: &&netlink::Link| {
        let stacked = link.beneath == Some(index) && link.kind.contains("vlan");
        link.xdp.is_some() && (Some(link.index) == master || stacked)
    };
    Ok(links.iter().find(is_upon).map(|link| link.name.clone()))
}

/// Whether the driver of an interface does XDP, as far as it can be told.
fn does_xdp(index: u32) -> Option<bool> {
    // Before Linux 6.3 only of these, which have no driver.
    const NEVER: [&str; 7] = ["bridge", "dummy", "ifb", "ipvlan", "macvlan", "vlan", "vxlan"];
    netlink::does_xdp(index).or_else(|| {
        let link = netlink::link(index).ok()?;
        NEVER.contains(&&*link.kind).then_some(false)
    })
}

/// Says why a mode that was asked for cannot be had, where the program was on the interface before.
fn stays(name: &str, why: &str) -> anyhow::Error {
    anyhow!(
        "`{name}` cannot run XDP as `mode` says ({why}); the program that was on it stays, in the mode \
         that it had; `mode: auto` or `mode: generic` can go on"
    )
}

/// Waits until a program whose link is gone is off its interface: the kernel may take it off a moment
/// later (`bpf_link_put` in `kernel/bpf/syscall.c`).
fn wait_until_free(index: u32, was: Option<netlink::Attached>) {
    const LOOKS: usize = 1000;
    const PAUSE: Duration = Duration::from_millis(1);
    for _ in 0..LOOKS {
        match netlink::attached(index) {
            Ok(Some(now)) if Some(now) == was => std::thread::sleep(PAUSE),
            _ => return,
        }
    }
}

/// Whether the program of this slot still is on an interface. It is not when the interface was
/// deleted, even if there is a new one of its name.
pub(super) fn is_attached(ebpf: &Ebpf, index: u32) -> Result<bool> {
    let Some(program) = ebpf.program(PROGRAM) else { return Ok(false) };
    let program: &Xdp = program.try_into()?;
    let attached = netlink::attached(index)?;
    Ok(attached.is_some_and(|attached| program.info().is_ok_and(|p| p.id() == attached.program)))
}

fn attach_anew(program: &mut Xdp, pins: &Pins, place: Place<'_>, wanted: Wanted) -> Result<Taken> {
    let taken = |mode, fallback| Taken { mode, fallback, adopted: false };
    let (mode, fallback) = match wanted {
        Wanted::Native => (Mode::Native, None),
        Wanted::Generic => (Mode::Generic, None),
        Wanted::Auto => match try_attach(program, pins, place, Mode::Native) {
            Ok(()) => return Ok(taken(Mode::Native, None)),
            Err(Refused::Busy(error)) => return Err(error),
            Err(Refused::Mode(error)) => (Mode::Generic, Some(format!("{error:#}"))),
        },
    };
    let name = place.name;
    match try_attach(program, pins, place, mode) {
        Ok(()) => Ok(taken(mode, fallback)),
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

impl Refused {
    fn into_error(self) -> anyhow::Error {
        match self {
            Self::Busy(error) | Self::Mode(error) => error,
        }
    }
}

fn try_attach(program: &mut Xdp, pins: &Pins, place: Place<'_>, mode: Mode) -> Result<(), Refused> {
    let id = match program.attach_to_if_index(place.index, flag(mode)) {
        Ok(id) => id,
        Err(error) => return Err(refused(error, place)),
    };
    let pin = || -> Result<()> {
        let link = FdLink::try_from(program.take_link(id)?)
            .context("the kernel gave no link that can be pinned (it is older than Linux 5.9)")?;
        let path = pins.link(place.slot, place.pin);
        link.pin(&path).with_context(|| format!("pin {}", path.display()))?;
        Ok(())
    };
    pin().map_err(Refused::Busy)
}

fn flag(mode: Mode) -> XdpMode {
    match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    }
}

fn refused(error: ProgramError, Place { index, name, .. }: Place<'_>) -> Refused {
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
        Some(code) => {
            let mtu = netlink::link(index).map_or(0, |link| link.mtu);
            Refused::Mode(anyhow!(reason(code, does_xdp(index), mtu, name)))
        }
        None => Refused::Mode(anyhow!(error)),
    }
}

/// What is said of a driver without XDP.
const NO_XDP: &str = "its driver does not do XDP";

/// Why a driver has refused, and what helps.
fn reason(code: i32, does_xdp: Option<bool>, mtu: u32, name: &str) -> String {
    use nix::libc::{E2BIG, EINVAL, ENOMEM, ENOSPC, EOPNOTSUPP, ERANGE};
    let error = io::Error::from_raw_os_error(code);
    let then = "then a restart of Ringfence brings the native mode";
    let fewer = format!("`ethtool -L {name} combined N` with about half as many");
    match code {
        EOPNOTSUPP if does_xdp == Some(true) => format!(
            "its driver does XDP, but not with an offload that is on ({error}): \
             `ethtool -K {name} lro off rx-gro-hw off`, {then}"
        ),
        EOPNOTSUPP => format!("{NO_XDP} ({error})"),
        ENOSPC | ENOMEM => format!(
            "its driver does XDP, but has too few queues free for it ({error}): more of them, or \
             {fewer}, {then}"
        ),
        ERANGE | E2BIG => format!(
            "its driver does XDP, but not with an MTU of {mtu} ({error}): a smaller one, {then}"
        ),
        EINVAL => format!(
            "its driver does XDP, but not with this MTU ({mtu}) or so many queues ({error}): a smaller \
             MTU, or {fewer}, {then}"
        ),
        _ => format!("its driver has refused ({error})"),
    }
}

/// Says whose program is on an interface.
fn busy(index: u32, name: &str) -> anyhow::Error {
    if let Ok(Some(upon)) = program_upon(index) {
        return anyhow!(
            "`{name}` cannot have an XDP program while `{upon}`, which lies upon it, has one; protect one \
             of them"
        );
    }
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

#[cfg(test)]
mod tests {
    use nix::libc::{EINVAL, EIO, ENOSPC, EOPNOTSUPP, ERANGE};

    use super::*;

    #[test]
    fn only_a_driver_without_xdp_is_said_to_have_none() {
        for (code, does_xdp, says) in [
            (EOPNOTSUPP, Some(false), "does not do XDP"),
            (EOPNOTSUPP, None, "does not do XDP"),
            (EOPNOTSUPP, Some(true), "offload"),
            (ENOSPC, Some(true), "queues"),
            (ERANGE, None, "an MTU of 9001"),
            (EINVAL, None, "this MTU (9001) or so many queues"),
            (EIO, None, "has refused"),
        ] {
            let reason = reason(code, does_xdp, 9001, "eth0");
            assert!(reason.contains(says), "{reason}");
            assert_eq!(reason.contains(NO_XDP), says == "does not do XDP", "{reason}");
        }
    }
}

//! Attaches the program to one interface, or replaces it where it is attached already.
//!
//! Must never replace a foreign program.

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
        anyhow!("there is no interface `{name}` ({}); `ip link` lists the interfaces", error.desc())
    })
}

/// The index of an interface whose frames the program can read.
pub(super) fn usable(name: &str) -> Result<u32> {
    let index = index(name)?;
    let link = netlink::link(index)?;
    if !link.has_ethernet() {
        let kind = if link.kind.is_empty() { "a tunnel" } else { &*link.kind };
        let instead = network::beneath(&link).map_or_else(
            || "name the interface on which its packets arrive".to_owned(),
            |beneath| format!("name `{beneath}`, on which its packets arrive"),
        );
        let seen = if link.is_ppp() {
            "the program reads PPPoE there"
        } else {
            "the packets inside are not seen there"
        };
        bail!(
            "`{name}` ({kind}) has no Ethernet header, so the program cannot read its packets; \
             {instead} ({seen})"
        );
    }
    Ok(index)
}

/// The result of attaching the program.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) mode: Mode,
    /// Why it is not attached in the driver, if that was tried.
    pub(super) fallback: Option<String>,
    /// Whether it was attached already.
    pub(super) adopted: bool,
}

/// Attaches the program to an interface. If Ringfence's program is attached already, it is replaced
/// without a gap.
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
        // A leftover of an interface that no longer exists.
        pins::remove(&path)?;
        let was = netlink::attached(place.index)?;
        if was.is_some_and(|was| holder(was.program).is_none()) {
            wait_until_free(place.index, was);
        }
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

/// Our pinned link with its mode, if its program is the one on the interface.
fn ours(path: &Path, index: u32) -> Result<Option<(FdLink, Mode)>> {
    let Some(attached) = netlink::attached(index)? else { return Ok(None) };
    if pinned_program(path) != Some(attached.program) {
        return Ok(None);
    }
    let mode = if attached.native { Mode::Native } else { Mode::Generic };
    Ok(Some((FdLink::from(PinnedLink::from_pin(path)?), mode)))
}

/// Replaces the program of our link, or the link itself if the mode changes.
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
        // Generic mode was a fallback, and its cause may be gone.
        (Wanted::Auto, Mode::Generic) if does_xdp(place.index) != Some(false) => Some(Mode::Native),
        (Wanted::Auto, _) | (Wanted::Native, Mode::Native) | (Wanted::Generic, Mode::Generic) => {
            None
        }
    };
    let Some(other) = other else {
        let came_by_itself = wanted == Wanted::Auto && mode == Mode::Generic;
        return keep(program, link, mode, came_by_itself.then(|| NO_XDP.to_owned()));
    };
    // Beneath a program nothing can be attached, so a detached program could not be restored.
    if let Some(upon) = program_upon(place.index)? {
        let why = format!("`{upon}`, which is stacked on it, has an XDP program");
        return if wanted == Wanted::Auto {
            keep(program, link, mode, Some(why))
        } else {
            Err(stays(place.name, &why))
        };
    }
    // The kernel does not allow both modes on an interface at once.
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
    // The pin keeps the link; dropping this closes only the handle.
    drop(program.take_link(id)?);
    Ok(Taken { mode, fallback, adopted: true })
}

/// An interface stacked on this one that has an XDP program: its bridge, bond or VLAN.
fn program_upon(index: u32) -> Result<Option<String>> {
    let links = netlink::links()?;
    let master = links.iter().find(|link| link.index == index).and_then(|link| link.master);
    let is_upon = |link: &&netlink::Link| {
        let stacked = link.beneath == Some(index) && link.kind.contains("vlan");
        link.xdp.is_some() && (Some(link.index) == master || stacked)
    };
    Ok(links.iter().find(is_upon).map(|link| link.name.clone()))
}

/// Whether the driver of an interface supports XDP; `None` if unknown.
fn does_xdp(index: u32) -> Option<bool> {
    // Before Linux 6.3 only known for these, which have no driver.
    const NEVER: [&str; 7] = ["bridge", "dummy", "ifb", "ipvlan", "macvlan", "vlan", "vxlan"];
    netlink::does_xdp(index).or_else(|| {
        let link = netlink::link(index).ok()?;
        NEVER.contains(&&*link.kind).then_some(false)
    })
}

/// An error for a mode that is not possible, if the old program stays attached.
fn stays(name: &str, why: &str) -> anyhow::Error {
    anyhow!(
        "`{name}` cannot run XDP in the configured mode ({why}); the program that was attached \
         stays, in its old mode; use `mode: auto` or `mode: generic`"
    )
}

/// Waits until a program whose link was closed, by this process or by a `detach` just before, is detached: the kernel may
/// do this a moment later (`bpf_link_put` in `kernel/bpf/syscall.c`).
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

/// Whether the program of this slot is still attached to an interface. It is not if the interface was
/// deleted, even if there is a new one with the same name.
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
                "`{name}` cannot run XDP in its driver; use `mode: auto` or `mode: generic`"
            ),
            Mode::Generic => format!("attach to `{name}`"),
        })),
    }
}

/// Why the kernel did not attach the program.
enum Refused {
    /// Another program is attached, or permissions are missing: another mode would not help.
    Busy(anyhow::Error),
    /// This mode is not possible.
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
        let link = FdLink::try_from(program.take_link(id)?).context(
            "the kernel returned no link that can be pinned (it is older than Linux 5.9)",
        )?;
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
        // The kernel returns EBUSY, or EEXIST if the other program runs in the other mode.
        Some(code) if code == nix::libc::EBUSY || code == nix::libc::EEXIST => {
            Refused::Busy(busy(index, name))
        }
        Some(nix::libc::EPERM) => Refused::Busy(anyhow!(
            "attach to `{name}`: not permitted; this needs root, or CAP_BPF, CAP_NET_ADMIN and \
             CAP_PERFMON"
        )),
        Some(code) => {
            let mtu = netlink::link(index).map_or(0, |link| link.mtu);
            Refused::Mode(anyhow!(reason(code, does_xdp(index), mtu, name)))
        }
        None => Refused::Mode(anyhow!(error)),
    }
}

/// The reason if the driver does not support XDP.
const NO_XDP: &str = "its driver does not support XDP";

/// The reason why a driver has refused, and the remedy.
fn reason(code: i32, does_xdp: Option<bool>, mtu: u32, name: &str) -> String {
    use nix::libc::{E2BIG, EINVAL, ENOMEM, ENOSPC, EOPNOTSUPP, ERANGE};
    let error = io::Error::from_raw_os_error(code);
    let then = "then restart Ringfence for native mode";
    let fewer = format!("`ethtool -L {name} combined N` with about half as many");
    match code {
        EOPNOTSUPP if does_xdp == Some(true) => format!(
            "its driver supports XDP, but not with an enabled offload ({error}): type `ethtool -K \
             {name} lro off rx-gro-hw off`, {then}"
        ),
        EOPNOTSUPP => format!("{NO_XDP} ({error})"),
        ENOSPC | ENOMEM => format!(
            "its driver supports XDP, but has too few free queues ({error}): use more queues, or \
             {fewer}, {then}"
        ),
        ERANGE | E2BIG => format!(
            "its driver supports XDP, but not with an MTU of {mtu} ({error}): use a smaller MTU, \
             {then}"
        ),
        EINVAL => format!(
            "its driver supports XDP, but not with this MTU ({mtu}) or this many queues ({error}): \
             use a smaller MTU, or {fewer}, {then}"
        ),
        _ => format!("its driver has refused ({error})"),
    }
}

/// An error that names the program on an interface and its owner.
fn busy(index: u32, name: &str) -> anyhow::Error {
    if let Ok(Some(upon)) = program_upon(index) {
        return anyhow!(
            "`{name}` cannot have an XDP program while `{upon}`, which is stacked on it, has one; \
             protect only one of them"
        );
    }
    let describe = || -> Result<String> {
        let Some(attached) = netlink::attached(index)? else {
            bail!("it no longer exists");
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
        "`{name}` already has an XDP program: {whose}; stop its owner (if it is pinned, remove its \
         pin below /sys/fs/bpf; if it has no link, type `ip link set dev {name} xdp off`)"
    )
}

/// A process that has an XDP program or a link to it open, from `/proc/*/fdinfo`.
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
            (EOPNOTSUPP, Some(false), "does not support XDP"),
            (EOPNOTSUPP, None, "does not support XDP"),
            (EOPNOTSUPP, Some(true), "offload"),
            (ENOSPC, Some(true), "queues"),
            (ERANGE, None, "an MTU of 9001"),
            (EINVAL, None, "this MTU (9001) or this many queues"),
            (EIO, None, "has refused"),
        ] {
            let reason = reason(code, does_xdp, 9001, "eth0");
            assert!(reason.contains(says), "{reason}");
            assert_eq!(reason.contains(NO_XDP), says == "does not support XDP", "{reason}");
        }
    }
}

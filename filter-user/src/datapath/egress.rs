//! The classifier at an interface's egress, which learns who is a known peer: attached, taken over,
//! taken off.
//!
//! Where the kernel has TCX (Linux 6.6) it is a link, pinned like that of the XDP program; before, a
//! filter of the `clsact` qdisc, at a place of its own, with its program pinned in the link's stead.
//! Either is replaced in one step, and lets what others have attached there judge.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{
    NlOptions, SchedClassifier, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions,
    TcAttachType, TcError, TcHandle, qdisc_add_clsact, qdisc_detach_program,
};
use aya::util::KernelVersion;
use filter_common::abi::EGRESS_PROGRAM;
use nix::net::if_::if_nametoindex;

use super::attach;
use super::netlink::{self, FilterPlace};
use super::pins::{self, Pins};

/// The filter's place: early, as a filter before it may end the chain. `tc filter show dev IF egress`
/// shows it as `pref 5` and `handle 0x13c4`.
const PRIORITY: u16 = 5;
const HANDLE: TcHandle = TcHandle::new(0, 5060);

/// Puts the classifier on an interface, in place of ours where it has one.
///
/// # Errors
///
/// When the kernel refuses, or there is somebody else's filter in its place.
pub(super) fn attach(ebpf: &mut Ebpf, pins: &Pins, name: &str, slot: u32) -> Result<()> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(EGRESS_PROGRAM)
        .with_context(|| format!("the object has no program `{EGRESS_PROGRAM}`"))?
        .try_into()?;
    attach::loaded(program.load())?;
    let pin = pins.egress(slot, name);
    if KernelVersion::current()? >= KernelVersion::new(6, 6, 0) {
        attach_link(program, &pin, name)
    } else {
        attach_filter(program, &pin, name)
    }
}

/// Takes the classifier off an interface, which may be gone, and removes its pin.
///
/// # Errors
///
/// When the kernel refuses.
pub(super) fn detach(pin: &Path, name: &str) -> Result<()> {
    if if_nametoindex(name).is_ok() {
        match qdisc_detach_program(name, TcAttachType::Egress, EGRESS_PROGRAM) {
            Ok(()) => {}
            // A link, which goes with its pin; or somebody has taken it off.
            Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("take the filter off `{name}`"));
            }
        }
    }
    pins::remove(pin)
}

fn attach_link(program: &mut SchedClassifier, pin: &Path, name: &str) -> Result<()> {
    if pin.exists() {
        if adopt(program, pin).is_ok() {
            return Ok(());
        }
        // Left behind by an interface that is gone.
        fs::remove_file(pin).with_context(|| format!("remove {}", pin.display()))?;
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(name, TcAttachType::Egress, first)
        .with_context(|| format!("attach to the egress of `{name}`"))?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    link.pin(pin).with_context(|| format!("pin {}", pin.display()))?;
    Ok(())
}

/// Replaces the program of our pinned link. The kernel says whether it still is on its interface.
fn adopt(program: &mut SchedClassifier, pin: &Path) -> Result<()> {
    let link = SchedClassifierLink::try_from(FdLink::from(PinnedLink::from_pin(pin)?))?;
    let id = program.attach_to_link(link)?;
    // The pin keeps the link; the handle is closed with what is taken here.
    drop(program.take_link(id)?);
    Ok(())
}

fn attach_filter(program: &mut SchedClassifier, pin: &Path, name: &str) -> Result<()> {
    let place =
        FilterPlace { interface: attach::index(name)?, priority: PRIORITY, handle: HANDLE.into() };
    let id = match netlink::egress_filter(place)? {
        Some(there) if there == EGRESS_PROGRAM => {
            let ours =
                SchedClassifierLink::attached(name, TcAttachType::Egress, PRIORITY, HANDLE, None)?;
            program.attach_to_link(ours).context("replace the running classifier")?
        }
        Some(there) => bail!(
            "`{name}` already has a filter at this place, `{there}`; `tc filter del dev {name} \
             egress pref {PRIORITY}` removes it"
        ),
        None => add_filter(program, name)?,
    };
    // What it is dropped with would take the filter off again.
    std::mem::forget(program.take_link(id)?);
    pins::replace(pin, |path| Ok(program.pin(path)?))
}

fn add_filter(program: &mut SchedClassifier, name: &str) -> Result<SchedClassifierLinkId> {
    match qdisc_add_clsact(name) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        // As the kernel says it.
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(nix::libc::EEXIST) => {}
        Err(error) => {
            return Err(error).with_context(|| format!("give `{name}` a `clsact` qdisc"));
        }
    }
    let place = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    program
        .attach_with_options(name, TcAttachType::Egress, TcAttachOptions::Netlink(place))
        .with_context(|| format!("attach to the egress of `{name}`"))
}

//! Attaches and detaches the classifier at an interface's egress, which learns known peers.
//!
//! If the kernel has TCX (Linux 6.6), it is a link, which is pinned like that of the XDP program.
//! Otherwise it is a filter of the `clsact` qdisc at a fixed place, and its program is pinned instead of
//! a link. Either is replaced in one step, and does not override other programs.
//!
//! Must never replace a foreign program.

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

use super::netlink::{self, FilterPlace};
use super::pins::{self, Pins};
use super::programs::{Place, loaded};

/// The filter's place: early, because an earlier filter may end the chain. `tc filter show dev IF egress`
/// shows it as `pref 5` and `handle 0x13c4`.
const PRIORITY: u16 = 5;
const HANDLE: TcHandle = TcHandle::new(0, 5060);

/// The qdisc whose filters see outgoing packets. The older `ingress` occupies the same place.
const CLSACT: &str = "clsact";

/// The result of attaching the classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It was attached already.
    Kept,
    /// It has been attached.
    Added,
}

/// Attaches the classifier to an interface; an older one of Ringfence is replaced.
///
/// # Errors
///
/// If the kernel refuses, or a foreign filter occupies its place.
pub(super) fn attach(ebpf: &mut Ebpf, pins: &Pins, place: Place<'_>) -> Result<Done> {
    let program = load(ebpf)?;
    if has_links()? {
        attach_link(program, &pins.egress(place.slot, place.pin), place.name)
    } else {
        attach_filter(program, pins, place)
    }
}

/// The classifier, loaded.
pub(super) fn load(ebpf: &mut Ebpf) -> Result<&mut SchedClassifier> {
    let program: &mut SchedClassifier = ebpf
        .program_mut(EGRESS_PROGRAM)
        .with_context(|| format!("the object has no program `{EGRESS_PROGRAM}`"))?
        .try_into()?;
    loaded(program.load())?;
    Ok(program)
}

/// Whether the classifier that this process has attached is still attached.
pub(super) fn is_attached(ebpf: &mut Ebpf, pins: &Pins, place: Place<'_>) -> Result<bool> {
    if has_links()? {
        let program = load(ebpf)?;
        // Replacing a program with itself changes nothing; the kernel refuses if the link is gone.
        let pin = pins.egress(place.slot, place.pin);
        return Ok(pin.exists() && adopt(program, &pin).is_ok());
    }
    let there = netlink::egress_filter(filter_place(place.index))?;
    Ok(there.as_deref() == Some(EGRESS_PROGRAM)
        && netlink::ingress_qdisc(place.index)?.as_deref() == Some(CLSACT))
}

/// Detaches the classifier from an interface, which may be gone, and removes its pin. Also removes the
/// `clsact` qdisc that was created for it, unless another filter uses it.
///
/// # Errors
///
/// If the kernel refuses.
pub(super) fn detach(pin: &Path, made: &Path, name: &str) -> Result<()> {
    if let Ok(index) = if_nametoindex(name) {
        match qdisc_detach_program(name, TcAttachType::Egress, EGRESS_PROGRAM) {
            Ok(()) => {}
            // A link, which disappears with its pin; or the filter has been removed already.
            Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("detach the filter from `{name}`"));
            }
        }
        if made.exists()
            && netlink::ingress_qdisc(index)?.as_deref() == Some(CLSACT)
            && !netlink::has_filters(index)?
        {
            netlink::remove_clsact(index)
                .with_context(|| format!("remove the `{CLSACT}` qdisc of `{name}`"))?;
        }
    }
    pins::remove(made)?;
    pins::remove(pin)
}

/// Whether the kernel has TCX.
fn has_links() -> Result<bool> {
    Ok(KernelVersion::current()? >= KernelVersion::new(6, 6, 0))
}

fn filter_place(interface: u32) -> FilterPlace {
    FilterPlace { interface, priority: PRIORITY, handle: HANDLE.into() }
}

fn attach_link(program: &mut SchedClassifier, pin: &Path, name: &str) -> Result<Done> {
    if pin.exists() {
        if adopt(program, pin).is_ok() {
            return Ok(Done::Kept);
        }
        // A leftover of an interface that no longer exists.
        fs::remove_file(pin).with_context(|| format!("remove {}", pin.display()))?;
    }
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program
        .attach_with_options(name, TcAttachType::Egress, first)
        .with_context(|| format!("attach to the egress of `{name}`"))?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    link.pin(pin).with_context(|| format!("pin {}", pin.display()))?;
    Ok(Done::Added)
}

/// Replaces the program of our pinned link. The kernel reports whether it is still attached to its
/// interface.
fn adopt(program: &mut SchedClassifier, pin: &Path) -> Result<()> {
    let link = SchedClassifierLink::try_from(FdLink::from(PinnedLink::from_pin(pin)?))?;
    let id = program.attach_to_link(link)?;
    // The pin keeps the link; dropping this closes only the handle.
    drop(program.take_link(id)?);
    Ok(())
}

fn attach_filter(program: &mut SchedClassifier, pins: &Pins, place: Place<'_>) -> Result<Done> {
    let Place { index, name, slot, pin } = place;
    let made = pins.qdisc(slot, pin);
    match netlink::ingress_qdisc(index)?.as_deref() {
        Some(CLSACT) => {}
        Some(other) => {
            // An earlier version has attached it where it saw incoming packets.
            let _none = qdisc_detach_program(name, TcAttachType::Egress, EGRESS_PROGRAM);
            bail!(
                "`{name}` has a qdisc `{other}`, which excludes a `{CLSACT}` and cannot see \
                 outgoing packets; move its filters to a `{CLSACT}` (`tc qdisc del dev {name} \
                 {other}`, `tc qdisc add dev {name} {CLSACT}`), or use AMI"
            );
        }
        None => {
            add_clsact(name)?;
            pins::replace(&made, |path| Ok(program.pin(path)?))?;
        }
    }
    if made.exists() {
        // The pin of the program that is loaded now, so that the previous one is released.
        pins::replace(&made, |path| Ok(program.pin(path)?))?;
    }
    let (id, done) = match netlink::egress_filter(filter_place(index))? {
        Some(there) if there == EGRESS_PROGRAM => {
            let ours =
                SchedClassifierLink::attached(name, TcAttachType::Egress, PRIORITY, HANDLE, None)?;
            let id = program.attach_to_link(ours).context("replace the running classifier")?;
            (id, Done::Kept)
        }
        Some(there) => bail!(
            "`{name}` already has a filter at this place, `{there}`; `tc filter del dev {name} \
             egress pref {PRIORITY}` removes it"
        ),
        None => (add_filter(program, name)?, Done::Added),
    };
    // Dropping it would detach the filter again.
    std::mem::forget(program.take_link(id)?);
    pins::replace(&pins.egress(slot, pin), |path| Ok(program.pin(path)?))?;
    Ok(done)
}

fn add_clsact(name: &str) -> Result<()> {
    match qdisc_add_clsact(name) {
        Ok(()) | Err(TcError::AlreadyAttached) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("add a `{CLSACT}` qdisc to `{name}`")),
    }
}

fn add_filter(program: &mut SchedClassifier, name: &str) -> Result<SchedClassifierLinkId> {
    let place = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    program
        .attach_with_options(name, TcAttachType::Egress, TcAttachOptions::Netlink(place))
        .with_context(|| format!("attach to the egress of `{name}`"))
}

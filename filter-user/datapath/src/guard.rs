//! Attaches one program to one interface, and keeps it attached.
//!
//! Must never decide.

use anyhow::Result;
use aya::Ebpf;

use super::attach::{self, Taken, attach};
use super::egress;
use super::netlink;
use super::pins::{self, Pins};
use super::port::{Interface, Mode};
use super::programs::Place;
use super::settings::Mode as Wanted;
use super::slots::Slot;

/// An interface and the program instance loaded for it.
pub(super) struct Guard {
    pub(super) interface: Interface,
    /// Its index, or `None` if the interface does not exist.
    pub(super) index: Option<u32>,
    /// The name used for its pins. It is also used to find the interface if it does not exist yet.
    pub(super) pin: String,
    pub(super) program: Ebpf,
}

impl Guard {
    pub(super) fn new(slot: &Slot, program: Ebpf) -> Self {
        let interface = Interface {
            name: slot.name.clone(),
            slot: slot.number,
            mode: Mode::Generic,
            fallback: None,
            adopted: false,
            unprotected: Some("it has not been checked yet".to_owned()),
            not_learning: None,
        };
        Self { interface, index: slot.index, pin: slot.pin().to_owned(), program }
    }

    pub(super) fn is_bare(&self) -> bool {
        self.interface.unprotected.is_some()
    }

    /// Whether the interface has a program of this controller or of an earlier one.
    pub(super) fn has_ours(&self, pins: &Pins) -> bool {
        let pinned = pins::pinned_program(&pins.link(self.interface.slot, &self.pin));
        let on = self.index.and_then(|index| netlink::attached(index).ok()?);
        on.is_some_and(|on| Some(on.program) == pinned)
    }

    /// Attaches the program to the interface, and also the egress classifier, whose failure is only
    /// recorded.
    pub(super) fn begin(&mut self, pins: &Pins, mode: Wanted) -> Result<()> {
        let index = match self.index {
            Some(index) => index,
            None => attach::usable(&self.pin)?,
        };
        let name = netlink::link(index)?.name;
        attach::usable(&name)?;
        let slot = self.interface.slot;
        let place = Place { index, name: &name, pin: &self.pin, slot };
        let Taken { mode, fallback, adopted } = attach(&mut self.program, pins, place, mode)?;
        let learns = egress::attach(&mut self.program, pins, place);
        self.index = Some(index);
        self.interface = Interface {
            name,
            slot,
            mode,
            fallback,
            adopted,
            unprotected: None,
            not_learning: learns.err().map(|error| format!("{error:#}")),
        };
        Ok(())
    }

    /// Messages about what is wrong with this interface.
    pub(super) fn amiss(&self) -> Vec<String> {
        let Interface { name, unprotected, not_learning, .. } = &self.interface;
        let bare = unprotected.as_ref().map(|why| format!("`{name}` is unprotected: {why}"));
        let deaf = not_learning.as_ref().filter(|_| bare.is_none());
        let deaf = deaf.map(|why| format!("no known peers are learned on `{name}`: {why}"));
        bare.into_iter().chain(deaf).collect()
    }

    /// Checks that program and classifier are attached, and attaches them again if not.
    pub(super) fn check(&mut self, pins: &Pins, mode: Wanted, notes: &mut Vec<String>) {
        let before = self.interface.clone();
        let link = self.index.and_then(|index| netlink::link(index).ok());
        let on = link
            .as_ref()
            .is_some_and(|link| attach::is_attached(&self.program, link.index).unwrap_or(false));
        match link {
            Some(link) if on => {
                if link.name != before.name {
                    notes.push(format!("`{}` is called `{}` now", before.name, link.name));
                    self.interface.name = link.name;
                }
                self.interface.unprotected = None;
                self.check_egress(pins, link.index, notes);
            }
            // The interface does not exist any more, or lost the program. Another of its name may have
            // appeared.
            link => {
                self.index = link.map(|link| link.index);
                if let Err(error) = self.begin(pins, mode) {
                    self.interface.unprotected = Some(format!("{error:#}"));
                }
            }
        }
        let now = &self.interface;
        let name = &now.name;
        match (&before.unprotected, &now.unprotected) {
            (Some(_), None) if on => notes.push(format!("`{name}` is protected again")),
            (Some(_), None) => {
                notes.push(format!("attached to `{name}` in {} mode", now.mode.as_str()));
            }
            (None, None) if !on => {
                notes.push(format!("`{name}` had lost the program: attached it again"));
            }
            (None, None) | (_, Some(_)) => {}
        }
        // Numbers in the kernel's messages may differ each time.
        let gist = |why: &Option<String>| {
            why.as_ref().map(|why| why.replace(|letter: char| letter.is_ascii_digit(), ""))
        };
        let gists = |of: &Interface| [gist(&of.unprotected), gist(&of.not_learning)];
        if gists(now) != gists(&before) {
            notes.extend(self.amiss());
        }
    }

    /// The same for the egress classifier.
    pub(super) fn check_egress(&mut self, pins: &Pins, index: u32, notes: &mut Vec<String>) {
        let name = self.interface.name.clone();
        let place = Place { index, name: &name, pin: &self.pin, slot: self.interface.slot };
        let was_deaf = self.interface.not_learning.take().is_some();
        if !was_deaf && egress::is_attached(&mut self.program, pins, place).unwrap_or(false) {
            return;
        }
        match egress::attach(&mut self.program, pins, place) {
            Ok(_) if was_deaf => notes.push(format!("known peers are learned on `{name}` again")),
            Ok(egress::Done::Added) => {
                notes.push(format!("`{name}` had lost the egress classifier: attached it again"));
            }
            Ok(egress::Done::Kept) => {}
            Err(error) => self.interface.not_learning = Some(format!("{error:#}")),
        }
    }
}

//! Detaches the program from its interfaces: removes its pins, the classifier and the maps.
//!
//! Must never lose a ban in force.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use filter_common::abi::maps::PINNED;

use super::egress;
use super::pins::{EGRESS, PROGRAM, PinnedLink, QDISC, links, lock, names, parse, pin, remove};

/// Removes the pins of a link and of its program, which detaches the program, and the classifier.
pub(super) fn remove_link(directory: &Path, link: &PinnedLink) -> Result<()> {
    remove(&link.path)?;
    let of = |kind| pin(directory, kind, link.slot, &link.interface);
    egress::detach(&of(EGRESS), &of(QDISC), link.name())?;
    remove(&of(PROGRAM))
}

/// Removes everything that Ringfence has pinned in a directory: detaches the programs and removes the
/// maps with all bans.
///
/// Returns the interfaces that were detached.
///
/// # Errors
///
/// If a controller is still running, or a pin cannot be removed.
pub fn detach_all(directory: &Path) -> Result<Vec<String>> {
    match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("open {}", directory.display()))?,
        Ok(metadata) if !metadata.is_dir() => return Ok(Vec::new()),
        Ok(_) => {}
    }
    let _lock = lock(directory)?;
    // Links first: a program must not keep running without pinned maps.
    let links = links(directory)?;
    for link in &links {
        remove_link(directory, link)?;
    }
    for name in names(directory)? {
        if let Some((slot, interface)) = parse(EGRESS, &name) {
            let made = pin(directory, QDISC, slot, &interface);
            egress::detach(&directory.join(&name), &made, &interface)?;
        } else if parse(QDISC, &name).is_some()
            || name.starts_with(PROGRAM)
            || PINNED.contains(&&*name)
        {
            remove(&directory.join(&name))?;
        }
    }
    if names(directory)?.is_empty() {
        fs::remove_dir(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(links.iter().map(|link| link.name().to_owned()).collect())
}

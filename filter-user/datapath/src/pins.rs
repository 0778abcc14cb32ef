//! The directory of pins, which outlives the controller, and its lock.
//!
//! It contains `<bpffs>/<MAP>` for each map, `<bpffs>/link-<slot>-<interface>`,
//! `<bpffs>/program-<slot>-<interface>` and `<bpffs>/out-<slot>-<interface>` for each interface, and
//! `<bpffs>/qdisc-<slot>-<interface>` if a `clsact` qdisc was added to it. The process that has locked
//! the directory is the controller.
//!
//! The BPF file system allows no dot in a name, but names of VLAN interfaces have one (`eth0.20`). The
//! kernel allows no colon in an interface's name, so a dot is written as a colon.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use aya::programs::links::{FdLink, PinnedLink as PinnedFd};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::netlink::{self, Link};

const LINK: &str = "link-";
pub(super) const PROGRAM: &str = "program-";
pub(super) const EGRESS: &str = "out-";
pub(super) const QDISC: &str = "qdisc-";

/// The directory, locked.
#[derive(Debug)]
pub(super) struct Pins {
    directory: PathBuf,
    _lock: Flock<File>,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PinnedLink {
    pub(super) slot: u32,
    /// The interface's name when it was pinned.
    pub(super) interface: String,
    pub(super) path: PathBuf,
    /// The index and name of the interface to which its program is attached now.
    pub(super) on: Option<(u32, String)>,
}

impl PinnedLink {
    /// The interface's current name, as far as it is known.
    pub(super) fn name(&self) -> &str {
        self.on.as_ref().map_or(&self.interface, |(_, name)| name)
    }
}

impl Pins {
    /// Creates the directory if it is missing, and locks it.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        if !check_place(directory)? {
            mount_usual()?;
        }
        // Only for its owner, because every user who can open it could lock it.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o700)))
            .with_context(|| format!("make {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), _lock: lock(directory)? })
    }

    /// Whether nothing is pinned.
    pub(super) fn is_empty(&self) -> Result<bool> {
        Ok(names(&self.directory)?.is_empty())
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(super) fn link(&self, slot: u32, interface: &str) -> PathBuf {
        pin(&self.directory, LINK, slot, interface)
    }

    pub(super) fn program(&self, slot: u32, interface: &str) -> PathBuf {
        pin(&self.directory, PROGRAM, slot, interface)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The pin of the classifier at an interface's egress.
    pub(super) fn egress(&self, slot: u32, interface: &str) -> PathBuf {
        pin(&self.directory, EGRESS, slot, interface)
    }

    /// Marks that the interface's `clsact` qdisc was created for the classifier.
    pub(super) fn qdisc(&self, slot: u32, interface: &str) -> PathBuf {
        pin(&self.directory, QDISC, slot, interface)
    }

    /// The links that are pinned.
    pub(super) fn links(&self) -> Result<Vec<PinnedLink>> {
        links(&self.directory)
    }

    /// Renames the pins of an interface to its current name.
    pub(super) fn rename(&self, link: &mut PinnedLink, name: &str) -> Result<()> {
        for kind in [PROGRAM, EGRESS, QDISC, LINK] {
            let [from, to] =
                [&*link.interface, name].map(|name| pin(&self.directory, kind, link.slot, name));
            if from != to && from.exists() {
                remove(&to)?;
                fs::rename(&from, &to).with_context(|| format!("rename {}", from.display()))?;
            }
        }
        name.clone_into(&mut link.interface);
        link.path = self.link(link.slot, name);
        Ok(())
    }
}

/// Opens the map with this name that is pinned in `directory`.
pub(super) fn open_map(directory: &Path, name: &str) -> Result<Map> {
    let pin = directory.join(name);
    let open = || -> Result<Map> { Ok(Map::from_map_data(MapData::from_pin(&pin)?)?) };
    open().with_context(|| format!("open {}", pin.display()))
}

pub(super) fn pin(directory: &Path, kind: &str, slot: u32, interface: &str) -> PathBuf {
    directory.join(format!("{kind}{slot}-{}", interface.replace('.', ":")))
}

/// The links in a directory, with their interfaces.
pub(super) fn links(directory: &Path) -> Result<Vec<PinnedLink>> {
    let mut links = Vec::new();
    let mut on_host: Option<Vec<Link>> = None;
    for name in names(directory)? {
        if let Some((slot, interface)) = parse(LINK, &name) {
            let path = directory.join(&name);
            let on_host = match &mut on_host {
                Some(some) => some,
                none => none.insert(netlink::links()?),
            };
            // Each interface has its own copy of the program.
            let program = pinned_program(&path);
            let has = |link: &&Link| link.xdp.is_some_and(|xdp| Some(xdp.program) == program);
            let on = on_host.iter().find(has).map(|link| (link.index, link.name.clone()));
            links.push(PinnedLink { slot, interface, path, on });
        }
    }
    Ok(links)
}

/// The id of the program of a pinned link.
pub(super) fn pinned_program(path: &Path) -> Option<u32> {
    if !path.exists() {
        return None;
    }
    let link = FdLink::from(PinnedFd::from_pin(path).ok()?);
    Some(link.info().ok()?.program_id())
}

/// The existing interfaces whose program is pinned in a directory.
///
/// # Errors
///
/// If they cannot be read.
pub fn protected(directory: &Path) -> Result<Vec<String>> {
    if !directory.is_dir() {
        return Ok(Vec::new());
    }
    let on = links(directory)?.into_iter().filter_map(|link| link.on);
    Ok(on.map(|(_, name)| name).collect())
}

/// Whether each link of a directory also has the classifier of outgoing packets.
pub(super) fn hears_all(directory: &Path) -> Result<bool> {
    let names = names(directory)?;
    let of = |kind| names.iter().filter_map(move |name| parse(kind, name));
    Ok(of(LINK).all(|link| of(EGRESS).any(|out| out == link)))
}

/// The usual mount point of the BPF file system.
const USUAL: &str = "/sys/fs/bpf";

/// Mounts the BPF file system on `/sys/fs/bpf` if `directory` is to be below it and nothing is mounted
/// there.
///
/// # Errors
///
/// If `directory` is not on a BPF file system afterwards.
pub fn mount_bpffs(directory: &Path) -> Result<()> {
    if check_place(directory)? { Ok(()) } else { mount_usual() }
}

/// Whether a directory for pins is already on a BPF file system; if not, one can be mounted for it.
///
/// # Errors
///
/// If neither is possible, or the directory cannot have this name.
pub fn check_place(directory: &Path) -> Result<bool> {
    if directory.file_name().is_some_and(|name| name.to_string_lossy().contains('.')) {
        bail!(
            "`paths.bpffs` cannot be {}: the BPF file system allows no dot in a name",
            directory.display()
        );
    }
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if is_bpffs(existing)? {
        return Ok(true);
    }
    if !directory.starts_with(USUAL) {
        bail!(
            "{} is not on a BPF file system; set `paths.bpffs` to a directory below {USUAL}",
            directory.display()
        );
    }
    Ok(false)
}

fn mount_usual() -> Result<()> {
    mount(Some("bpf"), USUAL, Some("bpf"), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("mount the BPF file system on {USUAL} (needs root)"))
}

fn is_bpffs(path: &Path) -> Result<bool> {
    let kind = statfs(path).with_context(|| format!("look at {}", path.display()))?;
    Ok(kind.filesystem_type() == BPF_FS_MAGIC)
}

/// Another process is the controller.
#[derive(Debug)]
pub struct InUse(String);

impl fmt::Display for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InUse {}

pub(super) fn lock(directory: &Path) -> Result<Flock<File>> {
    let file = File::open(directory).with_context(|| format!("open {}", directory.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => {
            let (directory, holder) = (directory.display(), holder(&file));
            Err(InUse(format!("{directory} is in use by {holder}")).into())
        }
        Err((_, error)) => Err(error).with_context(|| format!("lock {}", directory.display())),
    }
}

/// The process that has locked a file, from the kernel's list.
fn holder(file: &File) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let find = || -> Option<String> {
        let inode = format!(":{}", file.metadata().ok()?.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            // 1: FLOCK  ADVISORY  WRITE 1234 00:2a:5678 0 EOF
            let mut words = line.split_ascii_whitespace().skip(1);
            let kind = words.next()?;
            let process = words.nth(2)?;
            let place = words.next()?;
            (kind == "FLOCK" && place.ends_with(&inode)).then(|| describe_process(process))
        })
    };
    find().unwrap_or_else(|| "another process".to_owned())
}

/// A process for a message: its name and pid.
pub(super) fn describe_process(id: &str) -> String {
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    format!("{} (process {id})", if name.is_empty() { "a process" } else { name.trim() })
}

pub(super) fn names(directory: &Path) -> Result<Vec<String>> {
    let read = || -> io::Result<Vec<String>> {
        let entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        Ok(entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    };
    read().with_context(|| format!("list {}", directory.display()))
}

/// Removes a pin, if it exists.
pub(super) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces a pin in one step.
pub(super) fn replace(path: &Path, pin: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    remove(path)?;
    pin(path).with_context(|| format!("pin {}", path.display()))
}

/// The slot and the interface in the name of a pin of this kind.
pub(super) fn parse(kind: &str, name: &str) -> Option<(u32, String)> {
    let (slot, interface) = name.strip_prefix(kind)?.split_once('-')?;
    Some((slot.parse().ok()?, interface.replace(':', ".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links() {
        assert_eq!(parse(LINK, "link-3-eth0"), Some((3, "eth0".to_owned())));
        assert_eq!(parse(LINK, "link-0-br-lan"), Some((0, "br-lan".to_owned())));
        assert_eq!(parse(LINK, "link-1-eth0:20"), Some((1, "eth0.20".to_owned())));
        assert_eq!(parse(LINK, "out-0-eth0"), None);
        assert_eq!(parse(EGRESS, "out-1-eth0:20"), Some((1, "eth0.20".to_owned())));
        assert_eq!(parse(LINK, "BANS_V4"), None);
        assert_eq!(parse(LINK, "link-x-eth0"), None);
    }

    #[test]
    fn links_with_and_without_a_classifier() {
        let directory = tempfile::tempdir().unwrap();
        let add = |name| fs::write(directory.path().join(name), "").unwrap();
        assert!(hears_all(directory.path()).unwrap());
        for (link, out) in [("link-0-eth0", "out-0-eth0"), ("link-1-eth0:20", "out-1-eth0:20")] {
            add(link);
            assert!(!hears_all(directory.path()).unwrap(), "{link}");
            add(out);
            assert!(hears_all(directory.path()).unwrap(), "{out}");
        }
    }

    #[test]
    fn a_locked_directory_names_its_holder() {
        let directory = tempfile::tempdir().unwrap();
        let _held = lock(directory.path()).unwrap();
        let error = lock(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
    }

    #[test]
    fn an_ordinary_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = mount_bpffs(&directory.path().join("pins")).unwrap_err().to_string();
        assert!(error.contains("paths.bpffs"), "{error}");
    }
}

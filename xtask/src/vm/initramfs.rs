//! The files in the virtual machine: programs with their libraries, in the archive that the kernel
//! unpacks into memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Directories that are mounted over or written to.
const DIRECTORIES: [&str; 6] = ["dev", "proc", "root", "run", "sys", "tmp"];
const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// The files, by their paths in the machine.
pub(super) struct Initramfs {
    files: BTreeMap<String, Content>,
    stripped: PathBuf,
}

enum Content {
    Copy(PathBuf),
    Text(String),
}

impl Initramfs {
    /// An empty set. Programs without their debug information are written to `stripped`.
    pub(super) fn new(stripped: &Path) -> Self {
        Self { files: BTreeMap::new(), stripped: stripped.to_owned() }
    }

    /// Adds an unchanged file.
    pub(super) fn file(&mut self, name: &str, path: &Path) {
        self.files.insert(name.to_owned(), Content::Copy(path.to_owned()));
    }

    /// Adds a file with this text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.files.insert(name.to_owned(), Content::Text(text.to_owned()));
    }

    /// Adds a program without its debug information, and its libraries at the paths where it looks for
    /// them.
    pub(super) fn program(&mut self, name: &str, path: &Path) -> Result<()> {
        let stripped = self.stripped.join(name);
        let directory = stripped.parent().unwrap_or(&self.stripped);
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let status = Command::new("strip").arg("-o").arg(&stripped).arg(path).status();
        let status = status.context("run strip (of binutils)")?;
        ensure!(status.success(), "strip {} failed ({status})", path.display());
        self.file(name, &stripped);

        let output = Command::new("ldd").arg(path).output().context("run ldd")?;
        ensure!(output.status.success(), "ldd {} failed ({})", path.display(), output.status);
        for library in libraries(&String::from_utf8_lossy(&output.stdout)) {
            self.file(library.trim_start_matches('/'), Path::new(library));
        }
        Ok(())
    }

    /// Writes the archive.
    pub(super) fn write(&self, image: &Path) -> Result<()> {
        let write = || -> Result<()> {
            let mut archive = Archive { out: BufWriter::new(File::create(image)?), inode: 0 };
            for directory in self.directories() {
                archive.entry(&directory, DIRECTORY, &[])?;
            }
            for (name, content) in &self.files {
                match content {
                    Content::Text(text) => archive.entry(name, FILE, text.as_bytes())?,
                    Content::Copy(path) => {
                        let bytes =
                            fs::read(path).with_context(|| format!("read {}", path.display()))?;
                        archive.entry(name, FILE, &bytes)?;
                    }
                }
            }
            archive.entry("TRAILER!!!", 0, &[])?;
            Ok(archive.out.flush()?)
        };
        write().with_context(|| format!("write {}", image.display()))
    }

    /// Every directory, each after its parent.
    fn directories(&self) -> BTreeSet<String> {
        let parents = self.files.keys().flat_map(|name| Path::new(name).ancestors().skip(1));
        let parents = parents.map(|path| path.display().to_string());
        let all = parents.chain(DIRECTORIES.map(str::to_owned));
        all.filter(|path| !path.is_empty()).collect()
    }
}

/// The paths in the output of `ldd`: `libc.so.6 => /lib/libc.so.6 (0x…)`, and that of the loader without
/// an arrow.
fn libraries(ldd: &str) -> impl Iterator<Item = &str> {
    ldd.lines().filter_map(|line| {
        let library = line.split_once("=> ").map_or(line, |(_, path)| path).trim();
        library.split(' ').next().filter(|path| path.starts_with('/'))
    })
}

/// A cpio archive in the format that the kernel reads
/// (`Documentation/driver-api/early-userspace/buffer-format.rst`).
struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large"))?;
        let name_size = u32::try_from(name.len() + 1).context("a name is too long")?;
        // Inode, mode, owner, group, links, time, size, four device numbers, length of the name,
        // checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut header = String::from("070701");
        header.extend(fields.map(|field| format!("{field:08x}")));
        let write = |out: &mut W, bytes: &[u8], len: usize| -> io::Result<()> {
            out.write_all(bytes)?;
            out.write_all(vec![0; len.next_multiple_of(4) - bytes.len()].as_slice())
        };
        let head = [header.as_bytes(), name.as_bytes(), b"\0"].concat();
        write(&mut self.out, &head, head.len())?;
        write(&mut self.out, content, content.len())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let ldd = "\tlinux-vdso.so.1 (0x00007ffd)\n\
                   \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f01)\n\
                   \t/lib64/ld-linux-x86-64.so.2 (0x00007f02)\n";
        let paths: Vec<&str> = libraries(ldd).collect();
        assert_eq!(paths, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
        assert_eq!(libraries("\tstatically linked\n").count(), 0);
    }

    #[test]
    fn a_directory_comes_before_what_is_in_it() {
        let mut files = Initramfs::new(Path::new("/nowhere"));
        files.text("lib/x/y/z", "");
        files.text("init", "");
        let directories: Vec<String> = files.directories().into_iter().collect();
        let of_lib: Vec<&String> = directories.iter().filter(|d| d.starts_with("lib")).collect();
        assert_eq!(of_lib, ["lib", "lib/x", "lib/x/y"]);
        assert!(directories.contains(&"proc".to_owned()));
    }

    #[test]
    fn an_entry_is_aligned() {
        let mut archive = Archive { out: Vec::new(), inode: 0 };
        archive.entry("modules/order", FILE, b"veth\n").unwrap();
        let bytes = archive.out;
        assert!(bytes.starts_with(b"07070100000001000081ed"));
        // The header's 110 bytes, 14 of the name, five of content, each padded to four.
        assert_eq!(bytes.len(), 124 + 8);
        assert_eq!(&bytes[124..129], b"veth\n");
    }
}

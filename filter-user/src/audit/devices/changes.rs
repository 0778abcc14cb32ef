//! What is needed to undo the replacement of passwords: the old ones, in a file that only root can read. It
//! exists until the telephones are synchronised.
//!
//! wazo-provd keeps no earlier values. The new passwords are not in the file, only a salted hash of each, so that
//! `--undo` changes nothing that somebody else has changed since.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ::audit::devices::Field;
use ::audit::secret::Secret;
use anyhow::{Context as _, Result, ensure};
use md5::{Digest as _, Md5};
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The file. It is not in `/var/lib/ringfence`, where the service's user could replace it, and choose a password.
pub(super) const FILE: &str = "/var/lib/misc/ringfence.devices";

/// The longest file that is read, in bytes.
const LENGTH_MAX: u64 = 16 << 20;

/// A password that was replaced.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    pub(super) config: String,
    key: String,
    /// The old password; `None` if there was none.
    pub(super) old: Option<Secret>,
    salt: String,
    /// Hashes of the new password. There are several if it was replaced again: wazo-provd may have refused the last.
    checks: Vec<String>,
}

impl Change {
    /// A change that is about to be made.
    pub(super) fn new(
        config: &str,
        field: Field,
        old: Option<Secret>,
        new: &Secret,
    ) -> Result<Self> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).context("get random numbers")?;
        let salt = hex(&salt);
        let (config, key) = (config.to_owned(), field.key().to_owned());
        Ok(Self { config, key, old, checks: vec![check(&salt, new)], salt })
    }

    /// Which password it is.
    pub(super) fn field(&self) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.key() == self.key)
    }

    /// Whether this is the new password.
    pub(super) fn is_new(&self, password: &Secret) -> bool {
        self.checks.contains(&check(&self.salt, password))
    }
}

/// A hash that shows only whether a random password is the same.
fn check(salt: &str, password: &Secret) -> String {
    hex(&Md5::new().chain_update(salt).chain_update(password.expose()).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// All changes that can be undone.
#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    /// The wazo-provd that has them.
    place: String,
    pub(super) all: Vec<Change>,
    #[serde(skip)]
    file: PathBuf,
}

impl Changes {
    /// Reads the file. Without one there are no changes.
    pub(super) fn read(file: &Path, place: &str) -> Result<Self> {
        let mut changes = read(file)
            .with_context(|| format!("read {}", file.display()))?
            .unwrap_or(Self { place: place.to_owned(), all: Vec::new(), file: PathBuf::new() });
        file.clone_into(&mut changes.file);
        ensure!(
            changes.place == place,
            "passwords at {} were replaced before: synchronise those telephones, or use `--undo` there, first",
            changes.place
        );
        Ok(changes)
    }

    /// Adds a change that is about to be made. Of the old passwords, the first one is kept.
    pub(super) fn add(
        &mut self,
        config: &str,
        field: Field,
        old: Option<Secret>,
        new: &Secret,
    ) -> Result<()> {
        let is_it = |one: &&mut Change| one.config == config && one.key == field.key();
        match self.all.iter_mut().find(is_it) {
            Some(earlier) => earlier.checks.push(check(&earlier.salt, new)),
            None => self.all.push(Change::new(config, field, old, new)?),
        }
        self.write()
    }

    /// Writes the file, or removes it if there is nothing to undo.
    pub(super) fn write(&self) -> Result<()> {
        let written = if self.all.is_empty() {
            remove(&self.file)
        } else {
            replace(&self.file, &self.text())
        };
        written.with_context(|| format!("write {}", self.file.display()))
    }

    fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(1 << 20));
        let quoted = |word: &str| Zeroizing::new(serde_json::Value::from(word).to_string());
        text.push_str("{\"place\":");
        text.push_str(&quoted(&self.place));
        text.push_str(",\"all\":[");
        for (number, one) in self.all.iter().enumerate() {
            text.push_str(if number == 0 { "\n" } else { ",\n" });
            // They are hexadecimal.
            let checks = Zeroizing::new(format!("[\"{}\"]", one.checks.join("\",\"")));
            let old = one.old.as_ref();
            let old =
                old.map_or_else(|| Zeroizing::new("null".to_owned()), |old| quoted(old.expose()));
            for (head, value) in [
                ("{\"config\":", &quoted(&one.config)),
                (",\"key\":", &quoted(&one.key)),
                (",\"salt\":", &quoted(&one.salt)),
                (",\"checks\":", &checks),
                (",\"old\":", &old),
            ] {
                text.push_str(head);
                text.push_str(value);
            }
            text.push('}');
        }
        text.push_str("\n]}\n");
        text
    }
}

/// Removes the file.
pub(super) fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read(file: &Path) -> Result<Option<Changes>> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(file);
    let opened = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let metadata = opened.metadata()?;
    let for_others = metadata.mode() & 0o077;
    ensure!(
        metadata.is_file() && metadata.uid() == geteuid().as_raw() && for_others == 0,
        "others could have written it: remove it"
    );
    ensure!(metadata.len() <= LENGTH_MAX, "it has more than {} MiB", LENGTH_MAX >> 20);
    let mut bytes = Zeroizing::new(Vec::with_capacity(1 << 20));
    opened.take(LENGTH_MAX).read_to_end(&mut bytes)?;
    // The error might repeat a password.
    let parsed: Result<Changes, _> = serde_json::from_slice(&bytes);
    ensure!(parsed.is_ok(), "it is damaged: remove it, or restore it from a backup");
    Ok(parsed.ok())
}

/// Replaces the file in one step. The new one is never readable for others.
fn replace(file: &Path, text: &str) -> io::Result<()> {
    let new = file.with_extension("devices.new");
    remove(&new)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    to.write_all(text.as_bytes())?;
    to.sync_all()?;
    fs::rename(&new, file)?;
    // The new name must be on the disk before a password is replaced.
    file.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn add(changes: &mut Changes, config: &str, old: &str, new: &str) {
        changes.add(config, Field::Admin, Some(secret(old)), &secret(new)).unwrap();
    }

    #[test]
    fn changes_are_kept_until_they_are_undone() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ringfence.devices");
        let mut changes = Changes::read(&file, "here").unwrap();
        add(&mut changes, "a\"b", "old\\\u{e9}1", "new1");
        add(&mut changes, "c", "old2", "new2");
        add(&mut changes, "a\"b", "new1", "new3");
        changes.add("d", Field::User, None, &secret("new4")).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&file).unwrap();
        assert!(!text.contains("new"), "{text}");
        let read = Changes::read(&file, "here").unwrap();
        let old = |at: usize| read.all[at].old.as_ref().map(Secret::expose);
        assert_eq!(
            (old(0), old(1), old(2), read.all[2].field()),
            (Some("old\\\u{e9}1"), Some("old2"), None, Some(Field::User))
        );
        let is_new = |password: &str| read.all[0].is_new(&secret(password));
        assert_eq!(["new1", "new3", "new2"].map(is_new), [true, true, false]);
        assert!(Changes::read(&file, "there").unwrap_err().to_string().contains("at here"));
        let mut changes = read;
        changes.all.clear();
        changes.write().unwrap();
        assert!(!file.exists());
    }

    #[test]
    fn a_file_that_others_could_have_written_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        let mut changes = Changes::read(&file, "here").unwrap();
        add(&mut changes, "a", "hunter2", "new");
        symlink(&file, &link).unwrap();
        Changes::read(&link, "here").unwrap_err();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        Changes::read(&file, "here").unwrap_err();
        fs::write(&file, "{\"place\": [\"hunter2\"]}").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let why = format!("{:#}", Changes::read(&file, "here").unwrap_err());
        assert!(why.contains("damaged") && !why.contains("hunter2"), "{why}");
    }
}

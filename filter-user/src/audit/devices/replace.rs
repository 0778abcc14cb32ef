//! Replaces passwords after a yes for each, restores them, and synchronises the telephones.

use std::collections::BTreeSet;
use std::path::Path;

use ::audit::devices::{Field, Fix};
use ::audit::secret::Secret;
use ::audit::words::{count, shown};
use anyhow::{Context as _, Result, bail, ensure};
use zeroize::Zeroizing;

use super::Visit;
use super::changes::{self, Change, Changes};

/// The letters of a password: those that every telephone accepts.
const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The length of a password, as Wazo makes them. Some telephones accept no longer ones.
const LENGTH: usize = 16;

/// A conversation with the administrator.
pub trait Talk {
    /// Whether the answer to a question is yes.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    fn ask(&mut self, question: &str) -> Result<bool>;

    /// Says something.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    fn say(&mut self, text: &str) -> Result<()>;
}

/// A random password, of digits alone if a telephone accepts nothing else.
fn random(only_digits: bool) -> Result<Secret> {
    let letters = if only_digits { &LETTERS[52..] } else { &LETTERS[..] };
    // A multiple of the number of letters, so that each is equally likely.
    let limit = u8::MAX - u8::MAX % u8::try_from(letters.len())?;
    let mut text = Zeroizing::new(String::with_capacity(LENGTH));
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < LENGTH {
        getrandom::fill(&mut *bytes).context("get random numbers")?;
        let bytes = bytes.iter().filter(|byte| **byte < limit);
        let chosen = bytes.filter_map(|byte| letters.get(usize::from(*byte) % letters.len()));
        for letter in chosen.take(LENGTH - text.len()) {
            text.push(char::from(*letter));
        }
    }
    Ok(Secret::new(text.to_string()))
}

/// Replaces the passwords that are weak or missing, after a yes for each. Returns how many were replaced.
///
/// # Errors
///
/// If wazo-provd refuses, or what `undo` needs cannot be stored.
pub fn fix(visit: &Visit, talk: &mut impl Talk) -> Result<usize> {
    fix_with(visit, talk, Path::new(changes::FILE))
}

pub(super) fn fix_with(visit: &Visit, talk: &mut impl Talk, file: &Path) -> Result<usize> {
    let mut changes = Changes::read(file, visit.session.place())?;
    let mut done = 0;
    for fix in &visit.examined.fixes {
        let Fix { why, devices, field, .. } = fix;
        let concerned = count(*devices, "telephone");
        let question = format!("{why} ({concerned}). Set a random {} password?", field.name());
        if talk.ask(&question)? {
            let title = format!("replace the {} password of {}", field.name(), shown(&fix.config));
            replace(visit, fix, &mut changes).context(title)?;
            talk.say("done\n")?;
            done += 1;
        }
    }
    if done > 0 {
        let number =
            if done == 1 { "1 password is".to_owned() } else { format!("{done} passwords are") };
        talk.say(&format!(
            "{number} replaced in wazo-provd. The telephones have the old ones until they are synchronised: \
             `ringfence audit devices --synchronize`. Until then, `ringfence audit devices --undo` restores \
             the old ones.\n"
        ))?;
    }
    Ok(done)
}

fn replace(visit: &Visit, fix: &Fix, changes: &mut Changes) -> Result<()> {
    let Fix { config, field, only_digits, .. } = fix;
    let mut document = visit.session.config(config)?;
    let new = random(*only_digits)?;
    // First of all: if this process is killed, the change can be undone.
    changes.add(config, *field, document.password(*field), &new)?;
    document.set_password(*field, Some(&new))?;
    visit.session.replace(config, &document)?;
    let now = visit.session.config(config)?.password(*field);
    ensure!(
        now.is_some_and(|now| now.expose() == new.expose()),
        "wazo-provd accepted the new password, but has another one now"
    );
    Ok(())
}

/// Restores the passwords that were replaced and not changed since. Returns how many were restored.
///
/// # Errors
///
/// If there is nothing to restore, or some cannot be restored; those can be tried again.
pub fn undo(visit: &Visit, talk: &mut impl Talk) -> Result<usize> {
    undo_with(visit, talk, Path::new(changes::FILE))
}

pub(super) fn undo_with(visit: &Visit, talk: &mut impl Talk, file: &Path) -> Result<usize> {
    let mut changes = Changes::read(file, visit.session.place())?;
    ensure!(
        !changes.all.is_empty(),
        "no password was replaced since the telephones were synchronised"
    );
    let (mut done, mut failed) = (0, 0);
    let mut left = Vec::new();
    while let Some(change) = changes.all.pop() {
        let whose = change.field().map_or("unknown", Field::name);
        let name = format!("{}: {whose} password", shown(&change.config));
        match restore(visit, &change) {
            Ok(true) => {
                talk.say(&format!("{name} restored\n"))?;
                done += 1;
            }
            Ok(false) => talk.say(&format!("{name} changed since, so it stays as it is\n"))?,
            Err(why) => {
                talk.say(&format!("{name} not restored: {why:#}\n"))?;
                left.push(change);
                failed += 1;
            }
        }
    }
    left.reverse();
    changes.all = left;
    changes.write()?;
    if failed > 0 {
        bail!("{} could not be restored; try `--undo` again", count(failed, "password"));
    }
    Ok(done)
}

/// Whether the old password is in force again.
fn restore(visit: &Visit, change: &Change) -> Result<bool> {
    let Some(field) = change.field() else { return Ok(false) };
    let mut document = visit.session.config(&change.config)?;
    let now = document.password(field);
    if now.as_ref().map(Secret::expose) == change.old.as_ref().map(Secret::expose) {
        return Ok(true);
    }
    if !now.is_some_and(|now| change.is_new(&now)) {
        return Ok(false);
    }
    document.set_password(field, change.old.as_ref())?;
    visit.session.replace(&change.config, &document)?;
    Ok(true)
}

/// Synchronises the telephones whose passwords were replaced, after a yes, and forgets the old passwords. Returns
/// how many were asked to fetch their configuration.
///
/// # Errors
///
/// If there are none, or some cannot be synchronised; nothing is forgotten then.
pub fn synchronize(visit: &Visit, talk: &mut impl Talk) -> Result<usize> {
    synchronize_with(visit, talk, Path::new(changes::FILE))
}

pub(super) fn synchronize_with(visit: &Visit, talk: &mut impl Talk, file: &Path) -> Result<usize> {
    let changes = Changes::read(file, visit.session.place())?;
    ensure!(
        !changes.all.is_empty(),
        "no password was replaced since the telephones were synchronised"
    );
    let configs: BTreeSet<&str> = changes.all.iter().map(|change| &*change.config).collect();
    let of = |config: &&str| visit.inventory.devices_of(config);
    let devices: BTreeSet<&str> = configs.iter().flat_map(of).map(|device| &*device.id).collect();
    let question = format!(
        "Synchronise {}? They fetch their configuration, and some restart.",
        count(devices.len(), "telephone")
    );
    if !talk.ask(&question)? {
        return Ok(0);
    }
    let (mut done, mut failed) = (0, 0);
    let mut first = None;
    for device in &devices {
        match visit.session.synchronize(device) {
            Ok(()) => done += 1,
            Err(why) => {
                failed += 1;
                first.get_or_insert(format!("{}: {why:#}", shown(device)));
            }
        }
    }
    if let Some(first) = first {
        bail!("{} could not be synchronised, the first one is {first}", count(failed, "telephone"));
    }
    changes::remove(file).with_context(|| format!("remove {}", file.display()))?;
    talk.say(&format!(
        "{} asked to fetch the configuration; the old passwords are forgotten\n",
        if done == 1 { "1 telephone is".to_owned() } else { format!("{done} telephones are") }
    ))?;
    Ok(done)
}

/// Forgets the old passwords.
///
/// # Errors
///
/// If the file cannot be removed.
pub fn forget() -> Result<()> {
    let file = Path::new(changes::FILE);
    changes::remove(file).with_context(|| format!("remove {}", file.display()))
}

/// The number of replaced passwords whose telephones are not synchronised yet.
pub fn waiting(visit: &Visit) -> usize {
    let changes = Changes::read(Path::new(changes::FILE), visit.session.place());
    changes.map_or(0, |changes| changes.all.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_random() {
        for only_digits in [false, true] {
            let random = || random(only_digits).unwrap();
            let all: Vec<Secret> = (0..1000).map(|_| random()).collect();
            let distinct: BTreeSet<&str> = all.iter().map(Secret::expose).collect();
            assert_eq!(distinct.len(), all.len());
            let letters: BTreeSet<u8> = all.iter().flat_map(|one| one.expose().bytes()).collect();
            let expected = if only_digits { &LETTERS[52..] } else { &LETTERS[..] };
            assert_eq!(letters, expected.iter().copied().collect());
            for password in all {
                assert_eq!(password.expose().len(), LENGTH);
                assert!(::audit::passwords::weakness(&password, &["admin"]).is_none());
            }
        }
    }
}

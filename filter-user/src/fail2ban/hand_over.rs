//! Writes imported settings into a file of the configuration, and sends imported bans to the daemon.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
pub use api::TakenOver as HandedOver;
use api::{Decided, Durability, Request, TAKE_OVER_MAX, TakenOver};
use jiff::Timestamp;

use super::Ban;
use crate::config::{Config, SetBy};

/// The result of checking settings for `target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whether the file must be written: it does not exist, or has other settings.
    pub to_write: bool,
    /// Settings that another file sets with precedence, one line each.
    pub overruled: Vec<String>,
}

/// Checks whether settings can be written to `target`, a file in `conf.d` of the configuration at
/// `config`: the whole configuration must be valid with it. Writes nothing.
///
/// # Errors
///
/// If `target` exists with other settings, unless `force`; or if the configuration would not be valid.
pub fn check_settings(
    settings: &str,
    target: &Path,
    config: Option<&Path>,
    force: bool,
) -> Result<Checked> {
    let before = match fs::read_to_string(target) {
        Ok(before) => Some(before),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => return Err(why).with_context(|| format!("read {}", target.display())),
    };
    let own = Config::parse(target, settings.as_bytes());
    let whole = Config::load_with(config, target, settings.as_bytes());
    let (own, whole) = match (own, whole) {
        (Ok(own), Ok(whole)) => (own, whole),
        (Err(wrong), _) | (_, Err(wrong)) => bail!(
            "these settings would make the configuration invalid, so they are not written: {wrong}"
        ),
    };
    if before.as_ref().is_some_and(|before| before != settings) && !force {
        bail!("{} already exists with other settings; `--force` overwrites it", target.display());
    }
    let set = own.effective().into_iter().filter(|setting| setting.origin != SetBy::Default);
    let overruled = set.filter_map(|setting| match whole.origin(&setting.path) {
        SetBy::File { file, line } if file != target => Some(format!(
            "{}: {}:{line} sets it too, and takes precedence",
            setting.path,
            file.display()
        )),
        SetBy::File { .. } | SetBy::Default | SetBy::CommandLine => None,
    });
    let overruled = overruled.collect();
    Ok(Checked { to_write: before.as_deref() != Some(settings), overruled })
}

/// Writes settings that [`check_settings`] has accepted.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_settings(settings: &str, target: &Path, checked: &Checked) -> Result<()> {
    if checked.to_write { put(target, settings) } else { Ok(()) }
}

/// Replaces a file in one step.
fn put(target: &Path, text: &str) -> Result<()> {
    let directory = target.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let partial = target.with_extension("partial");
    fs::write(&partial, text)
        .and_then(|()| fs::rename(&partial, target))
        .with_context(|| format!("write {}", target.display()))
}

/// Sends bans to the daemon with `ask`, and returns the result for all of them.
///
/// # Errors
///
/// If the daemon does not answer.
pub fn hand_over(
    bans: &[Ban],
    now: Timestamp,
    mut ask: impl FnMut(&Request) -> Result<TakenOver>,
) -> Result<TakenOver> {
    let mut done = TakenOver {
        entered: 0,
        refused: BTreeMap::new(),
        enforcing: true,
        durability: Durability { durable: true, why: None },
    };
    let chunks = bans.len().div_ceil(TAKE_OVER_MAX);
    for (number, some) in bans.chunks(TAKE_OVER_MAX).enumerate() {
        let bans = some.iter().map(|ban| Decided {
            address: ban.network.addr(),
            jail: ban.jail.clone(),
            // Even a ban that ends within this second has some time left.
            seconds: ban.until.map(|until| {
                u64::try_from(until.as_second().saturating_sub(now.as_second())).unwrap_or(0).max(1)
            }),
        });
        let (bans, last) = (bans.collect(), number + 1 == chunks);
        let request = Request::TakeOver { bans, from: "fail2ban".to_owned(), last };
        let TakenOver { entered, refused, enforcing, durability } = ask(&request)?;
        done.entered += entered;
        for (why, count) in refused {
            *done.refused.entry(why).or_default() += count;
        }
        done.enforcing &= enforcing;
        if !durability.durable {
            done.durability = durability;
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_once_and_only_if_they_are_right() {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.yml");
        fs::write(&config, "jails: {sshd: {maxretry: 3}}\n").unwrap();
        let target = directory.path().join("conf.d/50-fail2ban.yml");
        let write = |settings: &str, force| {
            let checked = check_settings(settings, &target, Some(&config), force)?;
            write_settings(settings, &target, &checked).map(|()| checked.overruled)
        };
        write("jails: {sshd: {maxretry: 4}}\n", false).unwrap();
        let jails = Config::load(Some(&config)).unwrap().config.jails;
        assert_eq!(jails["sshd"].maxretry, 4);
        // The same settings again need no change.
        write("jails: {sshd: {maxretry: 4}}\n", false).unwrap();
        let why = write("jails: {}\n", false).unwrap_err().to_string();
        assert!(why.contains("`--force`"), "{why}");
        let why = write("jails: {sshd: {maxretry: 0}}\n", true).unwrap_err().to_string();
        assert!(why.contains("not written"), "{why}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "jails: {sshd: {maxretry: 4}}\n");
        write("jails: {sshd: {maxretry: 6}}\n", true).unwrap();
        assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
        fs::write(target.with_file_name("10-me.yml"), "jails: {sshd: {maxretry: 9}}\n").unwrap();
        let overruled = write("jails: {sshd: {maxretry: 6, bantime: 1h}}\n", true).unwrap();
        assert_eq!(overruled.len(), 1, "{overruled:?}");
        assert!(
            overruled[0].starts_with("jails.sshd.maxretry: ")
                && overruled[0].contains("10-me.yml:1")
        );
    }

    #[test]
    fn bans_are_handed_over_in_parts() {
        let now = Timestamp::from_second(1000).unwrap();
        let ban = |until| Ban {
            jail: "sshd".to_owned(),
            network: "192.0.2.1/32".parse().unwrap(),
            until: Some(Timestamp::from_second(until).unwrap()),
        };
        let mut bans = vec![ban(1060); TAKE_OVER_MAX];
        bans.push(ban(990));
        let mut seconds = Vec::new();
        let done = hand_over(&bans, now, |request| {
            let Request::TakeOver { bans, .. } = request else { panic!("{request:?}") };
            seconds.extend(bans.iter().map(|ban| ban.seconds.unwrap()));
            let entered = bans.len() as u64 - 1;
            let refused = BTreeMap::from([("known peers".to_owned(), 1)]);
            // The last part is not stored.
            let why = (entered == 0).then(|| "disk is full".to_owned());
            let durability = Durability { durable: why.is_none(), why };
            Ok(TakenOver { entered, refused, enforcing: true, durability })
        });
        let done = done.unwrap();
        assert_eq!((done.entered, &done.refused["known peers"]), (TAKE_OVER_MAX as u64 - 1, &2));
        assert_eq!((done.enforcing, done.durability.durable), (true, false));
        assert_eq!((seconds[0], seconds[TAKE_OVER_MAX]), (60, 1));
    }
}

//! The SIP accounts: from `pjsip.conf` with what it includes, and from Asterisk if it has more, for
//! example from a database.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use ::audit::accounts::{Account, password, printed_auth, printed_endpoints};
use anyhow::Result;
use zeroize::Zeroizing;

use super::{Missing, asterisk, program};
use crate::doctor::conf::Conf;

/// The program with which a Wazo host's `pjsip.conf` is written.
const CONFGEN: &str = "wazo-confgen";

/// How long to ask Asterisk for accounts that its files do not have.
const TIME_MAX: Duration = Duration::from_mins(1);

/// The accounts for incoming requests. Those for outgoing ones are chosen by others.
pub(super) fn read(etc: &Path, runs: bool, missing: &mut Missing) -> Vec<Account> {
    let conf = Conf::read_with(etc, "pjsip", confgen);
    let mut accounts = of_conf(&conf);
    let asked = if runs { ask(etc, &mut accounts, missing) } else { Ok(false) };
    match asked {
        Err(why) => missing.add("the SIP accounts in Asterisk", format!("{why:#}")),
        Ok(false) if conf.runs_programs() => {
            let why = "pjsip.conf takes a part from a program, and Asterisk cannot be asked";
            missing.add("some SIP accounts", why);
        }
        Ok(_) => {}
    }
    accounts
}

/// What the generator of a Wazo host prints. Asterisk runs it whenever it reads `pjsip.conf`.
fn confgen(command: &str) -> Option<Zeroizing<String>> {
    let mut words = command.split_whitespace();
    let path = Path::new(words.next()?);
    let is_generator = path.file_name().is_some_and(|name| name == CONFGEN);
    let arguments: Vec<&str> = words.collect();
    let is_usual = path.parent() == Some(Path::new("/usr/bin")) || path == Path::new(CONFGEN);
    if !is_generator || !is_usual || arguments.first() != Some(&"asterisk/pjsip.conf") {
        return None;
    }
    // Without it, the accounts are asked for one by one.
    program::secret_output(CONFGEN, &arguments).ok().flatten()
}

/// The accounts in the files.
fn of_conf(conf: &Conf) -> Vec<Account> {
    let blocks = conf.blocks();
    let of_type =
        |kind: &'static str| blocks.iter().filter(move |block| block.last("type") == Some(kind));
    let mut endpoints: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for endpoint in of_type("endpoint") {
        let names = endpoint.last("auth").unwrap_or_default().split(',').map(str::trim);
        for name in names.filter(|name| !name.is_empty()) {
            endpoints.entry(name).or_default().insert(endpoint.name.to_owned());
        }
    }
    let account = |block: &crate::doctor::conf::Block<'_>| {
        Some(Account {
            id: block.name.to_owned(),
            user: block.last("username").unwrap_or_default().to_owned(),
            endpoints: endpoints.get(block.name)?.clone(),
            password: password(
                block.last("password"),
                block.last("md5_cred"),
                block.last("password_digest"),
            )?,
        })
    };
    of_type("auth").filter_map(account).collect()
}

/// Adds the accounts that only Asterisk has. Returns whether it could be asked.
fn ask(etc: &Path, accounts: &mut Vec<Account>, missing: &mut Missing) -> Result<bool> {
    let Some(text) = asterisk::ask(etc, "pjsip show endpoints")? else { return Ok(false) };
    let known: BTreeSet<String> = accounts.iter().map(|one| one.id.clone()).collect();
    let others = printed_endpoints(&text).into_iter().filter(|(id, ..)| !known.contains(id));
    let until = Instant::now() + TIME_MAX;
    let mut left_out = 0_usize;
    for (id, user, endpoints) in others {
        // The name becomes a part of a command.
        let is_word = !id.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"');
        if Instant::now() > until || !is_word {
            left_out += 1;
            continue;
        }
        let shown = asterisk::ask_secret(etc, &format!("pjsip show auth {id}"))?;
        match shown.and_then(|text| printed_auth(&text)) {
            Some(password) => accounts.push(Account { id, user, endpoints, password }),
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let why = "Asterisk does not show them, or it took too long";
        missing.add(format!("{left_out} SIP accounts"), why);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ::audit::accounts::findings;

    use super::*;

    #[test]
    fn accounts_are_read_from_files() {
        let etc = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(etc.path().join(name), text).unwrap();
        write(
            "pjsip.conf",
            "[t](!)\ntype=auth\nauth_type=userpass\n\
             [1001]\ntype=endpoint\nauth=1001\n[1001](t)\nusername=1001\npassword=1001\n\
             [1002]\ntype=endpoint\nauth=a2\noutbound_auth=trunk\n#include more.conf\n",
        );
        write(
            "more.conf",
            "[a2](t)\nusername=1002\npassword=Quite\\;good9\n[trunk](t)\nusername=x\npassword=x\n\
             [unused](t)\nusername=y\npassword=y\n",
        );
        let mut missing = Missing::default();
        let accounts = read(etc.path(), false, &mut missing);
        let ids: Vec<&str> = accounts.iter().map(|one| &*one.id).collect();
        assert_eq!((ids, missing.0.len()), (vec!["1001", "a2"], 0));
        let found = findings(&accounts, &[]);
        assert_eq!(
            found.iter().map(|one| &*one.id).collect::<Vec<_>>(),
            ["sip-password/name/1001"]
        );
        write("pjsip.conf", "#exec /usr/local/bin/other-program\n");
        assert_eq!((read(etc.path(), false, &mut missing).len(), missing.0.len()), (0, 1));
    }

    #[test]
    fn only_the_generator_of_wazo_is_run() {
        for command in [
            "/bin/echo asterisk/pjsip.conf",
            "/tmp/wazo-confgen asterisk/pjsip.conf",
            "",
            "wazo-confgen x",
        ] {
            assert!(confgen(command).is_none(), "{command}");
        }
    }
}

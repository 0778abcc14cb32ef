//! `jails NAME` and `peers` as text and JSON.

use std::io::Write;
use std::net::IpAddr;

use anyhow::{Result, bail};
use api::{JailCounts, JailReport, JailTotal, Jails, Peer, PeersPage, Rule, Source, State, Status};
use serde::Serialize;

use crate::report::{count, left, line, shown_text, when, when_exactly};
use crate::rows::{self, Form};

/// A jail with its sources.
#[derive(Clone, Debug, Serialize)]
pub struct Jail {
    /// Its settings and counts.
    #[serde(rename = "jail")]
    pub report: JailReport,
    /// Its sources.
    pub sources: Vec<Source>,
    /// Whether bans drop packets; false in a dry run.
    pub enforcing: bool,
}

impl Jail {
    /// The jail of this name.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn of(name: &str, jails: Jails, status: Status) -> Result<Self> {
        let names: Vec<String> = jails.jails.iter().map(|jail| jail.name.clone()).collect();
        let Some(jail) = jails.jails.into_iter().find(|jail| jail.name == name) else {
            bail!("there is no jail `{}`; there are {}", shown_text(name), names.join(", "));
        };
        let sources = status.sources.into_iter().filter(|source| source.jail == name).collect();
        Ok(Self { report: jail, sources, enforcing: jails.enforcing })
    }
}

/// `jails NAME`.
pub fn jail(Jail { report: jail, sources, enforcing }: &Jail) -> String {
    let mut text =
        crate::report::jails(&Jails { jails: vec![jail.clone()], enforcing: *enforcing });
    let mut say = |words: String| line(&mut text, &words);
    if jail.increment {
        say("each further ban of a source lasts longer".to_owned());
    }
    if let Some(scope) = &jail.unproven_scope {
        say(format!("a ban with too few proven failures closes {scope}"));
    }
    let guessing = &jail.guessing;
    if guessing.maxretry > 0 || guessing.maxaccounts > 0 {
        say(format!(
            "slow guessing: {} failures or {} accounts within {}",
            guessing.maxretry, guessing.maxaccounts, guessing.findtime
        ));
    }
    if !jail.ignoreip.is_empty() {
        say("ignores:".to_owned());
        for ignored in &jail.ignoreip {
            say(format!("  {ignored}"));
        }
    }
    let JailCounts { failures, bans } = jail.since_start;
    say(format!(
        "since the daemon's start: {}, {}",
        count(failures, "failure"),
        count(bans, "ban")
    ));
    if let JailTotal { failures, bans, since: Some(since) } = &jail.total {
        say(format!(
            "since {}: {}, {}",
            when_exactly(since),
            count(*failures, "failure"),
            count(*bans, "ban")
        ));
    }
    if jail.forgotten > 0 {
        say(format!("{} forgotten early", count(jail.forgotten, "source")));
    }
    if sources.is_empty() {
        say("it reads nothing".to_owned());
    }
    for source in sources {
        let state = match source.state {
            State::Ok => "ok",
            State::Waiting => "waiting",
            State::Failed => "failed",
        };
        say(format!("reads {} ({state})", source.name));
        if !source.place.is_empty() {
            say(format!("  {}", shown_text(&source.place)));
        }
        let (lines, failures) = (count(source.events, "line"), count(source.failures, "failure"));
        say(format!(
            "  {lines}, {failures}, {} unwitnessed, {} lost",
            source.unwitnessed, source.lost
        ));
        for Rule { name, hits, last } in source.rules.iter().filter(|rule| rule.hits > 0) {
            let last = last.as_deref().map_or("-".to_owned(), when);
            say(format!("  rule {name}: {}, last at {last}", count(*hits, "line")));
        }
        let unused = source.rules.iter().filter(|rule| rule.hits == 0).count();
        if unused > 0 {
            say(format!("  {} without a matching line so far", count(unused, "rule")));
        }
    }
    text
}

/// Writes the peers that `page` returns, as text or as JSON. `page` is called with the address after
/// which to continue.
///
/// # Errors
///
/// If a page does not arrive, or `out` fails.
pub fn peers(
    mut page: impl FnMut(Option<IpAddr>) -> Result<PeersPage>,
    json: bool,
    out: impl Write,
) -> Result<()> {
    let form = Form { name: "peers", text: peer, none: "no peers are known\n" };
    let page = |after| page(after).map(|PeersPage { peers, next }| (peers, next));
    rows::write(&form, json, page, out)
}

/// A peer, below the names of the columns if it is the first.
fn peer(Peer { address, until, passed }: &Peer, is_first: bool) -> String {
    let head = if is_first { row("ADDRESS", "UNTIL", "LEFT", "PACKETS") } else { String::new() };
    head + &row(&address.to_string(), &when(until), &left(until), &passed.to_string())
}

fn row(address: &str, until: &str, left: &str, packets: &str) -> String {
    format!("{address:<39}  {until:<12}  {left:<6}  {packets}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples;

    #[test]
    fn a_jail_is_shown_with_what_it_reads() {
        let (jails, status) = (examples::jails(), examples::healthy());
        let jail = Jail::of("asterisk-wazo", jails.clone(), status.clone()).unwrap();
        let text = super::jail(&jail);
        assert!(text.contains("asterisk-wazo") && text.contains("reads "), "{text}");
        let own = text.lines().skip_while(|line| !line.starts_with("reads "));
        assert!(own.into_iter().all(|line| line.chars().count() <= 80), "{text}");
        let why = Jail::of("no\u{1b}ne", jails, status).unwrap_err().to_string();
        assert!(why.contains("asterisk-wazo") && !why.contains('\u{1b}'), "{why}");
    }

    #[test]
    fn any_number_of_peers_is_one_document() {
        for number in [0_u32, 1, 600] {
            let write = |json| {
                let mut from = 0;
                let page = |_after| {
                    let until = (from + 256).min(number);
                    let peer = |number: u32| Peer {
                        address: IpAddr::from(number.to_be_bytes()),
                        until: "2031-01-02T00:00:00Z".to_owned(),
                        passed: 7,
                    };
                    let peers = (from..until).map(peer).collect();
                    from = until;
                    let next = (until < number).then(|| IpAddr::from(until.to_be_bytes()));
                    Ok(PeersPage { peers, next })
                };
                let mut out = Vec::new();
                peers(page, json, &mut out).unwrap();
                String::from_utf8(out).unwrap()
            };
            let value: serde_json::Value = serde_json::from_str(&write(true)).unwrap();
            assert_eq!(value["peers"].as_array().unwrap().len(), number as usize);
            let text = write(false);
            assert_eq!(text.lines().count(), number as usize + 1);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        }
    }
}

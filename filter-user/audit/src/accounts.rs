//! The SIP accounts that strangers can try: the passwords that a guesser tries first, and the accounts
//! that are under attack now.

use std::collections::{BTreeMap, BTreeSet};

use api::{Attacked, AuditFinding, Severity};

use crate::passwords::{Weakness, weakness};
use crate::secret::{Secret, equal};
use crate::words::{count, part_of_id, shown};

/// The most accounts that have a finding of their own.
const FINDINGS_MAX: usize = 100;

/// The most names in one line of evidence.
const NAMES_MAX: usize = 20;

/// How to change a password.
const REMEDY: &str = "give the account a random password: on a Wazo host in the settings of the line, then synchronise \
     its phone; elsewhere in pjsip.conf, then `asterisk -rx 'pjsip reload'`";

/// A section `type=auth` with which an endpoint authenticates its clients.
#[derive(Clone, Debug)]
pub struct Account {
    /// The name of the section.
    pub id: String,
    /// The user name.
    pub user: String,
    /// The endpoints that use it.
    pub endpoints: BTreeSet<String>,
    /// The password.
    pub password: Password,
}

/// The password of an account.
#[derive(Clone, Debug)]
pub enum Password {
    /// The password itself.
    Clear(Secret),
    /// Only a hash of it is configured.
    Hashed,
}

impl Account {
    /// Its names.
    fn names(&self) -> Vec<&str> {
        let endpoints = self.endpoints.iter().map(|one| &**one);
        [&*self.user, &*self.id].into_iter().chain(endpoints).collect()
    }

    fn shown(&self) -> String {
        if self.user == self.id || self.user.is_empty() {
            shown(&self.id)
        } else {
            format!("{} (user name {})", shown(&self.id), shown(&self.user))
        }
    }
}

/// The sections that endpoints use for incoming requests, each with its user name and endpoints, in what
/// `pjsip show endpoints` prints.
pub fn printed_endpoints(text: &str) -> Vec<(String, String, BTreeSet<String>)> {
    let mut endpoint = "";
    let mut found: BTreeMap<&str, (&str, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("Endpoint:") {
            let first = rest.split_whitespace().next().unwrap_or_default();
            // The caller's number follows the name.
            endpoint = first.split('/').next().unwrap_or_default();
        } else if let Some(rest) = line.strip_prefix("InAuth:") {
            let (id, user) = rest.trim().split_once('/').unwrap_or((rest.trim(), ""));
            let of = found.entry(id).or_insert_with(|| (user, BTreeSet::new()));
            of.1.insert(endpoint.to_owned());
        }
    }
    let found = found.into_iter();
    found.map(|(id, (user, of))| (id.to_owned(), user.to_owned(), of)).collect()
}

/// The password in what `pjsip show auth NAME` prints. `None` if it shows no section.
pub fn printed_auth(text: &str) -> Option<Password> {
    let value = |key: &str| {
        let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(key))?;
        rest.trim_start().strip_prefix(':').map(|value| value.strip_prefix(' ').unwrap_or(value))
    };
    value("auth_type")?;
    password(value("password "), value("md5_cred "), value("password_digest "))
}

/// The password of a section with these settings. `None` if it has none, so that nobody can use it.
pub fn password(
    password: Option<&str>,
    md5_cred: Option<&str>,
    password_digest: Option<&str>,
) -> Option<Password> {
    let is_set = |value: Option<&str>| value.is_some_and(|value| !value.is_empty());
    match password {
        Some(clear) if !clear.is_empty() => Some(Password::Clear(Secret::new(clear.to_owned()))),
        _ if is_set(md5_cred) || is_set(password_digest) => Some(Password::Hashed),
        Some(_) | None => None,
    }
}

/// An account with what is wrong with its password, and who attacks it.
struct Weak<'a> {
    account: &'a Account,
    weakness: Weakness,
    attack: Option<Attack>,
}

/// The failures on an account that count at present.
#[derive(Clone, Copy, Default)]
struct Attack {
    failures: u64,
    sources: u64,
}

/// What is wrong with the accounts. `attacked` are those on which many sources fail at present.
pub fn findings(accounts: &[Account], attacked: &[Attacked]) -> Vec<AuditFinding> {
    let mut of_name: BTreeMap<&str, Attack> = BTreeMap::new();
    for one in attacked {
        let sum = of_name.entry(&one.account).or_default();
        sum.failures = sum.failures.saturating_add(one.failures);
        sum.sources = sum.sources.max(one.sources);
    }
    let attack =
        |account: &Account| account.names().into_iter().find_map(|name| of_name.get(name)).copied();
    let mut weak: Vec<Weak<'_>> = Vec::new();
    let mut hashed = 0;
    for account in accounts {
        match &account.password {
            Password::Clear(secret) => {
                let found = weakness(secret, &account.names());
                weak.extend(found.map(|weakness| Weak {
                    account,
                    weakness,
                    attack: attack(account),
                }));
            }
            Password::Hashed => hashed += 1,
        }
    }
    weak.sort_by(|one, other| {
        let key = |weak: &Weak<'_>| (weak.attack.is_none(), weak.weakness);
        key(one).cmp(&key(other)).then_with(|| one.account.id.cmp(&other.account.id))
    });
    let mut findings: Vec<AuditFinding> =
        weak.iter().take(FINDINGS_MAX).map(weak_in_words).collect();
    findings.extend(more(weak.get(FINDINGS_MAX..).unwrap_or_default()));
    findings.extend(shared(accounts));
    findings.extend(only_attacked(accounts, &weak, attack));
    findings.extend(only_hashed(hashed));
    findings
}

fn weak_in_words(weak: &Weak<'_>) -> AuditFinding {
    let Weak { account, weakness, attack } = weak;
    let severity = if attack.is_some() { Severity::Critical } else { weakness.severity() };
    let mut evidence =
        vec![format!("endpoint {}", listed(account.endpoints.iter().map(|one| shown(one))))];
    evidence.extend(attack.map(attack_in_words));
    let reason = if attack.is_some() {
        "strangers are guessing the password of this account now, and will find it"
    } else {
        "guessers try such passwords first; anybody who has it makes calls at your expense"
    };
    AuditFinding {
        id: format!("sip-password/{}/{}", weakness.id(), part_of_id(&account.id)),
        severity,
        title: format!("SIP account {}: its password {}", account.shown(), weakness.in_words()),
        reason: reason.to_owned(),
        evidence,
        remedy: REMEDY.to_owned(),
        line: None,
        page: None,
    }
}

fn attack_in_words(attack: Attack) -> String {
    let Attack { failures, sources } = attack;
    format!("under attack now: {failures} failures that count, from {sources} sources")
}

/// The weak accounts without a finding of their own.
fn more(weak: &[Weak<'_>]) -> Option<AuditFinding> {
    let severity = weak.iter().map(|one| one.weakness.severity()).max()?;
    Some(AuditFinding {
        id: "sip-password/more".to_owned(),
        severity,
        title: format!("{} have weak passwords", count(weak.len(), "more SIP account")),
        reason: "guessers try such passwords first".to_owned(),
        evidence: vec![listed(weak.iter().map(|one| one.account.shown()))],
        remedy: REMEDY.to_owned(),
        line: None,
        page: None,
    })
}

/// Accounts with equal passwords.
fn shared<'a>(accounts: &'a [Account]) -> Vec<AuditFinding> {
    let with_secret = |account: &'a Account| match &account.password {
        Password::Clear(secret) => Some((account, secret)),
        Password::Hashed => None,
    };
    let with: Vec<(&Account, &Secret)> = accounts.iter().filter_map(with_secret).collect();
    let groups = equal(with.iter().map(|(_, secret)| *secret));
    let finding = |group: Vec<usize>| {
        let all: Vec<&Account> = group.iter().filter_map(|at| Some(with.get(*at)?.0)).collect();
        let first = all.first()?;
        Some(AuditFinding {
            id: format!("sip-password/shared/{}", part_of_id(&first.id)),
            severity: Severity::Warning,
            title: format!("{} have the same password", count(all.len(), "SIP account")),
            reason: "anybody who finds it for one account has the others too".to_owned(),
            evidence: vec![listed(all.iter().map(|one| one.shown()))],
            remedy: REMEDY.to_owned(),
            line: None,
            page: None,
        })
    };
    groups.into_iter().take(FINDINGS_MAX).filter_map(finding).collect()
}

/// Accounts that are under attack, although nothing is wrong with their passwords.
fn only_attacked(
    accounts: &[Account],
    weak: &[Weak<'_>],
    attack: impl Fn(&Account) -> Option<Attack>,
) -> Option<AuditFinding> {
    let weak: BTreeSet<&str> = weak.iter().map(|one| &*one.account.id).collect();
    let others = accounts.iter().filter(|one| !weak.contains(&*one.id));
    let all: Vec<String> = others
        .filter_map(|one| Some(format!("{}: {}", one.shown(), attack_in_words(attack(one)?))))
        .collect();
    if all.is_empty() {
        return None;
    }
    let number = all.len();
    let mut evidence: Vec<String> = all.into_iter().take(NAMES_MAX).collect();
    if number > NAMES_MAX {
        evidence.push(format!("and {} more", number - NAMES_MAX));
    }
    Some(AuditFinding {
        id: "sip-attacked".to_owned(),
        severity: Severity::Note,
        title: format!(
            "{} under attack, with no password that is found soon",
            count(number, "SIP account")
        ),
        reason: "many sources fail on them at present; `ringfence jails` shows how many".to_owned(),
        evidence,
        remedy: "nothing, as long as the passwords stay random".to_owned(),
        line: None,
        page: None,
    })
}

/// Accounts of which only a hash is configured.
fn only_hashed(number: usize) -> Option<AuditFinding> {
    (number > 0).then(|| AuditFinding {
        id: "sip-password/hashed".to_owned(),
        severity: Severity::Note,
        title: format!("{} could not be examined", count(number, "SIP account")),
        reason: "only a hash of the password is configured".to_owned(),
        evidence: Vec::new(),
        remedy: "nothing, if the passwords are random".to_owned(),
        line: None,
        page: None,
    })
}

/// Names in a line.
fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    let mut text = names.iter().take(NAMES_MAX).map(|name| &**name).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES_MAX {
        add!(text, " and {} more", names.len() - NAMES_MAX);
    }
    text
}

#[cfg(test)]
mod tests;

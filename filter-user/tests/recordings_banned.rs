//! The sources that the jail `asterisk-wazo` bans in recordings of a real Asterisk under attack: those
//! with as many failures as fail2ban's jail of that name would count.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use filter_user::clock::KernelTime;
use filter_user::config::{Config, JailSettings};
use filter_user::failure::Verdict;
use filter_user::jail::Jail;
use filter_user::parse::asterisk::parse;

/// How often each address of a recording failed, and how often the jail banned it.
fn heard(recorded: &[u8], settings: &JailSettings) -> BTreeMap<IpAddr, (usize, usize)> {
    let mut jail = Jail::new("asterisk-wazo", settings.clone(), 1000);
    let mut heard: BTreeMap<IpAddr, (usize, usize)> = BTreeMap::new();
    for (attempt, at) in recorded.split(|byte| *byte == b'\n').filter_map(parse).zip(0..) {
        if attempt.verdict == Verdict::Failure {
            heard.entry(attempt.address).or_default().0 += 1;
        }
        if let Some(decision) = jail.observe(&attempt, "asterisk-notice", KernelTime(at)) {
            heard.entry(decision.address).or_default().1 += 1;
        }
    }
    heard
}

#[test]
fn the_recorded_attackers_are_banned() {
    let settings = Config::default().jails["asterisk-wazo"].clone();
    let maxretry = settings.maxretry as usize;
    let mut as_fail2ban = JailSettings { maxaccounts: 0, ..settings.clone() };
    as_fail2ban.guessing.maxaccounts = 0;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/asterisk");
    let mut attackers = 0;
    for directory in ["wazo22", "stock22", "hostile"] {
        for file in fs::read_dir(fixtures.join(directory)).unwrap() {
            let path = file.unwrap().path();
            let recorded = fs::read(&path).unwrap();
            for (address, (failures, decisions)) in heard(&recorded, &as_fail2ban) {
                assert_eq!(decisions, failures / maxretry, "{address} in {}", path.display());
                attackers += usize::from(decisions > 0);
            }
            // With the defaults, sources that try many accounts are banned earlier.
            for (address, (failures, decisions)) in heard(&recorded, &settings) {
                let expected = failures >= maxretry;
                assert_eq!(decisions > 0, expected, "{address} in {}", path.display());
            }
        }
    }
    assert!(attackers > 10, "{attackers}");
}

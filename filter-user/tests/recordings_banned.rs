//! Whom the jail `asterisk-wazo` bans for what a real Asterisk wrote under attack: whoever has failed
//! as often as fail2ban's jail of that name would count.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use filter_user::clock::KernelTime;
use filter_user::config::Config;
use filter_user::failure::Verdict;
use filter_user::jail::Jail;
use filter_user::parse::asterisk::parse;

#[test]
fn the_recorded_attackers_are_banned() {
    let settings = Config::default().jails["asterisk-wazo"].clone();
    let maxretry = settings.maxretry as usize;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/asterisk");
    let mut attackers = 0;
    for directory in ["wazo22", "stock22", "hostile"] {
        for file in fs::read_dir(fixtures.join(directory)).unwrap() {
            let path = file.unwrap().path();
            let recorded = fs::read(&path).unwrap();
            let mut jail = Jail::new("asterisk-wazo", settings.clone(), 1000);
            let mut failures: BTreeMap<IpAddr, usize> = BTreeMap::new();
            let mut sentences: BTreeMap<IpAddr, usize> = BTreeMap::new();
            let lines = recorded.split(|byte| *byte == b'\n');
            for (attempt, at) in lines.filter_map(parse).zip(0..) {
                if attempt.verdict == Verdict::Failure {
                    *failures.entry(attempt.address).or_default() += 1;
                }
                if let Some(sentence) = jail.hear(&attempt, "asterisk-notice", KernelTime(at)) {
                    *sentences.entry(sentence.address).or_default() += 1;
                }
            }
            let expected: BTreeMap<IpAddr, usize> = failures
                .into_iter()
                .map(|(address, failures)| (address, failures / maxretry))
                .filter(|(_, sentences)| *sentences > 0)
                .collect();
            assert_eq!(sentences, expected, "{}", path.display());
            attackers += sentences.len();
        }
    }
    assert!(attackers > 10, "{attackers}");
}

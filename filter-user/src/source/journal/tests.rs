//! The journal's reader with a program in the place of `journalctl`, which ends and fails at the
//! test's pace. What the real one writes is in `tests/fixtures/sshd/journal.json`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use jiff::SignedDuration;
use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::fail2ban::{Filter, LogType, Options};

fn entry(cursor: &str, at: Timestamp, user: &str) -> String {
    serde_json::json!({
        "__CURSOR": cursor, "__REALTIME_TIMESTAMP": at.as_microsecond().to_string(),
        "_COMM": "sshd", "_UID": "0", "MESSAGE": format!("Invalid user {user} from 192.0.2.66 port 1"),
    })
    .to_string()
}

/// A journal whose program is this script, and its arguments in the file `arguments`.
fn journal(directory: &TempDir, script: &str) -> Journal {
    let journalctl = directory.path().join("journalctl");
    let arguments = directory.path().join("arguments");
    let script = format!("#!/bin/sh\necho \"$@\" >> {}\n{script}\n", arguments.display());
    fs::write(&journalctl, script).unwrap();
    fs::set_permissions(&journalctl, Permissions::from_mode(0o700)).unwrap();
    Journal { journalctl, entries: Entries::Sshd, place: None, max_age: Duration::from_mins(10) }
}

/// The attempts up to the first message with a state other than `Ok`, that state, and the position.
async fn observe(journal: &Journal) -> (Vec<Attempt>, SourceState, Option<String>) {
    let (outlet, mut heard) = mpsc::channel(8);
    let task = tokio::spawn(follow(
        journal.clone(),
        Lane::new(1, Duration::from_millis(100)),
        Outlet::new(0, outlet),
    ));
    let (mut attempts, mut place) = (Vec::new(), None);
    let state = loop {
        let news = timeout(Duration::from_secs(20), heard.recv()).await.unwrap().unwrap().1;
        attempts.extend(news.attempts);
        place = news.place.or(place);
        if news.state != SourceState::Ok {
            break news.state;
        }
    };
    task.abort();
    (attempts, state, place)
}

fn run(test: impl Future<Output = ()>) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn the_place_is_kept_and_gone_on_from() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let lines = [entry("s=1;i=1", now, "a"), entry("s=1;i=2", now, "b")].join("\n");
        let mut journal = journal(&directory, &format!("cat <<'END'\n{lines}\nEND\nexit 1"));
        let (attempts, state, place) = observe(&journal).await;
        let users: Vec<&str> = attempts.iter().filter_map(|a| a.account.as_deref()).collect();
        assert_eq!(users, ["a", "b"]);
        assert!(matches!(state, SourceState::Failed(why) if why.contains("journalctl ended")));
        assert_eq!(place.as_deref(), Some("s=1;i=2"));
        journal.place = place;
        observe(&journal).await;
        let arguments = fs::read_to_string(directory.path().join("arguments")).unwrap();
        let runs: Vec<&str> = arguments.lines().collect();
        assert!(
            runs[0].contains("--lines=0") && !runs[0].contains("--after-cursor"),
            "{arguments}"
        );
        assert!(runs[1].contains("--after-cursor=s=1;i=2"), "{arguments}");
        // A long message must be written in full.
        assert!(runs.iter().all(|run| run.contains("--all ")), "{arguments}");
    });
}

#[test]
fn what_is_old_counts_no_more() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let old = now - SignedDuration::from_secs(601);
        let lines = [entry("s=1;i=1", old, "old"), entry("s=1;i=2", now, "new")].join("\n");
        let journal = journal(&directory, &format!("cat <<'END'\n{lines}\nEND"));
        let (attempts, ..) = observe(&journal).await;
        let users: Vec<&str> = attempts.iter().filter_map(|a| a.account.as_deref()).collect();
        assert_eq!(users, ["new"]);
    });
}

#[test]
fn a_place_that_the_journal_does_not_know_is_given_up() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(&directory, "echo 'Failed to seek to cursor' >&2; exit 1");
        journal.place = Some("s=gone;i=1".to_owned());
        let (outlet, mut heard) = mpsc::channel(8);
        let task = tokio::spawn(follow(
            journal,
            Lane::new(1, Duration::from_millis(100)),
            Outlet::new(0, outlet),
        ));
        let mut failures = 0;
        while failures < 2 {
            let news = timeout(Duration::from_secs(20), heard.recv()).await.unwrap().unwrap().1;
            if let SourceState::Failed(why) = news.state {
                assert!(why.contains("seek to cursor"), "{why}");
                failures += 1;
            }
        }
        task.abort();
        let arguments = fs::read_to_string(directory.path().join("arguments")).unwrap();
        let runs: Vec<&str> = arguments.lines().collect();
        assert!(runs[0].contains("--after-cursor=s=gone;i=1"), "{arguments}");
        assert!(runs[1].contains("--lines=0"), "{arguments}");
    });
}

#[test]
fn without_journalctl_it_waits() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = journal(&directory, "");
        journal.journalctl = directory.path().join("absent");
        let (_, state, _) = observe(&journal).await;
        assert!(matches!(state, SourceState::Waiting(_)));
    });
}

#[test]
fn a_place_is_believed_only_if_it_looks_like_one() {
    for (text, believed) in
        [("s=ab12;i=1;b=c-d", true), ("", false), ("s=1\n--root=/", false), ("$(id)", false)]
    {
        assert_eq!(is_cursor(text), believed, "{text:?}");
    }
    assert!(!is_cursor(&"s".repeat(CURSOR_MAX + 1)));
}

/// Its lines cost more than it may take: some are left out, their cursors are not.
#[test]
fn a_journal_that_costs_too_much_is_read_to_its_end() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let filter = directory.path().join("web.conf");
        fs::write(&filter, "[Definition]\nfailregex = (?=(x+x+)+y)\\1z <HOST>\n").unwrap();
        let options = Options { log: LogType::Journal, ..Options::default() };
        let filter = Filter::load(filter.to_str().unwrap(), options).unwrap();
        let entry = serde_json::json!({
            "__CURSOR": "s=1;i=N", "__REALTIME_TIMESTAMP": Timestamp::now().as_microsecond().to_string(),
            "MESSAGE": "x".repeat(500),
        });
        let entries: Vec<_> =
            (1..=500).map(|n| entry.to_string().replace("i=N", &format!("i={n}"))).collect();
        fs::write(directory.path().join("entries"), entries.join("\n") + "\n").unwrap();
        let script = format!("cat {}/entries; exec sleep 60", directory.path().display());
        let mut journal = journal(&directory, &script);
        let units = vec!["_COMM=web".parse().unwrap()];
        journal.entries = Entries::Matching(units, Parser::Filter(Arc::new(filter)));
        let (outlet, mut heard) = mpsc::channel(8);
        let lane = Lane::new(1, Duration::from_millis(10));
        let task = tokio::spawn(follow(journal, lane, Outlet::new(0, outlet)));
        let (mut lines, mut lost, mut strain, mut place) = (0, 0, None, None);
        while lines < 500 {
            let news = timeout(Duration::from_mins(1), heard.recv()).await.unwrap().unwrap().1;
            (lines, lost) = (lines + news.lines, lost + news.lost);
            (strain, place) = (news.strain.or(strain), news.place.or(place));
        }
        task.abort();
        assert_eq!((lines, place.as_deref()), (500, Some("s=1;i=500")));
        let left_out = strain.unwrap().left_out;
        assert!(left_out > 0 && lost > 0 && lost + left_out == 500, "{left_out} {lost}");
    });
}

#[test]
fn a_jails_own_entries_are_read_by_its_filter() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let filter = directory.path().join("web.conf");
        fs::write(&filter, "[Definition]\nfailregex = ^\\S+ web\\[\\d+\\]: refused <HOST>$\n")
            .unwrap();
        let options = Options { log: LogType::Journal, ..Options::default() };
        let filter = Filter::load(filter.to_str().unwrap(), options).unwrap();
        let now = Timestamp::now();
        let entry = serde_json::json!({
            "__CURSOR": "s=1;i=1", "__REALTIME_TIMESTAMP": now.as_microsecond().to_string(),
            "_HOSTNAME": "pbx", "SYSLOG_IDENTIFIER": "web", "_PID": "7",
            "MESSAGE": "refused 192.0.2.66",
        });
        let mut journal = journal(&directory, &format!("echo '{entry}'"));
        let units = ["_SYSTEMD_UNIT=a.service _COMM=web", "_COMM=b"];
        let units = units.iter().map(|unit| unit.parse().unwrap()).collect();
        journal.entries = Entries::Matching(units, Parser::Filter(Arc::new(filter)));
        let (attempts, _, place) = observe(&journal).await;
        assert_eq!(attempts[0].address, std::net::IpAddr::from([192, 0, 2, 66]));
        assert!(attempts[0].logged_at.is_some());
        assert_eq!((attempts.len(), place.as_deref()), (1, Some("s=1;i=1")));
        let arguments = fs::read_to_string(directory.path().join("arguments")).unwrap();
        assert!(arguments.trim_end().ends_with("_SYSTEMD_UNIT=a.service _COMM=web + _COMM=b"));
    });
}

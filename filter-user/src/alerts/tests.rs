//! The task, with commands that a shell runs.

use std::fs;
use std::path::{Path, PathBuf};

use api::{ActionMessage, AlertMessage, AlertSeverity, BanKind};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::target::ACTION_BATCH;
use super::*;
use crate::config::AlertKind;
use crate::examples::healthy;

fn config(text: &str) -> Config {
    Config::parse(Path::new("config.yml"), text.as_bytes()).unwrap().config
}

/// A command that appends each document to a file, a line each, after `first`.
fn to(file: &Path, first: &str) -> String {
    let script = format!("{first} cat >> {}", file.display());
    format!("command: [/bin/sh, -c, {}]", serde_json::to_string(&script).unwrap())
}

fn ban(number: u32) -> ActionEvent {
    ActionEvent {
        event: "ban".to_owned(),
        network: format!("{number}"),
        jail: "sshd".to_owned(),
        scope: "sip".to_owned(),
        kind: BanKind::Ban,
        proven: true,
        enforcing: true,
        since: String::new(),
        until: None,
        lifted: false,
        // Some are as long as they can be.
        reason: "\\\"".repeat(if number.is_multiple_of(50) { 1000 } else { 10 }),
        evidence: Vec::new(),
    }
}

async fn until(is: impl Fn() -> bool) {
    for _ in 0..3600 {
        if is() {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("it never was");
}

fn documents<T: serde::de::DeserializeOwned>(file: &PathBuf) -> Vec<T> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_bans_at_once_delay_nobody_and_none_is_lost() {
    const BANS: u32 = 10_000;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("bans");
    let actions = format!(
        "actions: {{report: {{{}}}}}\npaths: {{state: {}}}\n",
        to(&file, ""),
        directory.path().display()
    );
    let handle = start(&config(&actions));
    let began = Instant::now();
    for number in 0..BANS {
        handle.ban(|| ban(number));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let row = || handle.rows().actions[0].clone();
    until(|| row().waiting == 0 && row().events + row().lost == u64::from(BANS)).await;
    let messages: Vec<ActionMessage> = documents(&file);
    let events: Vec<u32> = messages
        .iter()
        .flat_map(|message| &message.events)
        .map(|event| event.network.parse().unwrap())
        .collect();
    let lost: u64 = messages.iter().map(|message| message.lost).sum();
    assert_eq!(events.len() as u64 + lost, u64::from(BANS));
    assert!(events.is_sorted(), "in the order in which they happened");
    assert_eq!((lost, row().lost), (0, 0));
    // What waited in a file has left none.
    let left = fs::read_dir(directory.path()).unwrap().flatten();
    assert_eq!(left.filter(|entry| entry.path() != file).count(), 0);
    assert!(messages.iter().all(|message| message.events.len() <= ACTION_BATCH));
    // A command takes what curl would take.
    let longest = fs::read_to_string(&file).unwrap().lines().map(str::len).max().unwrap();
    assert!(longest < 80_000, "{longest}");
}

/// A stop while nobody takes any, and a start when somebody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_outlives_a_restart() {
    const BANS: u32 = 5000;
    let directory = TempDir::new().unwrap();
    let (file, mark) = (directory.path().join("bans"), directory.path().join("mark"));
    let first = format!("test -e {} || exit 1;", mark.display());
    let config = config(&format!(
        "actions: {{report: {{{}}}}}\npaths: {{state: {}}}\n",
        to(&file, &first),
        directory.path().display()
    ));
    let kept = kept::place(directory.path(), "report");
    let waiting = |handle: &Handle| handle.rows().actions[0].waiting;
    let before = start(&config);
    for number in 0..BANS {
        before.ban(|| ban(number));
    }
    until(|| waiting(&before) == u64::from(BANS)).await;
    before.stop().await;
    assert!(kept.exists());
    // As it was, and some more.
    let between = start(&config);
    between.ban(|| ban(BANS));
    until(|| waiting(&between) == u64::from(BANS) + 1).await;
    assert!(!kept.exists());
    between.stop().await;

    fs::write(&mark, "").unwrap();
    let after = start(&config);
    until(|| after.rows().actions[0].events == u64::from(BANS) + 1).await;
    let messages: Vec<ActionMessage> = documents(&file);
    let events = messages.iter().flat_map(|message| &message.events);
    let events: Vec<u32> = events.map(|event| event.network.parse().unwrap()).collect();
    assert!(events.iter().copied().eq(0..=BANS), "all, once, in their order");
    assert_eq!(messages.iter().map(|message| message.lost).sum::<u64>(), 0);
    after.stop().await;
    assert!(!kept.exists(), "nothing waits");
}

/// Nobody takes any: memory and file have a bound, and what is beyond it is counted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bans_that_nobody_takes_are_counted() {
    let directory = TempDir::new().unwrap();
    let actions = format!(
        "actions: {{report: {{command: [/bin/sleep, '5']}}}}\npaths: {{state: {}}}\n",
        directory.path().display()
    );
    let handle = start(&config(&actions));
    let row = || handle.rows().actions[0].clone();
    let mut bans = 0;
    let mut more = async || {
        for number in 0..4096 {
            handle.ban(|| ActionEvent { reason: String::new(), ..ban(number) });
        }
        bans += 4096;
        until(|| {
            let row = row();
            row.waiting + row.lost + row.events == bans
        })
        .await;
        bans
    };
    // A slow disk loses some before the bound is reached.
    while row().waiting < 100_000 {
        assert!(more().await < 2_000_000, "{:?}", row());
    }
    let before = row().lost;
    for _ in 0..3 {
        more().await;
    }
    let row = row();
    assert!(row.waiting <= 102_000, "{row:?}");
    assert!(row.lost >= before + 3 * 4096 - 2_000 - row.events, "{row:?}");
}

#[tokio::test]
async fn an_alert_tells_its_events_and_a_reload_keeps_its_counts() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("told");
    let of = |more: &str| {
        let told = to(&file, "");
        config(&format!(
            "alerts: {{ops: {{events: [interface, network], {told}}}{more}}}\n\
             actions: {{ops: {{jails: [sshd], events: [unban], {told}}}}}"
        ))
    };
    let handle = start(&of(""));
    let once = |kind| move || Occurrence::once(kind, AlertSeverity::Notice, "x", "$(id)");
    handle.happened(once(AlertKind::Protected));
    handle.happened(once(AlertKind::Network));
    until(|| handle.rows().alerts[0].sent == 1).await;
    let messages: Vec<AlertMessage> = documents(&file);
    let [AlertMessage { alert, kind, events, .. }] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&**alert, &**kind, &*events[0].text), ("ops", "network", "$(id)"));

    handle.configure(&of(", other: {syslog: true}"));
    until(|| handle.rows().alerts.len() == 2).await;
    assert_eq!(handle.rows().alerts[0].sent, 1);
    let mut status = healthy();
    status.interfaces[0].protected = false;
    for _ in 0..3 {
        handle.look(Facts { status: status.clone(), accounts: Vec::new() });
    }
    until(|| handle.rows().alerts[0].sent == 2).await;
    let messages: Vec<AlertMessage> = documents(&file);
    assert_eq!((&*messages[1].kind, messages[1].severity), ("interface", AlertSeverity::Critical));

    // A ban of another jail, and the wrong event.
    handle.ban(|| ActionEvent { event: "unban".to_owned(), jail: "web".to_owned(), ..ban(1) });
    handle.ban(|| ban(2));
    handle.ban(|| ActionEvent { event: "unban".to_owned(), ..ban(3) });
    until(|| handle.rows().actions[0].sent == 1).await;
    let last = fs::read_to_string(&file).unwrap();
    let last: ActionMessage = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!((last.events.len(), &*last.events[0].network), (1, "3"));

    handle.configure(&config(""));
    until(|| handle.rows() == Alerts::default()).await;
    assert!(!handle.has_alerts());
    handle.ban(|| panic!("nobody wants it"));
}

#[tokio::test]
async fn a_failure_is_shown_and_a_test_says_whether_it_is_over() {
    let directory = TempDir::new().unwrap();
    let (file, mark) = (directory.path().join("told"), directory.path().join("mark"));
    let first = format!("test -e {} || {{ echo 'no team' >&2; exit 7; }};", mark.display());
    let handle = start(&config(&format!("alerts: {{ops: {{{}}}}}", to(&file, &first))));
    handle.happened(|| Occurrence::once(AlertKind::Network, AlertSeverity::Notice, "x", "y"));
    until(|| !handle.failing().is_empty()).await;
    let failing = handle.failing();
    assert!(failing[0].name == "ops" && failing[0].problem.ends_with("no team"), "{failing:?}");
    let test = |name: &str| handle.test(Some(name.to_owned())).unwrap();
    let why = test("none").await.unwrap().unwrap_err();
    assert_eq!(why, "there is no alert or action `none`; there are: ops");
    let tested = test("ops").await.unwrap().unwrap();
    assert!(tested.tested[0].problem.is_some(), "{tested:?}");
    fs::write(&mark, "").unwrap();
    let tested = test("ops").await.unwrap().unwrap();
    assert_eq!(tested.tested[0].problem, None);
    until(|| handle.failing().is_empty()).await;
    // The first attempt of the message was five seconds before the second.
    until(|| handle.rows().alerts[0].sent == 1).await;
    let kinds: Vec<String> =
        documents::<AlertMessage>(&file).into_iter().map(|message| message.kind).collect();
    assert_eq!(kinds, ["test", "network"]);
}

use std::collections::BTreeSet;

use api::AlertRow;

use super::*;

/// A snapshot with a sample of every metric.
fn full() -> Snapshot {
    let packets = |verdict, reason, count| Packets {
        interface: "et\"h\\0".to_owned(),
        verdict,
        reason,
        count,
        bytes: 100 * count,
    };
    let mut reactions = Reactions::default();
    reactions.add(Duration::from_millis(2), 3);
    reactions.add(Duration::from_mins(1), 1);
    Snapshot {
        packets: vec![packets("pass", "established", 7), packets("drop", "ban", 3)],
        would_drop: vec![packets("drop", "ban", 1)],
        bans: [(("sshd".to_owned(), "ssh".to_owned(), "ban"), 5)].into(),
        bans_made: vec![("sshd".to_owned(), 9)],
        failures: vec![(("sshd", "login", true), 11)],
        sources: [("sshd", (true, Some(1.5e9))), ("ami", (false, None))].into(),
        interfaces: vec![("eth0".to_owned(), "native", true)],
        feeds: vec![FeedCount {
            name: "drop".to_owned(),
            fetched: Some(1.5e9),
            entries: 3,
            ..FeedCount::default()
        }],
        values: Values {
            geo_up: Some(true),
            fleet_up: Some(false),
            fleet_hosts: Some(11),
            ..Values::default()
        },
        maps: vec![("bans", 5, 100)],
        reactions,
        alerts: Alerts {
            alerts: vec![AlertRow { name: "ops".to_owned(), sent: 4, ..AlertRow::default() }],
            actions: vec![AlertRow { name: "report".to_owned(), lost: 6, ..AlertRow::default() }],
        },
    }
}

#[test]
fn the_page_has_every_metric() {
    let text = page(full(), Process::read(), Format::OpenMetrics).unwrap();
    for line in [
        "# TYPE ringfence_packets counter",
        r#"ringfence_packets_total{interface="et\"h\\0",verdict="drop",reason="ban"} 3.0"#,
        r#"ringfence_bytes_total{interface="et\"h\\0",verdict="pass",reason="established"} 700.0"#,
        r#"ringfence_bans{jail="sshd",scope="ssh",kind="ban"} 5.0"#,
        r#"ringfence_bans_made_total{jail="sshd"} 9.0"#,
        r#"ringfence_failures_total{source="sshd",class="login",proven="true"} 11.0"#,
        "ringfence_unwitnessed_total 0.0",
        r#"ringfence_source_up{source="ami"} 0.0"#,
        r#"ringfence_source_last_event_timestamp_seconds{source="sshd"} 1500000000.0"#,
        r#"ringfence_protected{interface="eth0",mode="native"} 1.0"#,
        r#"ringfence_feed_up{feed="drop"} 0.0"#,
        r#"ringfence_feed_entries{feed="drop"} 3.0"#,
        "ringfence_fleet_up 0.0",
        "ringfence_fleet_hosts 11.0",
        r#"ringfence_map_capacity{map="bans"} 100.0"#,
        r#"ringfence_failure_to_ban_seconds_bucket{le="0.0025"} 3"#,
        r#"ringfence_failure_to_ban_seconds_bucket{le="+Inf"} 4"#,
        "ringfence_failure_to_ban_seconds_count 4",
        r#"ringfence_alert_messages_total{kind="alert",name="ops",result="sent"} 4.0"#,
        r#"ringfence_alert_events_total{kind="action",name="report",result="lost"} 6.0"#,
        r#"ringfence_alert_up{kind="alert",name="ops"} 1.0"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    let described: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    for (name, ..) in names() {
        let name = name.trim_end_matches("_total");
        assert!(described.contains(name), "{name}");
    }
    assert_eq!(described.len(), names().count());
    assert!(!text.contains("last_event_timestamp_seconds{source=\"ami\""), "{text}");
}

#[test]
fn the_older_format_differs_in_the_names_of_types() {
    let text = page(full(), Process::default(), Format::Prometheus).unwrap();
    assert!(text.contains("# TYPE ringfence_packets_total counter\n"), "{text}");
    assert!(!text.contains("# EOF"), "{text}");
}

#[test]
fn the_format_is_the_one_that_is_accepted() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;q=0.5,*/*;q=0.1";
    assert_eq!(Format::accepted(Some(prometheus)), Format::OpenMetrics);
    assert_eq!(Format::accepted(Some("text/plain")), Format::Prometheus);
    assert_eq!(Format::accepted(None), Format::Prometheus);
}

/// The page has the table of all metrics. `UPDATE_DOCS=1` writes it.
#[test]
fn every_metric_is_documented() {
    const HEAD: &str = "| metric | type | meaning |\n|---|---|---|\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, table) = page.split_once(HEAD).unwrap();
    let (_rows, after) = table.split_once("\n\n").unwrap();
    let rows: Vec<String> =
        names().map(|(name, kind, help)| format!("| `{name}` | {kind} | {help} |")).collect();
    let expected = format!("{before}{HEAD}{}\n\n{after}", rows.join("\n"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    assert!(
        page == expected,
        "docs/metrics.md: UPDATE_DOCS=1 cargo test -p filter-user --lib metrics"
    );
}

#[test]
fn a_file_has_no_metrics_that_its_reader_has_itself() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringfence.prom");
    let text = page(full(), Process::read(), Format::Prometheus).unwrap();
    assert!(text.contains("process_cpu_seconds_total"));
    write_textfile(&file, &text).unwrap();
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(!written.contains("process_"), "{written}");
    assert!(written.contains("# TYPE ringfence_packets_total counter\n"), "{written}");
    assert!(written.ends_with('\n'));
}

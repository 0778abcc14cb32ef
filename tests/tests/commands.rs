//! Commands that change, list and store an administrator's decisions, against a running daemon.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::time::Duration;

use ringfence_tests::scratch;
use ringfence_tests::site::Site;
use ringfence_tests::world::{ATTACKERS, OTHER_PORT, SIP_PORT, udp_reaches, until};
use serde_json::{Value, json};

/// The networks in a list of bans, in its order.
fn networks(site: &Site, line: &str) -> Vec<String> {
    let bans = site.bans(line).unwrap();
    bans.iter().map(|ban| ban["network"].as_str().unwrap().to_owned()).collect()
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_is_decided_while_it_runs_is_kept() {
    let mut site = Site::new(&[]).unwrap();
    let [one, two, ..] = ATTACKERS;
    site.done(&format!("ban {one}")).unwrap();
    site.done("ban 192.0.2.64/29").unwrap();
    assert!(!udp_reaches(&site.hosts.attacker, one, SIP_PORT).unwrap());
    let said = site.json(&format!("allow {one} --for 1h --comment branch")).unwrap();
    assert_eq!((&said["lifted"], &said["durable"]), (&json!(1), &json!(true)), "{said}");
    let settled = || networks(&site, "bans") == ["192.0.2.64/29"];
    assert!(until(Duration::from_secs(10), settled), "{:?}", networks(&site, "bans"));
    let reaches = |site: &Site| {
        let host = &site.hosts.attacker;
        [one, two].map(|source| udp_reaches(host, source, SIP_PORT).unwrap())
    };
    assert_eq!(reaches(&site), [true, false]);
    let why = site.json(&format!("why {one}")).unwrap();
    assert_eq!((&why["trusted"], &why["allowed"]["comment"]), (&json!(true), &json!("branch")));
    assert_eq!(site.run(&format!("ban {one}")).unwrap().status.code(), Some(1));
    let said = site.done("set sshd maxretry 3").unwrap();
    assert!(said.contains("sshd: maxretry is 3"), "{said}");
    assert_eq!(site.run("set nosuch maxretry 3").unwrap().status.code(), Some(1));
    assert_eq!(site.run("set sshd maxretry 0").unwrap().status.code(), Some(1));
    assert_eq!(site.run("set sshd port 3").unwrap().status.code(), Some(2));

    let Site { ringfence, hosts, .. } = &mut site;
    ringfence.kill().unwrap();
    ringfence.restart(&hosts.pbx).unwrap();
    site.done("reload").unwrap();
    assert_eq!(reaches(&site), [true, false]);
    let allows = site.json("allows").unwrap();
    assert_eq!(allows["allows"][0]["network"], one.to_string(), "{allows}");
    assert!(site.done("allows").unwrap().contains("branch"));
    let jails = site.json("jails").unwrap();
    let sshd = jails["jails"].as_array().unwrap().iter().find(|jail| jail["name"] == "sshd");
    let sshd = sshd.unwrap();
    assert_eq!((&sshd["maxretry"], &sshd["tuned"][0]["value"]), (&json!(3), &json!("3")));
    assert_eq!(site.json("status").unwrap()["allowed"], 1);

    site.done(&format!("disallow {one}")).unwrap();
    assert_eq!(reaches(&site), [false, false]);
    assert_eq!(site.run(&format!("disallow {one}")).unwrap().status.code(), Some(1));
    site.done("set sshd maxretry default").unwrap();
    site.done("allow 192.0.2.99 --for 1s").unwrap();
    let over = || site.json("allows").unwrap()["allows"] == json!([]);
    assert!(until(Duration::from_secs(20), over), "{}", site.json("allows").unwrap());

    let jail = site.json("jails sshd").unwrap();
    assert_eq!(jail["jail"]["name"], "sshd", "{jail}");
    assert!(site.done("jails sshd").unwrap().contains("sshd"));
    assert_eq!(site.run("jails nosuch").unwrap().status.code(), Some(1));
    assert_eq!(site.json("peers").unwrap()["peers"], json!([]));
    assert_eq!(site.done("peers 192.0.2.0/24").unwrap(), "no peers are known\n");

    let history = site.json("history").unwrap();
    let events = history["history"].as_array().unwrap();
    let of = |event: &str| events.iter().filter(|row| row["event"] == event).count();
    assert_eq!((of("ban-lifted"), of("ban-ended"), of("change")), (1, 0, 8), "{history}");
    assert!(events.iter().all(|row| row["event"] != "change" || row["by"] == "root"), "{history}");
    let of_one = site.json(&format!("history --since 1h {one}")).unwrap();
    // The ban, its end, the ban of the network around it, allow and disallow.
    assert_eq!(of_one["history"].as_array().unwrap().len(), 5, "{of_one}");
    let text = site.done("history").unwrap();
    assert!(text.contains("allow for 1h: branch"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn many_bans_are_read_listed_and_written_again() {
    let site = Site::new(&[]).unwrap();
    let [one, two, three, ..] = ATTACKERS;
    let said = site.done(&format!("ban {one} {two} --scope sip --reason scanners")).unwrap();
    assert!(said.contains("made 2 bans"), "{said}");
    let reaches = |source, port| udp_reaches(&site.hosts.attacker, source, port).unwrap();
    assert!(!reaches(one, SIP_PORT) && reaches(one, OTHER_PORT) && reaches(three, SIP_PORT));

    let directory = scratch::directory("commands").unwrap();
    let file = directory.path().join("list");
    let mut list = format!("# scanners\n{three} reason=one # two\nnonsense\n\n127.0.0.1 for=1h\n");
    let line = |n: u32| format!("203.0.{}.{} for=2h scope=sip\n", 100 + n / 250, n % 250);
    list.extend((0..500).map(line));
    list +=
        "198.51.100.0/24 until=never scope=ssh jail=sshd\n192.0.2.99 until=2020-01-01T00:00:00Z\n";
    fs::write(&file, &list).unwrap();
    let said = site.run(&format!("ban --from {}", file.display())).unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stdout.contains("made 502 bans"), "{said:?}");
    for word in ["list:3: `nonsense`", "list:5: 127.0.0.1 is never banned", "2 of 504"] {
        assert!(said.stderr.contains(word), "{said:?} does not say {word}");
    }
    assert_eq!(networks(&site, "bans").len(), 504);
    assert_eq!(networks(&site, "bans --jail sshd"), ["198.51.100.0/24"]);
    assert_eq!(networks(&site, "bans --scope all"), [three.to_string()]);
    assert_eq!(networks(&site, "bans --in 203.0.101.0/24").len(), 250);
    assert_eq!(networks(&site, "bans --since 1h").len(), 504);
    assert_eq!(
        networks(&site, "bans --sort address --limit 2 --in 203.0.0.0/16"),
        ["203.0.100.0", "203.0.100.1"]
    );
    assert_eq!(networks(&site, "bans --sort end --limit 1"), [one.to_string()]);
    reaches(two, SIP_PORT);
    assert_eq!(networks(&site, "bans --sort packets --limit 1 --in 192.0.2.0/24").len(), 1);

    // An exported ban is complete when it is read again.
    let exported = site.done("bans --export").unwrap();
    assert_eq!(exported.lines().count(), 504);
    site.done("unban --all").unwrap();
    fs::write(&file, &exported).unwrap();
    let said = site.json(&format!("ban --from {}", file.display())).unwrap();
    assert_eq!((&said["done"], &said["refused_count"]), (&json!(504), &json!(0)), "{said}");
    let fields = |text: &str| -> Vec<Vec<String>> {
        let is_time = |word: &str| word.starts_with("until=2");
        let words = |line: &str| {
            line.split(' ').filter(|word| !is_time(word)).map(ToOwned::to_owned).collect()
        };
        text.lines().map(words).collect()
    };
    assert_eq!(fields(&site.done("bans --export").unwrap()), fields(&exported));
    assert_eq!(site.json("bans --jail sshd").unwrap()["bans"][0]["until"], Value::Null);

    let said = site.run(&format!("unban {one} 192.0.2.250")).unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stderr.contains("192.0.2.250 is not banned"), "{said:?}");
    assert!(reaches(one, SIP_PORT));
    let said = site.run(&format!("unban --from {}", file.display())).unwrap();
    assert!(said.stdout.contains("lifted 503 bans"), "{said:?}");
    assert!(networks(&site, "bans").is_empty());
    // Each manual change is in the log.
    let log = site.ringfence.log();
    for word in ["banned 203.0.101.249 for 2h, scope sip", "lifted 1 ban: 203.0.101.249"] {
        assert!(log.contains(word), "{word}");
    }
    drop(directory);
    site.end().unwrap();
}

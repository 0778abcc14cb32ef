//! `ringfence top` in a real terminal, against a running daemon.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use ringfence_tests::child::Running;
use ringfence_tests::ringfence::{self, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::site::Site;
use ringfence_tests::tmux::Tmux;
use ringfence_tests::world::{ATTACKERS, PBX, SIP_PORT, until};

/// The command line of `top` for a daemon.
fn line(ringfence: &Ringfence, options: &str) -> String {
    let (binary, socket) = (ringfence::built().unwrap(), ringfence.client().socket().to_owned());
    format!("{} --socket {} top {options}", binary.display(), socket.display())
}

/// Sends datagrams from an attacker until `done` says so.
fn while_packets_come<T>(site: &Site, work: impl FnOnce() -> T) -> T {
    let socket = site
        .hosts
        .attacker
        .run_in(|| {
            let socket = UdpSocket::bind((ATTACKERS[0], 0))?;
            socket.connect((PBX, SIP_PORT))?;
            Ok(socket)
        })
        .unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // The ban swallows it.
                socket.send(b"OPTIONS sip:1001@192.0.2.10 SIP/2.0\r\n\r\n").ok();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        is_over.store(true, Ordering::Relaxed);
        worked.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    })
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_attack_is_seen_and_an_administrator_acts() {
    let mut site = Site::new(&[]).unwrap();
    let [banned, other, ..] = ATTACKERS.map(|address| address.to_string());
    site.done(&format!("ban {banned}")).unwrap();
    let top = line(&site.ringfence, "--interval 500ms");
    let tmux = Tmux::start(80, 24, &format!("sh -c '{top}; echo ended $?; exec cat'")).unwrap();
    tmux.shows(&["enforcing", "1 ban", "[1 Overview]", "manual, flood"]).unwrap();
    while_packets_come(&site, || {
        // Nobody reports it to the daemon: its packets match a ban.
        tmux.shows(&[&format!("{banned} "), "banned packets", "ban 59m manual"]).unwrap();
    });
    // The list of bans, and the evidence.
    tmux.text("3").unwrap();
    tmux.shows(&["[3 Bans]", "no reason given", "by newest, page 1"]).unwrap();
    tmux.text("jw").unwrap();
    tmux.shows(&["why 192.0.2.66", "manual ban of 192.0.2.66"]).unwrap();
    tmux.key("Escape").unwrap();
    // A ban, with a question.
    tmux.shows(&["[3 Bans]", "REASON"]).unwrap();
    tmux.text("b").unwrap();
    tmux.key("C-u").unwrap();
    tmux.text(&format!("{other} 10m")).unwrap();
    tmux.shows(&[&format!("{other} 10m_")]).unwrap();
    tmux.key("Enter").unwrap();
    tmux.shows(&["Ban 192.0.2.67 for 10m, all ports? (y/n)"]).unwrap();
    assert_eq!(site.bans("bans").unwrap().len(), 1);
    tmux.text("y").unwrap();
    tmux.shows(&["2 bans", &format!("{other} ")]).unwrap();
    assert_eq!(site.bans("bans").unwrap().len(), 2);
    // And its end.
    tmux.text("u").unwrap();
    tmux.key("C-u").unwrap();
    tmux.text(&other).unwrap();
    tmux.key("Enter").unwrap();
    tmux.shows(&["Unban 192.0.2.67, and forget its failures? (y/n)"]).unwrap();
    tmux.text("y").unwrap();
    tmux.shows(&["1 ban "]).unwrap();
    // Other tabs and sizes.
    tmux.text("4").unwrap();
    tmux.shows(&["[4 Sources]", "asterisk-notice", "FAILED"]).unwrap();
    tmux.text("5").unwrap();
    tmux.shows(&["[5 Interfaces]", "eth0", "native", "FAULT"]).unwrap();
    tmux.resize(120, 40).unwrap();
    tmux.text("1").unwrap();
    let wide = tmux.shows(&["[1 Overview]", "ringfence 0.1.0"]).unwrap();
    assert_eq!(wide.lines().count(), 40);
    // A key that arrives together with a change of size is not lost: without `use-dev-tty` about one in sixty is,
    // on a busy machine.
    for turn in 0..40 {
        let (tab, title) =
            if turn % 2 == 0 { ("2", "[2 Attackers]") } else { ("1", "[1 Overview]") };
        tmux.resize_and_type(100 + turn, 40, tab).unwrap();
        tmux.shows(&[title]).unwrap();
    }
    tmux.resize(40, 10).unwrap();
    tmux.shows(&["[1 Overview]", "passed", "ATTACKER"]).unwrap();
    tmux.resize(80, 24).unwrap();
    // A daemon that stops and comes back.
    site.ringfence.stop().unwrap();
    tmux.shows(&["NO ANSWER since", "no daemon answers"]).unwrap();
    site.ringfence.restart(&site.hosts.pbx).unwrap();
    tmux.shows(&["enforcing", "the daemon answers again"]).unwrap();
    tmux.text("q").unwrap();
    tmux.shows(&["ended 0"]).unwrap();
    drop(tmux);
    site.end().unwrap();
}

/// Each line is where it belongs, on terminals of the usual sizes and when one becomes another, however many bans there
/// are.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn every_size_is_filled_and_nothing_more() {
    const BANS: u32 = 5000;
    let site = Site::new(&[]).unwrap();
    let address = |number: u32| Ipv4Addr::from_bits(0xc612_0000 + number);
    let mut lines: Vec<String> =
        (0..BANS).map(|number| format!("{} reason={number}", address(number))).collect();
    lines.push(ATTACKERS[0].to_string());
    site.ban_from(&lines.join("\n")).unwrap();
    let top = line(&site.ringfence, "--interval 500ms");
    let tabs = ["Overview", "Attackers", "Bans", "Sources", "Interfaces"];
    let sizes = [(80, 24), (132, 24), (200, 50), (80, 50), (200, 24), (132, 50)];
    while_packets_come(&site, || {
        let check = |tmux: &Tmux, (width, height): (u16, u16)| {
            for (number, name) in (1..).zip(tabs) {
                tmux.text(&number.to_string()).unwrap();
                let tab = format!("[{number} {name}]");
                // The help in the last line shows that all of it has been drawn at this size.
                let mut screen = String::new();
                let is_drawn = until(Duration::from_secs(30), || {
                    screen = tmux.screen().unwrap();
                    let lines: Vec<&str> = screen.lines().collect();
                    lines.len() == usize::from(height)
                        && lines[0].starts_with("enforcing ")
                        && lines[0].contains("5001 bans")
                        && lines[1].contains(&tab)
                        && lines[usize::from(height) - 1].contains("? help  q quit")
                        && screen.matches("? help").count() == 1
                        && screen.matches("ringfence 0.1.0").count() == 1
                });
                assert!(is_drawn, "{tab} at {width}x{height}:\n{screen}");
                assert!(screen.lines().all(|line| line.chars().count() <= usize::from(width)));
            }
            // A wide terminal has more of it.
            tmux.text("3").unwrap();
            let rows = usize::from(height) - 14;
            let shown = || tmux.screen().unwrap().matches("\n198.18.").count() >= rows;
            assert!(until(Duration::from_secs(30), shown), "{}", tmux.screen().unwrap());
        };
        for (width, height) in sizes {
            let tmux = Tmux::start(width, height, &top).unwrap();
            check(&tmux, (width, height));
        }
        // The same terminal, as its window changes.
        let tmux = Tmux::start(80, 24, &top).unwrap();
        for (width, height) in sizes {
            tmux.resize(width, height).unwrap();
            check(&tmux, (width, height));
        }
    });
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_terminal_is_as_it_was_after_a_signal() {
    let site = Site::new(&[]).unwrap();
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let script = scratch::directory("top").unwrap();
        let file = script.path().join("script");
        let top = line(&site.ringfence, "");
        let text =
            format!("trap : HUP INT\necho before\n{top}\necho ended $?\nstty -a\nexec cat\n");
        fs::write(&file, text).unwrap();
        let tmux = Tmux::start(80, 24, &format!("sh {}", file.display())).unwrap();
        tmux.shows(&["enforcing"]).unwrap();
        assert_eq!(
            (tmux.value("alternate_on").unwrap(), tmux.value("cursor_flag").unwrap()),
            ("1".into(), "0".into())
        );
        kill(tmux.process().unwrap(), signal).unwrap();
        let code = 128 + signal as i32;
        let screen =
            tmux.shows(&["before", &format!("ended {code}"), " icanon", " echo "]).unwrap();
        assert!(!screen.contains("-icanon") && !screen.contains("-echo "), "{screen}");
        assert_eq!(
            (tmux.value("alternate_on").unwrap(), tmux.value("cursor_flag").unwrap()),
            ("0".into(), "1".into())
        );
    }
    site.end().unwrap();
}

/// Over a slow connection, what is written matters.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn little_is_written_when_little_changes() {
    const LASTS: Duration = Duration::from_secs(10);
    let site = Site::new(&[]).unwrap();
    let [banned, ..] = ATTACKERS.map(|address| address.to_string());
    site.done(&format!("ban {banned}")).unwrap();
    let tmux = Tmux::start(80, 24, &line(&site.ringfence, "")).unwrap();
    tmux.shows(&["enforcing"]).unwrap();
    while_packets_come(&site, || {
        tmux.shows(&["banned packets"]).unwrap();
        let record = tmux.record().unwrap();
        let start = Instant::now();
        thread::sleep(LASTS);
        let written =
            u128::from(fs::metadata(record).unwrap().len()) * 1000 / start.elapsed().as_millis();
        assert!((1..2000).contains(&written), "{written} bytes a second");
    });
    drop(tmux);
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn without_colours_none_are_written() {
    let site = Site::new(&[]).unwrap();
    let top = line(&site.ringfence, "");
    for (line, coloured) in [
        (top.clone(), true),
        (format!("{top}--no-colour"), false),
        (format!("NO_COLOR=1 {top}"), false),
    ] {
        let tmux = Tmux::start(80, 24, &line).unwrap();
        tmux.shows(&["enforcing"]).unwrap();
        let shown = tmux.coloured().unwrap();
        let has = shown.contains("\x1b[38;5;");
        assert_eq!(has, coloured, "{shown:?}");
    }
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_plain_mode_says_what_has_changed() {
    let mut site = Site::new(&[]).unwrap();
    let directory = scratch::directory("plain").unwrap();
    let output = directory.path().join("output");
    let mut top = Command::new(ringfence::built().unwrap());
    top.arg("--socket").arg(site.ringfence.client().socket());
    top.args(["top", "--plain", "--interval", "500ms"]);
    top.stdin(Stdio::null()).stdout(fs::File::create(&output).unwrap());
    let top = Running::spawn("top", &mut top).unwrap();
    let said = |text: &str| {
        let has = || fs::read_to_string(&output).unwrap().contains(text);
        assert!(
            until(Duration::from_secs(30), has),
            "{text}\n{}",
            fs::read_to_string(&output).unwrap()
        );
    };
    said("the daemon is enforcing");
    said("interface eth0 is protected");
    said("source asterisk-notice has FAILED");
    let [banned, ..] = ATTACKERS.map(|address| address.to_string());
    site.done(&format!("ban {banned}")).unwrap();
    said("1 ban in force");
    while_packets_come(&site, || said(&format!("attacker {banned}: banned by manual")));
    site.ringfence.stop().unwrap();
    said("no answer from the daemon");
    site.ringfence.restart(&site.hosts.pbx).unwrap();
    said("the daemon answers again");
    let text = fs::read_to_string(&output).unwrap();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert_eq!(text.matches("interface eth0 is protected").count(), 1, "{text}");
    drop((top, directory));
    site.end().unwrap();
}

/// Whatever attackers call themselves, on the way through a log.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_names_of_attackers_move_nothing() {
    let mut site = Site::new(&[]).unwrap();
    let logs = scratch::directory("logs").unwrap();
    let log = logs.path().join("auth.log");
    fs::write(&log, "").unwrap();
    fs::write(logs.path().join("wazo-provd.log"), "").unwrap();
    let others = Some(logs.path().to_owned());
    site.ringfence.restart_with(&site.hosts.pbx, |config| config.other_logs = others).unwrap();
    let tmux = Tmux::start(100, 24, &line(&site.ringfence, "--interval 500ms")).unwrap();
    tmux.shows(&["enforcing"]).unwrap();
    tmux.text("4").unwrap();
    tmux.shows(&["sshd               ok"]).unwrap();
    tmux.text("2").unwrap();
    let names = [
        "plain",
        "\u{202e}gnp",
        "\u{6f22}\u{5b57}",
        "e\u{301}\u{301}",
        "a\u{9b}31mb",
        "\x1b]0;x\x07",
    ];
    let mut text = String::new();
    for (name, source) in names.iter().zip(ATTACKERS) {
        let time = jiff::Timestamp::now();
        let line = format!(
            "{time} pbx sshd[7]: Failed password for invalid user {name} from {source} port 5022 ssh2\n"
        );
        text.push_str(&line);
    }
    fs::write(&log, text).unwrap();
    let expected = ATTACKERS.iter().take(names.len()).map(|source| format!("{source} "));
    let expected: Vec<String> = expected.collect();
    let expected: Vec<&str> = expected.iter().map(|source| &**source).collect();
    let screen = tmux.shows(&expected).unwrap();
    for line in screen.lines() {
        assert!(line.chars().count() <= 100, "{line:?}");
        let is_plain = |c: char| c.is_ascii_graphic() || c == ' ' || c == '\u{2026}';
        assert!(line.chars().all(is_plain), "{line:?}");
        // The last column begins where it begins.
        if line.starts_with("192.0.2.") {
            let last: String = line.chars().skip(58).collect();
            assert_eq!(last, "1 of 5 sshd", "{line:?}");
        }
    }
    assert!(screen.contains(" plain ") && screen.contains("\\u{202e}gn"), "{screen}");
    drop((tmux, logs));
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn without_a_terminal_it_says_what_to_do() {
    let site = Site::new(&[]).unwrap();
    let said = site.run("top").unwrap();
    assert_eq!(said.status.code(), Some(1));
    assert!(said.stderr.contains("--plain"), "{said:?}");
    site.end().unwrap();
}

//! The page in Debian's Chromium, with 100,000 bans and names that try to be markup.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_tests::accessible;
use ringfence_tests::browser::Browser;
use ringfence_tests::child::{self, OnSignal};
use ringfence_tests::scratch;
use ringfence_tests::site::Site;
use ringfence_tests::world::{ATTACKERS, PBX, SIP_PORT, until};

const LIMIT: Duration = Duration::from_mins(1);
const BANS: u32 = 100_000;
const AT: &str = "http://127.0.0.1:9510";

/// Names that would run a script or break out of a tag if they were not escaped.
const NAMES: [&str; 6] = [
    "<script>document.title='pwned'</script>",
    "<img/src=x/onerror=document.title='pwned'>",
    "\"><svg/onload=document.title='pwned'>",
    "'onmouseover='document.title=1",
    "javascript:document.title='pwned'",
    "\u{202e}evil\u{2066}",
];

/// What is read of a page over TCP: its head and its text, and how long that took in milliseconds.
fn got(site: &Site, path: &str, arguments: &[&str]) -> (String, String, f64) {
    let mut curl = site.hosts.pbx.command("curl");
    curl.args(["--silent", "--include", "--noproxy", "*", "--max-time", "60"]);
    curl.args(["--write-out", "\n%{time_total}"]).args(arguments).arg(format!("{AT}{path}"));
    let done =
        child::finish("curl", &mut curl, LIMIT, OnSignal::Stop).unwrap().success("curl").unwrap();
    let (page, time) = done.stdout.rsplit_once('\n').unwrap();
    let (head, text) = page.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), text.to_owned(), 1000.0 * time.parse::<f64>().unwrap())
}

/// The median of the times that a page takes, in milliseconds.
fn time(site: &Site, path: &str, cookie: &str) -> f64 {
    let mut times: Vec<f64> = (0..15).map(|_| got(site, path, &["-H", cookie]).2).collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Logs in. Returns the cookie as a header.
fn cookie(site: &Site) -> String {
    let link = site.done("page").unwrap();
    let path = link.trim().strip_prefix(AT).unwrap().to_owned();
    let (head, _, _) = got(site, &path, &[]);
    assert!(head.starts_with("HTTP/1.1 303 "), "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    let (again, _, _) = got(site, &path, &[]);
    assert!(again.starts_with("HTTP/1.1 401 "), "a link is valid once: {again}");
    format!("Cookie: {}", cookie.split(';').next().unwrap())
}

fn many_bans(site: &Site) {
    let mut text = String::new();
    for number in 0..BANS {
        let [_, b, c, d] = number.to_be_bytes();
        writeln!(text, "198.{}.{c}.{d} for=1d scope=sip reason=guesser {number}", 18 + b).unwrap();
    }
    site.ban_from(&text).unwrap();
}

/// Has the attacker, who is banned, send packets for a few seconds.
fn flood(site: &Site) {
    site.done(&format!("ban {} --for 1h", ATTACKERS[1])).unwrap();
    for _ in 0..3 {
        site.hosts
            .attacker
            .run_in(|| {
                let socket = UdpSocket::bind((ATTACKERS[1], 0))?;
                for _ in 0..500 {
                    socket.send_to(b"OPTIONS sip:a SIP/2.0\r\n\r\n", (PBX, SIP_PORT))?;
                }
                Ok(())
            })
            .unwrap();
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Checks what holds for each view. Returns its text.
fn check(browser: &Browser, view: &str) -> String {
    let value = |expression: &str| browser.value(expression).unwrap();
    let title = value("document.title");
    assert!(title.as_str().unwrap().ends_with("· Ringfence"), "{view}: {title}");
    assert_eq!(value("document.scripts.length"), 0, "{view}");
    assert_eq!(value("document.images.length"), 1, "{view}");
    assert_eq!(
        value("document.querySelectorAll('[style], main svg:not(.share):not(.chart)').length"),
        0,
        "{view}"
    );
    let handlers = "Array.from(document.querySelectorAll('*')).filter(e => Array.from(e.attributes)\
        .some(a => a.name.startsWith('on') || /^\\s*javascript:/i.test(a.value) && a.name != 'value')).length";
    assert_eq!(value(handlers), 0, "{view}");
    assert_eq!(value("document.querySelectorAll('h1').length"), 1, "{view}");
    assert_eq!(
        value("document.querySelectorAll('main, nav[aria-label], header').length >= 3"),
        true,
        "{view}"
    );
    let unlabelled =
        "Array.from(document.querySelectorAll('input')).filter(e => e.labels.length == 0).length";
    assert_eq!(value(unlabelled), 0, "{view}");
    assert_eq!(
        value("Array.from(document.querySelectorAll('table')).every(t => t.caption)"),
        true,
        "{view}"
    );
    let problems = accessible::problems(browser).unwrap();
    assert!(problems.is_empty(), "{view}: {problems:#?}");
    assert_eq!(browser.complaints().unwrap(), [""; 0], "{view}");
    browser.text().unwrap()
}

/// Has attackers fail with names that try to be markup, and others be banned and go on.
fn attacks(site: &Site, logs: &Path) {
    let mut log = String::new();
    for (number, name) in NAMES.iter().enumerate() {
        for _ in 0..7 {
            writeln!(log, "Nov 29 10:00:00 pbx sshd[{number}]: Failed password for invalid user {name} from 203.0.113.{} port 40000 ssh2", number + 1).unwrap();
        }
    }
    fs::write(logs.join("auth.log"), log).unwrap();
    for name in NAMES {
        site.ringfence.client().run(&["ban", "192.0.2.200", "--reason", name], false).unwrap();
    }
    let attacker = ATTACKERS[0].to_string();
    flood(site);
    site.done(&format!("ban {attacker} --for 1h")).unwrap();
    let told =
        || site.done("why 203.0.113.1").is_ok_and(|text| text.contains("failures on record"));
    assert!(until(LIMIT, told), "{}", site.ringfence.log());
}

/// Opens each view on each kind of screen. Returns the texts.
fn views(browser: &Browser) -> Vec<(&'static str, String)> {
    let pictures = std::env::var_os("RINGFENCE_PICTURES").map(PathBuf::from);
    let mut texts = Vec::new();
    for (screen, width, height, dark) in [
        ("desk", 1280, 1000, false),
        ("dark", 1280, 1000, true),
        // What is as wide as this can be enlarged to four times its size on a desk (WCAG 2.2, 1.4.10).
        ("phone", 320, 800, false),
        ("phone-dark", 320, 800, true),
    ] {
        browser.screen(width, height).unwrap();
        browser.dark(dark).unwrap();
        for (view, path) in [
            ("now", "/"),
            ("bans", "/bans"),
            ("found", "/bans?jail=&scope=&inside=192.0.2.200"),
            ("why", "/why?address=203.0.113.1"),
            ("why-not", "/why?address=%3Cscript%3Ealert(1)%3C/script%3E"),
            ("traffic", "/traffic?range=10m"),
            ("year", "/traffic?range=1y"),
            ("jails", "/jails"),
            ("findings", "/findings"),
        ] {
            browser.open(&format!("{AT}{path}")).unwrap();
            let text = check(browser, view);
            let wide = browser.value("document.documentElement.scrollWidth - innerWidth").unwrap();
            assert!(wide.as_i64().unwrap() <= 0, "{view} on {screen} is {wide} pixels too wide");
            let background =
                browser.value("getComputedStyle(document.body).backgroundColor").unwrap();
            assert_eq!(background == "rgb(15, 20, 25)", dark, "{background}");
            let problems = accessible::problems_of_focus(browser).unwrap();
            assert!(problems.is_empty(), "{view} on {screen}: {problems:#?}");
            if let Some(directory) = &pictures {
                browser.picture(&directory.join(format!("{view}-{screen}.png"))).unwrap();
            }
            texts.push((view, text));
        }
    }
    texts
}

/// How many milliseconds after a visitor asks for it something of the page is seen: the median of nine visits.
fn first_paint(browser: &Browser) -> f64 {
    let mut times: Vec<f64> = (0..9)
        .map(|_| {
            browser.open(&format!("{AT}/")).unwrap();
            let seen = "performance.getEntriesByName('first-contentful-paint').length";
            assert!(until(LIMIT, || browser.value(seen).unwrap() == 1));
            let time = "performance.getEntriesByName('first-contentful-paint')[0].startTime";
            browser.value(time).unwrap().as_f64().unwrap()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The banned packets in the traffic of the last hour.
fn dropped(site: &Site) -> u64 {
    let mut curl = std::process::Command::new("curl");
    curl.args(["--silent", "--unix-socket"]).arg(site.ringfence.client().socket());
    curl.arg("http://ringfence/1.0/traffic?step=second&since_seconds=3600");
    let done = child::finish("curl", &mut curl, LIMIT, OnSignal::Stop).unwrap();
    let answer: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    let points = answer["points"].as_array().unwrap().iter();
    points.filter_map(|point| point["reasons"]["banned"]["packets"].as_u64()).sum()
}

#[test]
#[ignore = "needs root for network namespaces and BPF, and Chromium"]
fn a_browser_shows_every_view() {
    let logs = scratch::directory("page-logs").unwrap();
    fs::write(logs.path().join("auth.log"), "").unwrap();
    fs::write(logs.path().join("wazo-provd.log"), "").unwrap();
    let mut site = Site::new(&[]).unwrap();
    let others = Some(logs.path().to_owned());
    site.ringfence
        .restart_with(&site.hosts.pbx, |config| {
            config.other_logs = others;
            config.more = "api: {listen: '127.0.0.1:9510', wazo_auth: ''}\n".to_owned();
        })
        .unwrap();
    assert!(
        until(LIMIT, || site.ringfence.log().contains("the API is at")),
        "{}",
        site.ringfence.log()
    );

    let header = cookie(&site);
    let empty = ["/", "/traffic", "/bans", "/jails"].map(|path| (path, time(&site, path, &header)));
    many_bans(&site);
    let full = ["/", "/traffic", "/bans", "/jails"].map(|path| (path, time(&site, path, &header)));
    println!("ms without bans: {empty:?}; with {BANS}: {full:?}");
    assert!(full.iter().all(|(_, time)| *time < 1000.0), "{full:?}");

    attacks(&site, logs.path());

    let browser = Browser::start(&site.hosts.pbx).unwrap();
    browser.open(&format!("{AT}/bans")).unwrap();
    assert!(browser.text().unwrap().contains("You are not logged in"));
    let complaints = browser.complaints().unwrap();
    assert!(complaints.iter().all(|one| one.contains("401")), "{complaints:?}");
    browser.open(site.done("page").unwrap().trim()).unwrap();
    assert!(!browser.value("location.href").unwrap().to_string().contains("key="));

    let painted = first_paint(&browser);
    println!("{painted} ms to the first paint of the page, with {BANS} bans");
    assert!(painted < 2000.0, "{painted}");

    let texts = views(&browser);
    let has = |view: &str, part: &str| {
        texts.iter().any(|(name, text)| *name == view && text.contains(part))
    };
    for (view, part) in [
        ("now", "Attackers now"),
        ("now", "<script>document.title='pwned'</script>"),
        ("now", "\\u{202e}evil"),
        ("bans", "100,0"),
        ("bans", "198.18.0.0"),
        ("found", "\\u{202e}evil\\u{2066}"),
        ("why", "203.0.113.1 is dropped"),
        ("why", "<script>document.title='pwned'</script>"),
        ("why-not", "this is not an address"),
        ("traffic", "Dropped packets by reason"),
        ("traffic", "banned"),
        ("year", "other-protocol"),
        ("jails", "sshd"),
        ("findings", "asterisk-notice"),
        ("findings", "There is none."),
    ] {
        assert!(
            has(view, part),
            "{view} has no {part}: {:?}",
            texts.iter().find(|(name, _)| *name == view)
        );
    }

    // An audit of the host stands there as soon as it is made.
    let audit = ["audit", "--asterisk-config", "/nonexistent"];
    let mut command = site.hosts.pbx.command(site.ringfence.client().binary());
    command.arg("-c").arg(site.ringfence.config_file()).args(audit);
    child::finish("ringfence audit", &mut command, LIMIT, OnSignal::Stop).unwrap();
    assert!(
        until(2 * LIMIT, || {
            browser.open(&format!("{AT}/findings")).unwrap();
            browser.text().unwrap().contains("Made ")
        }),
        "{}",
        browser.text().unwrap()
    );
    check(&browser, "findings");

    // The next page.
    browser.screen(1280, 1000).unwrap();
    browser.open(&format!("{AT}/bans?jail=manual")).unwrap();
    let next = browser.value("document.querySelector('a[rel=next]').href").unwrap();
    browser.open(next.as_str().unwrap()).unwrap();
    assert!(check(&browser, "next").contains("First page"));
    drop(browser);
    // The traffic outlives the daemon.
    site.ringfence.restart(&site.hosts.pbx).unwrap();
    assert_eq!(dropped(&site), 1500);
    drop(logs);
    site.end().unwrap();
}

/// A browser cannot change anything, and nobody sees anything without a login.
#[test]
#[ignore = "needs root for network namespaces and BPF"]
fn only_a_login_shows_anything() {
    let mut site = Site::new(&[]).unwrap();
    let none = site.run("page").unwrap();
    assert!(!none.status.success() && none.stderr.contains("api.listen"), "{none:?}");
    site.ringfence
        .restart_with(&site.hosts.pbx, |config| {
            config.more = "api: {listen: '127.0.0.1:9510', wazo_auth: ''}\n".to_owned();
        })
        .unwrap();
    assert!(
        until(LIMIT, || site.ringfence.log().contains("the API is at")),
        "{}",
        site.ringfence.log()
    );
    let header = cookie(&site);
    for path in ["/", "/traffic", "/bans", "/why", "/jails", "/findings"] {
        for arguments in [&[][..], &["-H", "Cookie: ringfence="], &["-H", "Cookie: ringfence=0000"]]
        {
            let (head, text, _) = got(&site, path, arguments);
            assert!(head.starts_with("HTTP/1.1 401 "), "{path}: {head}");
            assert!(text.contains("ringfence page") && !text.contains("eth0"), "{text}");
        }
        let (head, _, _) = got(&site, path, &["-H", &header]);
        assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head}");
        for part in [
            "content-security-policy: default-src 'none'; ",
            "x-frame-options: DENY",
            "cache-control: no-store",
        ] {
            assert!(head.contains(part), "{path}: no {part}: {head}");
        }
        for arguments in [
            ["-H", &header, "-H", "Host: evil.example"],
            ["-H", &header, "-H", "Origin: http://evil.example"],
        ] {
            let (head, _, _) = got(&site, path, &arguments);
            assert!(head.starts_with("HTTP/1.1 403 "), "{path}: {head}");
        }
    }
    // The login is for the page only.
    for (method, path) in [
        ("GET", "/1.0/status"),
        ("POST", "/1.0/page"),
        ("DELETE", "/1.0/bans?all=true"),
        ("POST", "/"),
    ] {
        let (head, _, _) = got(&site, path, &["-X", method, "-H", &header]);
        assert!(
            head.starts_with("HTTP/1.1 4") && !head.starts_with("HTTP/1.1 400"),
            "{path}: {head}"
        );
    }
    site.end().unwrap();
}

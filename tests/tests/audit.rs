//! `ringfence audit` on a host with twenty listeners, some real services and some substitutes: it finds
//! exactly these.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
};
use ringfence_tests::asterisk::{self, Asterisk};
use ringfence_tests::child::{self, Finished, OnSignal, Running};
use ringfence_tests::netns::Netns;
use ringfence_tests::nginx::Nginx;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::sshd::Sshd;
use ringfence_tests::world::{Hosts, PBX, cache, nothing_is_left, until};
use serde_json::{Value, json};

/// How long an audit may take on a busy machine.
const AUDIT_LIMIT: Duration = Duration::from_mins(2);

/// An address of a private network.
const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9));

/// A name that would harm an unescaped page or terminal.
const HOSTILE: &str = "<b>\u{1b}[2J";

/// Substitutes: the name of the process, the transport, the address, and whether an IPv6 socket does not
/// accept IPv4.
const STAND_INS: [(&str, &str, &str, bool); 20] = [
    ("postgres", "tcp", "0.0.0.0:5432", false),
    ("beam.smp", "tcp", "[::]:5672", false),
    ("wazo-confd", "tcp", "0.0.0.0:9486", false),
    ("wazo-auth", "tcp", "127.0.0.1:9497", false),
    ("wazo-calld", "tcp", "[::1]:9500", true),
    ("wazo-phoned", "tcp", "0.0.0.0:9498", false),
    ("consul", "tcp", "192.0.2.10:8500", false),
    ("consul", "tcp", "127.0.0.1:8300", false),
    ("consul", "udp", "0.0.0.0:8301", false),
    ("monit", "tcp", "[::]:2812", true),
    ("in.tftpd", "udp", "0.0.0.0:69", false),
    ("ntpd", "udp", "0.0.0.0:123", false),
    ("ntpd", "udp", "[::]:123", true),
    ("ntpd", "udp", "127.0.0.1:123", false),
    ("master", "tcp", "127.0.0.1:25", false),
    ("munin-node", "tcp", "10.9.9.9:4949", false),
    ("redis-server", "tcp", "[::ffff:192.0.2.10]:6379", false),
    ("named", "udp", "[2001:db8::10]:53", true),
    (HOSTILE, "tcp", "0.0.0.0:7777", false),
    ("resolver", "udp", "0.0.0.0:50000", false),
];

/// A transport that the configuration of the filter does not have.
const TRANSPORT: &str = "[extra]\ntype = transport\nprotocol = udp\nbind = 0.0.0.0:5160\n";

/// The findings, except those about facts that could not be read on this machine.
const FINDINGS: [(&str, &str); 20] = [
    ("critical", "exposed/consul-http/tcp/8500"),
    ("critical", "exposed/consul-serf-lan/udp/8301"),
    ("critical", "exposed/postgresql/tcp/5432"),
    ("critical", "exposed/rabbitmq/tcp/5672"),
    ("critical", "exposed/redis/tcp/6379"),
    ("critical", "sip-unknown/udp/5160"),
    ("note", "exposed/munin/tcp/4949"),
    ("note", "exposed/ntp/udp/123"),
    ("note", "exposed/sip/tcp/5060"),
    ("note", "exposed/sip/udp/5060"),
    ("note", "exposed/sshd/tcp/22"),
    // Its own resolver has a socket.
    ("note", "exposed/udp/temporary/asterisk"),
    ("note", "exposed/udp/temporary/resolver"),
    ("warning", "exposed/_b__u_1b__2j/tcp/7777"),
    ("warning", "exposed/monit/tcp/2812"),
    ("warning", "exposed/named/udp/53"),
    ("warning", "exposed/nginx/tcp/8080"),
    ("warning", "exposed/tftp/udp/69"),
    ("warning", "exposed/wazo-confd/tcp/9486"),
    ("warning", "exposed/wazo-phoned/tcp/9498"),
];

/// A bound socket, which listens if it is a TCP socket.
fn bound(transport: &str, at: SocketAddr, v6_only: bool) -> anyhow::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if transport == "tcp" { SockType::Stream } else { SockType::Datagram };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    if at.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &v6_only)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(at))?;
    if transport == "tcp" {
        listen(&fd, Backlog::new(8)?)?;
    }
    Ok(fd)
}

/// A process with this name that is the only one with such a socket.
fn stand_in(
    host: &Netns,
    directory: &Path,
    (name, transport, at, v6_only): (&str, &str, &str, bool),
) -> Running {
    let at: SocketAddr = at.parse().unwrap();
    let fd = host.run_in(|| bound(transport, at, v6_only)).unwrap();
    let program = directory.join(name);
    if !program.exists() {
        symlink("/bin/sleep", &program).unwrap();
    }
    let mut command = host.command(&program);
    command.arg("3600").stdin(Stdio::from(fd)).stdout(Stdio::null()).stderr(Stdio::null());
    Running::spawn(name, &mut command).unwrap()
}

/// The number of sockets of a namespace by transport, family and port, from its own tables.
fn tables(host: &Netns) -> BTreeMap<(String, bool, u64), u64> {
    let read = || {
        let mut all = BTreeMap::new();
        for (table, state) in [("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")] {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{table}"))?;
            for line in text.lines().skip(1) {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let port = fields[1].split(':').nth(1).unwrap();
                if fields[3] == state {
                    let port = u64::from_str_radix(port, 16)?;
                    let key = (table[..3].to_owned(), table.len() == 4, port);
                    *all.entry(key).or_insert(0) += 1;
                }
            }
        }
        Ok(all)
    };
    host.run_in(read).unwrap()
}

/// The same by an audit.
fn audited(audit: &Value) -> BTreeMap<(String, bool, u64), u64> {
    let mut all = BTreeMap::new();
    for listener in audit["listeners"].as_array().unwrap() {
        // An IPv6 socket that is bound to an IPv4 address is in the table of IPv6.
        let is_mapped = listener["port"] == 6379;
        let is_v6 = listener["ipv6"] == true || is_mapped;
        let transport = listener["transport"].as_str().unwrap().to_owned();
        let key = (transport, is_v6, listener["port"].as_u64().unwrap());
        *all.entry(key).or_insert(0) += listener["sockets"].as_u64().unwrap();
    }
    all
}

/// The findings by severity and id, without the one about facts that could not be read on this machine.
fn findings(audit: &Value) -> Vec<(&str, &str)> {
    let all = audit["findings"].as_array().unwrap().iter();
    let pair = all.map(|one| (one["severity"].as_str().unwrap(), one["id"].as_str().unwrap()));
    let mut all: Vec<(&str, &str)> = pair.filter(|(_, id)| *id != "incomplete").collect();
    all.sort_unstable();
    all
}

/// The host with all its listeners. Fields are dropped in this order.
struct Site {
    ringfence: Ringfence,
    #[expect(dead_code, reason = "they run until they are dropped")]
    running: (Vec<Running>, Nginx, Sshd),
    asterisk: Asterisk,
    directory: tempfile::TempDir,
    hosts: Hosts,
}

impl Site {
    fn new() -> Self {
        let root = Asterisk::ensure_root(&cache().unwrap(), &mut |_progress| ()).unwrap();
        let hosts = Hosts::new().unwrap();
        let directory = scratch::directory("audit").unwrap();
        let mut ip = hosts.pbx.command("ip");
        ip.args(["addr", "add", &format!("{PRIVATE}/24"), "dev", "eth0"]);
        child::finish("ip", &mut ip, AUDIT_LIMIT, OnSignal::Stop).unwrap().success("ip").unwrap();
        let mut options = asterisk::Options::default();
        // Its password is followed by one more section of pjsip.conf.
        options.endpoints.push(("1009".to_owned(), format!("1009\n\n{TRANSPORT}")));
        let asterisk = Asterisk::start(&hosts.pbx, &root, &options).unwrap();
        let sshd = Sshd::start(&hosts.pbx, &root, &directory.path().join("auth.log")).unwrap();
        let nginx = Nginx::start(&hosts.pbx, &root, PBX).unwrap();
        let names = directory.path();
        let stand_ins = STAND_INS.iter().map(|one| stand_in(&hosts.pbx, names, *one)).collect();
        let binary = ringfence::built().unwrap();
        let config = Config::new(&asterisk.notice_log());
        let ringfence = Ringfence::start(&hosts.pbx, &binary, &config).unwrap();
        let running = (stand_ins, nginx, sshd);
        Self { ringfence, running, asterisk, directory, hosts }
    }

    /// Asterisk's directory of configuration.
    fn etc(&self) -> PathBuf {
        self.asterisk.ami_secret().parent().unwrap().to_owned()
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = self.hosts.pbx.command(ringfence::built().unwrap());
        command.arg("-c").arg(self.ringfence.config_file());
        command.arg("--socket").arg(self.ringfence.client().socket());
        command.arg("audit").args(arguments).arg("--asterisk-config").arg(self.etc());
        child::finish("ringfence audit", &mut command, AUDIT_LIMIT, OnSignal::Stop).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> (Value, Option<i32>) {
        let done = self.run(&[arguments, &["--json"]].concat());
        let value = serde_json::from_str(&done.stdout);
        (value.unwrap_or_else(|why| panic!("{why}: {done:?}")), done.status.code())
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk, sshd and nginx"]
fn every_listener_is_found_and_none_is_invented() {
    let site = Site::new();
    // A connected socket does not accept packets from others.
    let connected = site.hosts.pbx.run_in(|| {
        let socket = UdpSocket::bind((PBX, 7070))?;
        socket.connect((PBX, 9))?;
        Ok(socket)
    });

    let mut audit = Value::Null;
    let same = || {
        audit = site.json(&["ports"]).0;
        audited(&audit) == tables(&site.hosts.pbx)
    };
    assert!(until(AUDIT_LIMIT, same), "{:?}\n{:?}", audited(&audit), tables(&site.hosts.pbx));
    drop(connected.unwrap());
    let listeners = audit["listeners"].as_array().unwrap();
    for (name, transport, at, _) in STAND_INS {
        let at: SocketAddr = at.parse().unwrap();
        let is_it = |one: &&Value| {
            one["transport"] == transport
                && one["port"] == at.port()
                && one["address"] == at.ip().to_canonical().to_string()
        };
        let found: Vec<&Value> = listeners.iter().filter(is_it).collect();
        let [one] = found[..] else { panic!("{name} {at}: {found:?}") };
        let shown = if name == HOSTILE { r"<b>\u{1b}[2J" } else { name };
        assert_eq!((&one["process"], &one["user"]), (&json!(shown), &json!("root")));
    }
    for (port, name) in [(22, "sshd"), (8080, "nginx"), (5060, "asterisk")] {
        let of_port: Vec<&Value> = listeners.iter().filter(|one| one["port"] == port).collect();
        assert!(of_port.len() >= 2, "{name}: {of_port:?}");
        assert!(of_port.iter().all(|one| one["process"] == name), "{name}: {of_port:?}");
    }
    assert_eq!(findings(&audit), FINDINGS, "{audit:#}");
    let first = &audit["findings"][0];
    assert_eq!(first["id"], "sip-unknown/udp/5160");
    assert_eq!(first["line"], "sip: {udp: [5060, 5160], tcp: [5060, 5061]}");
    let postgresql = listeners.iter().find(|one| one["port"] == 5432).unwrap();
    assert_eq!(postgresql["guards"], json!(["the filter: bans only"]));

    let text = site.run(&["ports"]);
    assert_eq!(text.status.code(), Some(2));
    assert!(text.stdout.contains("0.0.0.0:5432") && !text.stdout.contains('\u{1b}'), "{text:?}");
    site.reports();
    drop(site);
    nothing_is_left().unwrap();
}

impl Site {
    /// The whole report in each form, and its new findings.
    fn reports(&self) {
        let page = self.run(&["--html", "-"]).stdout;
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
        assert!(page.contains("&lt;b&gt;") && !page.contains("<b>"), "{page}");
        let file = self.directory.path().join("baseline.json");
        let file = file.to_str().unwrap();
        let (accounts, status) = self.json(&["accounts"]);
        assert_eq!(findings(&accounts), [("critical", "sip-password/name/1009")], "{accounts:#}");
        assert_eq!((status, &accounts["listeners"]), (Some(2), &json!([])));
        let (all, status) = self.json(&["--write-baseline", file]);
        assert_eq!((status, &all["worst"]), (Some(2), &json!("critical")));
        assert_eq!(all["filter"]["interfaces"], json!(["eth0"]));
        let (none, status) = self.json(&["--baseline", file]);
        assert_eq!((findings(&none), status), (Vec::new(), Some(0)), "{none:#}");
        let names = self.directory.path();
        let new = stand_in(&self.hosts.pbx, names, ("mysqld", "tcp", "[::]:3306", false));
        let (one, status) = self.json(&["--baseline", file]);
        assert_eq!(findings(&one), [("critical", "exposed/mysql/tcp/3306")]);
        assert_eq!(status, Some(2));
        drop(new);
        self.firewall();
    }

    /// If rules close a port, its finding becomes a note.
    fn firewall(&self) {
        let rules = "add table inet t; add chain inet t in { type filter hook input priority 0; policy drop; }; \
                     add rule inet t in iifname lo accept; add rule inet t in ct state established,related accept; \
                     add rule inet t in tcp dport { 22, 9486 } accept; add rule inet t in udp dport 5060 accept";
        let mut nft = self.hosts.pbx.command("nft");
        let done = child::finish("nft", nft.arg(rules), AUDIT_LIMIT, OnSignal::Stop);
        done.unwrap().success("nft").unwrap();
        let (audit, _) = self.json(&["ports"]);
        let of_port = |port: u16| {
            let all = audit["listeners"].as_array().unwrap().iter();
            let of_port: Vec<&Value> = all.filter(|one| one["port"] == port).collect();
            of_port.iter().all(|one| one["closed"] == true)
        };
        for (port, is_closed) in
            [(5432, true), (5672, true), (22, false), (9486, false), (69, true)]
        {
            assert_eq!(of_port(port), is_closed, "{port}: {audit:#}");
        }
        let found = findings(&audit);
        assert!(found.contains(&("note", "exposed/postgresql/tcp/5432")), "{found:?}");
        assert!(found.contains(&("warning", "exposed/wazo-confd/tcp/9486")), "{found:?}");
    }
}

//! After maintenance: the phones of a whole site come back at once, and all get in.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use ringfence_tests::child::{self, OnSignal, Running};
use ringfence_tests::guesser::dial;
use ringfence_tests::netns::Netns;
use ringfence_tests::phone::{Account, Phone};
use ringfence_tests::sip::{self, Answer, Start};
use ringfence_tests::world::{PBX, PBX6, SIP_PORT, World, until};
use ringfence_tests::{asterisk, scratch};

/// The phones of each case.
const PHONES: u16 = 500;
/// Asterisk's port for SIP over TLS.
const TLS_PORT: u16 = 5061;
/// How long all of them may take on a busy machine.
const SOON: Duration = Duration::from_mins(3);
/// A phone registers once.
const ONCE: Duration = Duration::from_hours(1);
/// The reasons for which a limit drops a packet.
const LIMITS: [&str; 7] = [
    "register-limit",
    "syn-limit",
    "stream-limit",
    "prefix-limit",
    "shared-limit",
    "greylist",
    "known-limit",
];

/// The addresses of the phones: half of them IPv4, from two networks, and half of them IPv6, from one.
fn addresses() -> Vec<IpAddr> {
    let half = PHONES / 2;
    let v4 = (0..half).map(|n| {
        let [high, low] = (n / 125).to_be_bytes();
        assert_eq!(high, 0);
        let host = u8::try_from(n % 125).unwrap();
        IpAddr::from([10, 77, low, host + 1])
    });
    let v6 = (0..half).map(|n| IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, n + 1]));
    v4.chain(v6).collect()
}

fn run_ip(host: &Netns, arguments: &[&str]) {
    let mut command = host.command("ip");
    command.args(arguments);
    let done = child::finish("ip", &mut command, SOON, OnSignal::Stop).unwrap();
    done.success("ip").unwrap();
}

/// Starts all phones, and waits until each has registered once. Each has an account of its own.
fn register_all(world: &World, accounts: &[(String, String)], meanwhile: impl FnOnce()) {
    let phones: Vec<Phone> = addresses()
        .into_iter()
        .zip(accounts)
        .map(|(local, (name, password))| {
            let registrar = SocketAddr::new(if local.is_ipv4() { PBX } else { PBX6 }, SIP_PORT);
            let (name, password) = (name.clone(), password.clone());
            let account = Account { name, password, local, registrar };
            Phone::start(&world.hosts.attacker, account, ONCE).unwrap()
        })
        .collect();
    meanwhile();
    let is_done = || phones.iter().all(|phone| phone.report().attempts > 0);
    assert!(until(SOON, is_done), "{:?}", world.ringfence.status().unwrap().reasons);
    let mut reports = Vec::new();
    for phone in phones {
        reports.push(phone.finish());
    }
    let failed: Vec<_> = reports.iter().filter(|report| report.failures > 0).collect();
    let reasons = world.ringfence.status().unwrap().reasons;
    assert!(failed.is_empty(), "{} failed: {:?}\n{reasons:?}", failed.len(), failed.first());
}

fn accounts() -> Vec<(String, String)> {
    (0..PHONES).map(|n| (format!("site{n}"), format!("secret-of-{n}"))).collect()
}

fn world(accounts: &[(String, String)]) -> World {
    world_of(asterisk::Options::default(), accounts)
}

fn world_of(mut options: asterisk::Options, accounts: &[(String, String)]) -> World {
    options.endpoints.extend(accounts.iter().cloned());
    World::with(&options, |_defaults| ()).unwrap()
}

/// Closes or opens SIP.
fn maintenance(world: &World, arguments: &[&str]) {
    let all = [&["maintenance"], arguments].concat();
    world.ringfence.client().run(&all, false).unwrap().success("maintenance").unwrap();
}

/// The packets that a limit has dropped.
fn limited(world: &World) -> u64 {
    let reasons = world.ringfence.status().unwrap().reasons;
    LIMITS.iter().filter_map(|name| reasons.get(*name)).map(|count| count.packets).sum()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn all_phones_get_in_after_maintenance() {
    let accounts = accounts();
    let world = world(&accounts);
    let directory = scratch::directory("upgrade").unwrap();
    let batch = directory.path().join("addresses");
    let mut text = String::new();
    for address in addresses() {
        let (length, more) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
        writeln!(text, "addr add {address}/{length} dev eth0{more}").unwrap();
    }
    fs::write(&batch, text).unwrap();
    run_ip(&world.hosts.attacker, &["-batch", batch.to_str().unwrap()]);
    run_ip(&world.hosts.pbx, &["route", "add", "10.77.0.0/16", "dev", "eth0"]);
    run_ip(&world.hosts.pbx, &["-6", "route", "add", "fd77::/64", "dev", "eth0"]);

    // First they are new, then known.
    for is_known in [false, true] {
        maintenance(&world, &["on", "--for", "30m", "--closed-to-known"]);
        register_all(&world, &accounts, || maintenance(&world, &["off"]));
        assert_eq!(
            limited(&world),
            0,
            "known: {is_known}: {:?}",
            world.ringfence.status().unwrap().reasons
        );
    }
    drop(directory);
    world.end().unwrap();
}

/// Registers over a connection, as a phone does: with what it sends until it is known. Returns the last status.
fn register(
    mut stream: impl Read + Write,
    (transport, local): (&str, SocketAddr),
    (name, password): &(String, String),
) -> io::Result<u16> {
    let uri = format!("sip:{PBX}");
    let mut authorization = String::new();
    for cseq in 1.. {
        let request = format!(
            "REGISTER {uri} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};rport;branch=z9hG4bK{name}-{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{PBX}>;tag=phone\r\nTo: <sip:{name}@{PBX}>\r\n\
             Call-ID: stream-{name}\r\nCSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{name}@{local};transport={transport}>\r\nExpires: 120\r\n\
             User-Agent: Ringfence lab phone\r\n{authorization}Content-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut said = Vec::new();
        while !said.windows(4).any(|end| end == b"\r\n\r\n") {
            let mut more = [0; 4096];
            let length = stream.read(&mut more)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            said.extend_from_slice(&more[..length]);
        }
        let message = sip::parse(&said).unwrap();
        let Start::Response(status) = message.start else { continue };
        // An answer that was late for its nonce is challenged again.
        let Some(challenge) = message.challenge.filter(|_| status == 401 && cseq < 4) else {
            return Ok(status);
        };
        let answer =
            Answer { username: name, password, method: "REGISTER", uri: &uri, cnonce: "0a4f113b" };
        authorization = format!("Authorization: {}\r\n", answer.header(&challenge));
    }
    Ok(0)
}

/// A phone with this address and account. It returns the last status, or fails if it has lost its connection.
type Try = fn(&World, IpAddr, &(String, String)) -> io::Result<u16>;

fn over_tcp(world: &World, phone: IpAddr, account: &(String, String)) -> io::Result<u16> {
    let pbx = if phone.is_ipv4() { PBX } else { PBX6 };
    let target = SocketAddr::new(pbx, SIP_PORT);
    let stream = dial(&world.hosts.attacker, phone, target).map_err(io::Error::other)?;
    stream.set_read_timeout(Some(SOON))?;
    let local = stream.local_addr()?;
    register(stream, ("TCP", local), account)
}

fn over_tls(world: &World, phone: IpAddr, account: &(String, String)) -> io::Result<u16> {
    let pbx = if phone.is_ipv4() { PBX } else { PBX6 };
    let (target, local) = (SocketAddr::new(pbx, TLS_PORT), SocketAddr::new(phone, 0));
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(SOON))?;
    let mut openssl = world.hosts.attacker.command("openssl");
    openssl.args(["s_client", "-quiet", "-connect", &target.to_string()]);
    openssl.args(["-bind", &local.to_string()]).stderr(Stdio::null());
    openssl.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
    let client = Running::spawn("openssl", &mut openssl).map_err(io::Error::other)?;
    // The command has the other end of the pair, so that this one would not see the client's end.
    drop(openssl);
    let status = register(ours, ("TLS", local), account);
    drop(client);
    status
}

/// Registers a phone from each address, all at once. A phone that loses its connection dials again.
fn register_all_by(way: Try, world: &World, phones: &[IpAddr], accounts: &[(String, String)]) {
    thread::scope(|scope| {
        let phones: Vec<_> = phones
            .iter()
            .zip(accounts)
            .map(|(phone, account)| {
                scope.spawn(move || (0..60).find_map(|_| way(world, *phone, account).ok()))
            })
            .collect();
        let statuses: Vec<_> = phones.into_iter().map(|phone| phone.join().unwrap()).collect();
        assert!(statuses.iter().all(|status| *status == Some(200)), "{statuses:?}");
    });
}

/// The address of a phone over TCP: two phones behind each address of one network.
fn behind(number: u16) -> IpAddr {
    IpAddr::from([10, 77, 9, u8::try_from(number / 2 + 1).unwrap()])
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn all_phones_of_a_network_get_in_over_tcp_after_maintenance() {
    let accounts = accounts();
    let world = world(&accounts);
    let directory = scratch::directory("upgrade-tcp").unwrap();
    let batch = directory.path().join("addresses");
    let line = |n| format!("addr add {}/32 dev eth0\n", behind(2 * n));
    fs::write(&batch, (0..PHONES / 2).map(line).collect::<String>()).unwrap();
    run_ip(&world.hosts.attacker, &["-batch", batch.to_str().unwrap()]);
    run_ip(&world.hosts.pbx, &["route", "add", "10.77.0.0/16", "dev", "eth0"]);

    maintenance(&world, &["on", "--for", "30m"]);
    maintenance(&world, &["off"]);
    let start = Instant::now();
    let phones: Vec<_> = (0..PHONES).map(behind).collect();
    register_all_by(over_tcp, &world, &phones, &accounts);
    let reasons = world.ringfence.status().unwrap().reasons;
    println!(
        "{PHONES} phones over TCP: {:.1} s, {} dropped",
        start.elapsed().as_secs_f64(),
        limited(&world)
    );
    assert_eq!(limited(&world), 0, "{reasons:?}");
    drop(directory);
    world.end().unwrap();
}

/// Adds the addresses of phones of an IPv6 /64 to the host of the attacker, and a route back to the PBX.
fn site_with_ipv6(world: &World, size: u16) -> Vec<IpAddr> {
    let directory = scratch::directory("upgrade-ipv6").unwrap();
    let batch = directory.path().join("addresses");
    let phones: Vec<_> =
        (0..size).map(|n| IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, n + 1])).collect();
    let line = |phone: &IpAddr| format!("addr add {phone}/128 dev eth0 nodad\n");
    fs::write(&batch, phones.iter().map(line).collect::<String>()).unwrap();
    run_ip(&world.hosts.attacker, &["-batch", batch.to_str().unwrap()]);
    run_ip(&world.hosts.pbx, &["-6", "route", "add", "fd77::/64", "dev", "eth0"]);
    phones
}

/// Until each of them is known, the phones of a /64 share the limit of one source. Their answers to challenges pass all the
/// same: a challenge without an answer is a failure, and ten of those ban the /64.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_site_with_ipv6_comes_back_over_tcp_without_maintenance() {
    let accounts = accounts();
    let mut world = world(&accounts);
    let phones = site_with_ipv6(&world, 100);

    let start = Instant::now();
    register_all_by(over_tcp, &world, &phones, &accounts);
    let (took, dropped) = (start.elapsed().as_secs_f64(), limited(&world));
    println!("{} unknown phones of a /64 over TCP: {took:.1} s, {dropped} dropped", phones.len());
    assert!(dropped > 0, "they share a limit");
    let reasons = world.ringfence.status().unwrap().reasons;
    assert!(reasons["answered"].packets > 0, "{reasons:?}");

    // As after a reboot: the store knows them.
    world.ringfence.stop().unwrap();
    world.ringfence.detach().unwrap().success("detach").unwrap();
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    register_all_by(over_tcp, &world, &phones, &accounts);
    assert_eq!(limited(&world), 0, "{:?}", world.ringfence.status().unwrap().reasons);
    assert_eq!(world.ringfence.bans().unwrap().len(), 0, "{}", world.ringfence.log());
    world.end().unwrap();
}

/// Over TLS nobody sees which requests answer a challenge, and so they wait with the rest. Asterisk reports the challenges
/// over AMI and in its log. Each phone that gets in vouches for the others.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_site_with_ipv6_comes_back_over_tls_without_maintenance() {
    let accounts = accounts();
    let options = asterisk::Options {
        tls: true,
        ami_secret: Some("c0ffee".to_owned()),
        security_log: Some(asterisk::LogForm::Json),
        ..asterisk::Options::default()
    };
    let world = world_of(options, &accounts);
    let phones = site_with_ipv6(&world, 100);

    let start = Instant::now();
    register_all_by(over_tls, &world, &phones, &accounts);
    let (took, dropped) = (start.elapsed().as_secs_f64(), limited(&world));
    println!("{} unknown phones of a /64 over TLS: {took:.1} s, {dropped} dropped", phones.len());
    assert!(dropped > 0, "they share a limit");
    assert_eq!(world.ringfence.bans().unwrap().len(), 0, "{}", world.ringfence.log());
    world.end().unwrap();
}

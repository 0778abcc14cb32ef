use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{RData, Record};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::*;

/// What the server says: an error, or addresses with a TTL.
#[derive(Clone, Debug)]
struct Zone {
    code: ResponseCode,
    addresses: Vec<IpAddr>,
    /// Whether the addresses are those of two hosts that provide SIP for the name.
    is_domain: bool,
    ttl: u32,
    questions: u64,
}

/// A server of the DNS that has one host.
struct Server {
    at: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _task: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let at = socket.local_addr().unwrap();
        let code = ResponseCode::NoError;
        let zone = Zone { code, addresses: vec![], is_domain: false, ttl: 0, questions: 0 };
        let zone = Arc::new(Mutex::new(zone));
        let mut task = JoinSet::new();
        task.spawn(serve(socket, Arc::clone(&zone)));
        Self { at, zone, _task: task }
    }

    fn say(&self, code: ResponseCode, addresses: &[&str], ttl: u32) {
        let mut zone = self.zone.lock().unwrap();
        zone.addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        (zone.code, zone.ttl) = (code, ttl);
    }

    fn questions(&self) -> u64 {
        self.zone.lock().unwrap().questions
    }

    fn follow(&self, name: &str) -> Following {
        let at = self.at;
        Following::start([name.parse().unwrap()], move || {
            let mut connection = ConnectionConfig::udp();
            connection.port = at.port();
            let server = NameServerConfig::new(at.ip(), true, vec![connection]);
            let config = ResolverConfig::from_parts(None, vec![], vec![server]);
            let mut builder =
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().timeout = Duration::from_millis(200);
            builder.options_mut().attempts = 1;
            builder.build().map_err(|error| error.to_string())
        })
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut buffer = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let question = Message::from_vec(&buffer[..length]).unwrap();
        let answer = answer(&question, &mut zone.lock().unwrap());
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }
}

fn answer(question: &Message, zone: &mut Zone) -> Message {
    zone.questions += 1;
    let query = question.queries[0].clone();
    let mut answer = Message::error_msg(question.metadata.id, OpCode::Query, zone.code);
    answer.metadata.recursion_available = true;
    let asked = query.name().to_string();
    let service = asked.strip_suffix(".office.example.org.").filter(|_| zone.is_domain);
    let targets: &[&str] = match service {
        Some("_sip._udp") => &["a.office.example.org.", "b.office.example.org."],
        Some("_sip._tcp") => &["a.office.example.org."],
        Some("_sips._tcp") => &["."],
        _ => &[],
    };
    for target in targets.iter().filter(|_| query.query_type() == RecordType::SRV) {
        let data = RData::SRV(SRV::new(1, 1, 5060, target.parse().unwrap()));
        answer.add_answer(Record::from_rdata(query.name().clone(), zone.ttl, data));
    }
    let half = zone.addresses.len() / 2;
    let addresses = match service {
        Some("a") => &zone.addresses[..half],
        Some("b") => &zone.addresses[half..],
        _ if asked == "office.example.org." && !zone.is_domain => &zone.addresses[..],
        _ => &[],
    };
    for address in addresses {
        let data = match address {
            IpAddr::V4(v4) => RData::A((*v4).into()),
            IpAddr::V6(v6) => RData::AAAA((*v6).into()),
        };
        if data.record_type() == query.query_type() {
            answer.add_answer(Record::from_rdata(query.name().clone(), zone.ttl, data));
        }
    }
    answer.add_query(query);
    answer
}

async fn next(following: &mut Following) -> (BTreeSet<IpAddr>, Option<String>) {
    let news = timeout(Duration::from_mins(1), following.next()).await.expect("news in time");
    let News { name, addresses } = news.unwrap();
    assert_eq!(name.as_str(), "office.example.org");
    (addresses.all, addresses.failed)
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_name_is_followed_from_address_to_address() {
    let server = Server::start().await;
    server.say(ResponseCode::NoError, &["192.0.2.7", "2001:db8::7"], 1);
    let mut following = server.follow("office.example.org");
    assert_eq!(next(&mut following).await, (set(&["192.0.2.7", "2001:db8::7"]), None));
    // Asked again when the TTL has ended, which is ten seconds at least.
    let start = Instant::now();
    server.say(ResponseCode::NoError, &["192.0.2.8", "2001:db8::7"], 86_400);
    assert_eq!(next(&mut following).await, (set(&["192.0.2.8", "2001:db8::7"]), None));
    let waited = start.elapsed();
    assert!(waited > TTL_MIN / 2 && waited < TTL_MIN * 2, "{waited:?}");
    // Now the TTL is long: nothing is asked for.
    let before = server.questions();
    server.say(ResponseCode::NoError, &["192.0.2.9"], 1);
    let none = timeout(TTL_MIN + Duration::from_secs(2), following.next()).await;
    assert!(none.is_err(), "{none:?}");
    assert_eq!(server.questions(), before);
}

#[tokio::test]
async fn the_last_addresses_hold_while_the_server_fails() {
    let server = Server::start().await;
    server.say(ResponseCode::NoError, &["192.0.2.7"], 1);
    let mut following = server.follow("office.example.org");
    assert_eq!(next(&mut following).await, (set(&["192.0.2.7"]), None));
    server.say(ResponseCode::ServFail, &[], 1);
    let (addresses, failed) = next(&mut following).await;
    assert_eq!(addresses, set(&["192.0.2.7"]));
    assert!(failed.is_some());
    // Asked again soon, by the pause after a failure.
    server.say(ResponseCode::NoError, &["192.0.2.8"], 1);
    assert_eq!(next(&mut following).await, (set(&["192.0.2.8"]), None));
}

#[tokio::test]
async fn a_name_that_does_not_exist_has_no_address() {
    let server = Server::start().await;
    server.say(ResponseCode::NXDomain, &[], 1);
    let mut following = server.follow("office.example.org");
    let (addresses, failed) = next(&mut following).await;
    assert_eq!((addresses, &failed.unwrap()[..25]), (set(&[]), "it has neither an address"));
}

#[tokio::test]
async fn a_sip_domain_stands_for_the_hosts_of_its_services() {
    let server = Server::start().await;
    server.say(ResponseCode::NoError, &["192.0.2.7", "192.0.2.8", "2001:db8::7"], 1);
    server.zone.lock().unwrap().is_domain = true;
    let mut following = server.follow("office.example.org");
    let all = set(&["192.0.2.7", "192.0.2.8", "2001:db8::7"]);
    assert_eq!(next(&mut following).await, (all.clone(), None));
    // A name with an address is not looked up as a SIP domain.
    server.zone.lock().unwrap().is_domain = false;
    server.say(ResponseCode::NoError, &["192.0.2.9"], 60);
    let before = server.questions();
    assert_eq!(next(&mut following).await, (set(&["192.0.2.9"]), None));
    assert_eq!(server.questions() - before, 2);
}

#[tokio::test]
async fn nobody_to_follow_is_no_news() {
    assert_eq!(Following::start([], system_resolver).next().await, None);
}

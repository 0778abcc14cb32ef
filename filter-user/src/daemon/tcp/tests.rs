use std::net::SocketAddr;

use api::{Answer, Problem, TakenOver};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::super::findings::Findings;
use super::super::inbox::{Question, Scrape};
use super::super::traffic::Traffic;
use super::*;
use crate::events::Hub;
use crate::metrics::Snapshot;
use crate::store::Store;

/// Long enough on a busy machine.
const SOON: Duration = Duration::from_mins(1);

const TOKEN_OF_READER: &str = "5f3a9c1e-0d2b-4c8e-9a77-1b2c3d4e5f60";

/// wazo-auth, with one token that may read only.
async fn wazo_auth() -> (Loopback, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string().parse().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]);
            let is_known = head.contains(TOKEN_OF_READER);
            let reads = head.lines().next().is_some_and(|line| line.contains(".read "));
            let reply = match (is_known, reads) {
                (false, _) => "HTTP/1.1 404 NOT FOUND\r\n\r\n{}",
                (true, false) => "HTTP/1.1 403 FORBIDDEN\r\n\r\n{}",
                (true, true) => "HTTP/1.1 200 OK\r\n\r\n{\"data\": {\"auth_id\": \"reader\"}}",
            };
            drop(stream.write_all(reply.as_bytes()).await);
        }
    });
    (at, serving)
}

/// A server whose loop answers every question with its own text.
struct Served {
    at: SocketAddr,
    tasks: [JoinHandle<()>; 3],
}

impl Served {
    async fn start() -> Self {
        let (wazo_auth, authenticating) = wazo_auth().await;
        let (ask, mut questions) = mpsc::channel(1);
        let (scrape, mut scrapes) = mpsc::channel::<Scrape>(1);
        let asks = Asks {
            questions: ask,
            scrapes: scrape,
            events: Hub::default(),
            logins: None,
            traffic: Arc::new(Traffic::new(Store::nowhere())),
            findings: Arc::new(Findings::nowhere()),
            agent: None,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move { accept(&listener, Some(wazo_auth), asks).await });
        let answering = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(Question { request, who, from, reply, .. }) = questions.recv() => {
                        let refused = [(format!("{request:?} by {who} from {from:?}"), 1)].into();
                        let taken = TakenOver { refused, ..TakenOver::default() };
                        reply.send(Reply::Ok(Answer::TakenOver(taken))).ok();
                    }
                    Some(Scrape::All(tell)) = scrapes.recv() => drop(tell.send(Ok(Snapshot::default()))),
                    else => break,
                }
            }
        });
        Self { at, tasks: [authenticating, accepting, answering] }
    }

    /// The status and the body of what `curl` gets.
    async fn curl(&self, path: &str, arguments: &[&str]) -> (u16, String) {
        let done = Command::new("curl")
            .args(["--silent", "--noproxy", "*", "--max-time", "60"])
            .args(["--write-out", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("http://{}{path}", self.at))
            .output()
            .await
            .expect("run curl");
        let text = String::from_utf8(done.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

#[tokio::test]
async fn a_token_lets_in_as_far_as_it_goes() {
    let served = Served::start().await;
    let token = format!("X-Auth-Token: {TOKEN_OF_READER}");
    let by = ["-H", &token, "-H", "Ringfence-Sudo-User: root", "-H", "Ringfence-From: 192.0.2.1"];
    let (status, body) = served.curl("/1.0/status", &by).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("Status by the Wazo user reader from None"), "{body}");
    let (status, page) = served.curl("/metrics", &by).await;
    assert!(status == 200 && page.contains("ringfence_build_info"), "{page}");
    let (status, _) = served.curl("/1.0/api/api.yml", &[]).await;
    assert_eq!(status, 200);
    let wrong = "X-Auth-Token: 5f3a9c1e-0d2b-4c8e-9a77-1b2c3d4e5f61";
    for (path, arguments, expected, id) in [
        ("/1.0/status", &[][..], 401, "unauthorized"),
        ("/1.0/status", &["-H", wrong], 401, "unauthorized"),
        ("/1.0/status", &["-H", "X-Auth-Token: x"], 401, "unauthorized"),
        ("/metrics", &[], 401, "unauthorized"),
        ("/1.0/events", &[], 401, "unauthorized"),
        ("/1.0/bans/192.0.2.1", &["-X", "DELETE", "-H", &token], 403, "forbidden"),
        ("/1.0/confirm", &["-X", "POST", "-H", &token], 403, "forbidden"),
        ("/1.0/status", &["-H", &token, "-H", "Host: pbx.example"], 403, "forbidden"),
        ("/1.0/status", &["-H", &token, "-H", "Origin: https://evil.example"], 403, "forbidden"),
        ("/1.0/api/api.yml", &["-H", "Host: pbx.example"], 403, "forbidden"),
        ("/1.0/nothing", &[], 404, "no-such-endpoint"),
    ] {
        let (status, body) = served.curl(path, arguments).await;
        let problem: Problem = serde_json::from_str(&body).unwrap();
        let its = serde_json::to_value(problem.error_id).unwrap();
        assert_eq!((status, its.as_str().unwrap()), (expected, id), "{path}: {body}");
    }
}

/// Clients that say nothing are dropped for others, and what is no HTTP does not stop anything.
#[tokio::test]
async fn idle_and_mad_clients_keep_nobody_out() {
    let served = Served::start().await;
    let mut idle = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(served.at).await.unwrap();
        if number % 2 == 0 {
            drop(stream.write_all(b"POST /1.0/bans HTTP/1.1\r\nContent-Length: 9\r\n\r\n{").await);
        }
        idle.push(stream);
        tokio::task::yield_now().await;
    }
    let long = vec![0xff; 40_000];
    for bytes in [&b"\r\n\r\n"[..], b"\x16\x03\x01", &[0; 5000], &long] {
        let mut stream = TcpStream::connect(served.at).await.unwrap();
        drop(stream.write_all(bytes).await);
        drop(stream.shutdown().await);
        let mut reply = Vec::new();
        drop(timeout(SOON, stream.read_to_end(&mut reply)).await.expect("an end"));
        assert!(reply.is_empty() || reply.starts_with(b"HTTP/1."), "{reply:?}");
    }
    let token = format!("X-Auth-Token: {TOKEN_OF_READER}");
    let (status, body) = served.curl("/1.0/status", &["-H", &token]).await;
    assert_eq!(status, 200, "{body}");
    drop(idle);
}

fn headers(all: &[(HeaderName, &str)]) -> HeaderMap {
    all.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

#[test]
fn only_names_of_this_host_are_greeted() {
    for host in
        ["localhost", "LOCALHOST:9510", "127.0.0.1:9510", "127.1.2.3", "[::1]:9510", "[::1]"]
    {
        assert_eq!(greet(&headers(&[(HOST, host)])), Ok(()), "{host}");
    }
    for host in [
        "",
        "pbx.example",
        "pbx.example:9510",
        "192.0.2.1",
        "0.0.0.0",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:127.0.0.1",
        "[::1",
        "[::2]:9510",
        "@localhost",
        "localhost@evil",
    ] {
        let refused = greet(&headers(&[(HOST, host)])).unwrap_err();
        assert_eq!(refused.id, ErrorId::Forbidden, "{host}");
    }
    assert!(greet(&headers(&[])).is_err());
    assert!(greet(&headers(&[(HOST, "localhost"), (HOST, "localhost")])).is_err());
}

/// A page of another site can have a browser send requests, but not choose these headers.
#[test]
fn other_sites_are_refused() {
    let with = |origin: &str, forwarded: Option<&str>| {
        let mut all = vec![(HOST, "127.0.0.1:9510"), (ORIGIN, origin)];
        all.extend(forwarded.map(|host| (FORWARDED_HOST, host)));
        greet(&headers(&all))
    };
    assert_eq!(with("http://127.0.0.1:9510", None), Ok(()));
    assert_eq!(with("https://pbx.example", Some("pbx.example")), Ok(()));
    for (origin, forwarded) in [
        ("null", None),
        ("", None),
        ("http://", Some("")),
        ("https://evil.example", None),
        ("https://evil.example", Some("pbx.example")),
        ("http://127.0.0.1:80", None),
        ("http://localhost:9510", None),
        ("127.0.0.1:9510", None),
        ("file://127.0.0.1:9510", None),
        ("https://evil.example/127.0.0.1:9510", None),
    ] {
        assert!(with(origin, forwarded).is_err(), "{origin} {forwarded:?}");
    }
}

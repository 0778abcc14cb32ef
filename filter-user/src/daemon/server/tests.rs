use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use api::{Answer, Problem, TakenOver};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::super::clients::CLIENTS;
use super::super::inbox::{Question, Scrape};
use super::*;
use crate::metrics::Snapshot;

/// Long enough on a busy machine.
const SOON: Duration = Duration::from_mins(1);

/// A server, and what the loop would receive.
struct Served {
    directory: TempDir,
    questions: mpsc::Receiver<Question>,
    scrapes: mpsc::Receiver<Scrape>,
    events: Hub,
    serving: JoinHandle<()>,
}

impl Served {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ask, questions) = mpsc::channel(1);
        let (scrape, scrapes) = mpsc::channel(1);
        let events = Hub::default();
        let asks = Asks {
            questions: ask,
            scrapes: scrape,
            events: events.clone(),
            logins: None,
            traffic: Arc::new(Traffic::new(Store::nowhere())),
            findings: Arc::new(Findings::nowhere()),
            agent: None,
        };
        let listener = bind(&directory.path().join("control.sock")).unwrap();
        Self { directory, questions, scrapes, events, serving: tokio::spawn(serve(listener, asks)) }
    }

    async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("control.sock")).await.unwrap()
    }

    async fn next(&mut self) -> Question {
        timeout(SOON, self.questions.recv()).await.unwrap().unwrap()
    }

    /// Answers every question with its own text.
    fn answer_all(mut self) -> (TempDir, JoinHandle<()>) {
        let answering = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Some(Question { request, who, reply, .. }) = self.questions.recv() => {
                        let refused = [(format!("{request:?} by {who}"), 1)].into();
                        reply.send(Reply::Ok(taken(refused))).ok();
                    }
                    Some(Scrape::All(tell)) = self.scrapes.recv() => drop(tell.send(Ok(Snapshot::default()))),
                    else => break,
                }
            }
            self.serving.abort();
        });
        (self.directory, answering)
    }
}

fn taken(refused: BTreeMap<String, u64>) -> Answer {
    Answer::TakenOver(TakenOver { refused, ..TakenOver::default() })
}

/// What comes back for these bytes.
async fn replied(stream: &mut UnixStream, bytes: &[u8]) -> String {
    // The server may reply before it has read everything.
    drop(stream.write_all(bytes).await);
    let mut text = Vec::new();
    drop(timeout(SOON, stream.read_to_end(&mut text)).await.expect("a reply or an end"));
    String::from_utf8(text).unwrap()
}

/// The status and the body of what `curl` gets.
async fn curl(directory: &TempDir, arguments: &[&str]) -> (u16, String) {
    let done = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60", "--write-out", "\n%{http_code}"])
        .arg("--unix-socket")
        .arg(directory.path().join("control.sock"))
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("run curl");
    let text = String::from_utf8(done.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn who_asks_is_told_in_plain_letters() {
    let by = |sudo_user: &str| By {
        sudo_user: Some(sudo_user.to_owned()),
        from: Some([192, 0, 2, 9].into()),
        ssh_port: None,
    };
    assert_eq!(who(Some(0), &By::default()), "root");
    assert_eq!(who(Some(1000), &By::default()), "uid 1000");
    assert_eq!(who(Some(0), &by("alice")), "alice (sudo, root) from 192.0.2.9");
    assert_eq!(who(Some(0), &by("a\nb\u{1b}[0m")), "ab0m (sudo, root) from 192.0.2.9");
    assert!(who(Some(0), &by(&"x".repeat(1000))).len() < 100);
}

fn needs(request: &Request) -> Needs {
    Needs { acl: "", changes: request.changes(), is_for_agent: request.is_for_agent() }
}

#[test]
fn root_and_the_daemons_user_change_and_others_look() {
    let change = Request::Confirm;
    let table = [
        (Some(0), 900, true),
        (Some(900), 900, true),
        (Some(0), 0, true),
        (Some(1000), 900, false),
        (Some(1000), 0, false),
        (None, 0, false),
    ];
    for (peer, own, may_change) in table {
        assert_eq!(may((peer, None), own, needs(&change)), may_change, "{peer:?} {own}");
        assert!(may((peer, None), own, needs(&Request::Status)), "{peer:?} {own}");
    }
    // The agent of the fleet says what other hosts have banned, and changes nothing else.
    let bans = Request::FleetBans(api::FleetBans::default());
    for (peer, agent, may_say) in [
        (Some(950), Some(950), true),
        (Some(951), Some(950), false),
        (Some(950), None, false),
        (None, None, false),
    ] {
        assert_eq!(may((peer, agent), 900, needs(&bans)), may_say, "{peer:?} {agent:?}");
        assert!(!may((peer, agent), 900, needs(&change)), "{peer:?} {agent:?}");
        let cut = Request::FleetCut { host: "pbx-1".to_owned() };
        assert!(!may((peer, agent), 900, needs(&cut)), "{peer:?} {agent:?}");
    }
}

#[tokio::test]
async fn curl_gets_answers_and_errors() {
    let served = Served::start();
    let (directory, answering) = served.answer_all();
    for (arguments, asked) in [
        (&["http://ringfence/1.0/status"][..], "Status"),
        (&["http://ringfence/1.0/bans?jail=sshd&limit=2"], "Bans(BansQuery { jail: Some(\"sshd\")"),
        (&["http://ringfence/1.0/sources/192.0.2.1"], "Why { address: 192.0.2.1 }"),
        (&["-X", "DELETE", "http://ringfence/1.0/bans/192.0.2.0/24"], "Unban(Network { network: "),
        (&["-X", "DELETE", "http://ringfence/1.0/bans?all=true"], "Unban(All)"),
        (
            &["-d", r#"{"network":"192.0.2.1/32","scope":"sip"}"#, "http://ringfence/1.0/bans"],
            "Ban { network: 192.0.2.1/32, seconds: None",
        ),
        (&["-X", "PUT", "-d", "{}", "http://ringfence/1.0/allows/192.0.2.1"], "Allow { network"),
        (&["-X", "POST", "http://ringfence/1.0/confirm"], "Confirm"),
    ] {
        let (status, body) = curl(&directory, arguments).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let answered = body["refused"].as_object().unwrap().keys().next().unwrap();
        assert_eq!(status, 200, "{arguments:?}");
        assert!(answered.starts_with(asked), "{arguments:?}: {answered}");
    }
    let by = ["-H", "Ringfence-Sudo-User: alice", "-X", "POST", "http://ringfence/1.0/confirm"];
    let (_, body) = curl(&directory, &by).await;
    assert!(body.contains("Confirm by alice (sudo, "), "{body}");
    let (status, body) = curl(&directory, &["http://ringfence/1.0/api/api.yml"]).await;
    assert_eq!((status, &*body), (200, include_str!("../../../../docs/api/api.yml")));

    let accept = "Accept: application/openmetrics-text; version=1.0.0";
    let scrape = ["-i", "-H", accept, "http://ringfence/metrics"];
    let (status, page) = curl(&directory, &scrape).await;
    assert_eq!(status, 200);
    assert!(page.contains("content-type: application/openmetrics-text"), "{page}");
    assert!(page.contains("\nringfence_build_info{version="), "{page}");
    assert!(page.ends_with("# EOF\n"), "{page}");
    let (_, page) = curl(&directory, &["http://ringfence/metrics"]).await;
    assert!(page.contains("# TYPE ringfence_unwitnessed_total counter"), "{page}");

    let long = format!("{{\"network\":\"{}\"}}", "x".repeat(20_000));
    let far = format!("http://ringfence/1.0/{}", "x".repeat(20_000));
    for (arguments, expected, id) in [
        (&["http://ringfence/1.0/nothing"][..], 404, "no-such-endpoint"),
        (&["-X", "POST", "http://ringfence/1.0/status"], 405, "method-not-allowed"),
        (&["http://ringfence/1.0/bans?jial=x"], 400, "invalid-request"),
        (&["-d", "x", "http://ringfence/1.0/bans"], 400, "invalid-request"),
        (&["-d", &long, "http://ringfence/1.0/bans"], 413, "too-long"),
    ] {
        let (status, body) = curl(&directory, arguments).await;
        let problem: Problem = serde_json::from_str(&body).unwrap();
        let its = serde_json::to_value(problem.error_id).unwrap();
        assert_eq!((status, its.as_str().unwrap()), (expected, id), "{body}");
        assert!(problem.timestamp > 1.7e9, "{body}");
    }
    // hyper replies to these itself.
    let (status, _) = curl(&directory, &[&far]).await;
    assert!([414, 431].contains(&status), "{status}");
    let headers = ["-i", "-X", "PUT", "http://ringfence/1.0/bans"];
    let (_, head) = curl(&directory, &headers).await;
    assert!(head.to_lowercase().contains("allow: get, post, delete"), "{head}");
    answering.abort();
}

#[tokio::test]
async fn idle_clients_keep_nobody_from_asking() {
    let served = Served::start();
    let mut idle = Vec::new();
    for number in 0..4 * CLIENTS {
        let mut stream = served.connect().await;
        // Some have sent a part of a request.
        if number % 2 == 0 {
            drop(stream.write_all(b"POST /1.0/bans HTTP/1.1\r\nContent-Length: 9\r\n\r\n{").await);
        }
        idle.push(stream);
        tokio::task::yield_now().await;
    }
    let (directory, answering) = served.answer_all();
    let path = directory.path().join("control.sock");
    let asks = tokio::task::spawn_blocking(move || {
        crate::client::ask(&path, &Request::Status).map_err(|why| format!("{why:#}"))
    });
    let answer = timeout(SOON, asks).await.expect("an answer").unwrap();
    assert!(answer.as_ref().is_ok_and(|answer| answer["entered"] == 0), "{answer:?}");
    drop(idle);
    answering.abort();
}

/// When all places are taken by clients that wait for an answer, others are refused. They are not dropped.
#[tokio::test]
async fn clients_that_wait_are_not_dropped_for_others() {
    let mut served = Served::start();
    let mut waiting = Vec::new();
    let request = b"GET /1.0/status HTTP/1.1\r\n\r\n";
    for _ in 0..CLIENTS {
        let mut stream = served.connect().await;
        stream.write_all(request).await.unwrap();
        waiting.push(stream);
    }
    let refused = async {
        loop {
            let mut stream = served.connect().await;
            // Until those above have been read, their places are taken from them instead.
            let mut reply = String::new();
            let read = timeout(Duration::from_millis(200), stream.read_to_string(&mut reply));
            if matches!(read.await, Ok(Ok(length)) if length > 0) {
                return reply;
            }
        }
    };
    let reply = timeout(SOON, refused).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 503 "), "{reply}");
    assert!(reply.contains("\"error_id\":\"unavailable\""), "{reply}");
    let question = served.next().await;
    question.reply.send(Reply::Ok(taken(BTreeMap::new()))).unwrap();
    served.serving.abort();
}

/// A client that has disconnected is dropped; one that stays gets signs if it asks for them.
#[tokio::test]
async fn a_client_is_waited_for_as_long_as_it_is_there() {
    let mut served = Served::start();
    let mut left = served.connect().await;
    left.write_all(b"GET /1.0/status HTTP/1.1\r\n\r\n").await.unwrap();
    let Question { mut reply, .. } = served.next().await;
    drop(left);
    timeout(SOON, reply.closed()).await.expect("it is gone");

    let mut stays = served.connect().await;
    let request = b"GET /1.0/status HTTP/1.1\r\nPrefer: processing\r\n\r\n";
    stays.write_all(request).await.unwrap();
    stays.shutdown().await.unwrap();
    let Question { mut reply, .. } = served.next().await;
    let sign = b"HTTP/1.1 102 Processing\r\n\r\n";
    let mut first = [0; 27];
    timeout(SOON, stays.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(first, *sign);
    assert!(timeout(Duration::from_millis(200), reply.closed()).await.is_err(), "it is there");
    reply.send(Reply::Ok(taken(BTreeMap::new()))).unwrap();
    let rest = replied(&mut stays, b"").await;
    let (_, rest) = rest.split_at(rest.rfind("HTTP/1.1").unwrap());
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n"), "{rest}");
    assert!(rest.ends_with("\"durable\":false,\"why\":null}\n"), "{rest}");
    served.serving.abort();
}

#[tokio::test]
async fn a_client_that_only_looks_whether_a_daemon_runs_gets_nothing() {
    let served = Served::start();
    let mut looks = served.connect().await;
    looks.shutdown().await.unwrap();
    assert_eq!(replied(&mut looks, b"").await, "");
    served.serving.abort();
}

/// Commands before HTTP sent a line of JSON and read one.
#[tokio::test]
async fn a_command_of_an_earlier_version_is_told_so() {
    let served = Served::start();
    let mut old = served.connect().await;
    old.write_all(b"{\"command\":\"status\"}\n").await.unwrap();
    old.shutdown().await.unwrap();
    let reply: Value = serde_json::from_str(&replied(&mut old, b"").await).unwrap();
    assert_eq!(reply["api"], 1);
    assert!(reply["error"].as_str().unwrap().contains("another version"), "{reply}");
    served.serving.abort();
}

#[tokio::test]
async fn nonsense_is_refused_and_the_next_client_served() {
    let served = Served::start();
    let (directory, answering) = served.answer_all();
    let path = directory.path().join("control.sock");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100));
    let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(40_000));
    for bytes in [
        b"\r\n\r\n".as_slice(),
        b"GET\r\n\r\n",
        b"GET /1.0/status\r\n\r\n",
        b"GET /1.0/status HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST /1.0/bans HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /1.0/bans HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /1.0/bans HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /1.0/bans HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        many.as_bytes(),
        long.as_bytes(),
        &[0; 5000],
        &[0xff; 5000],
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        drop(stream.write_all(bytes).await);
        drop(stream.shutdown().await);
        let reply = replied(&mut stream, b"").await;
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 4"), "{bytes:?}: {reply}");
    }
    let (status, _) = curl(&directory, &["http://ringfence/1.0/status"]).await;
    assert_eq!(status, 200);
    answering.abort();
}

#[tokio::test]
async fn curl_hears_events() {
    let served = Served::start();
    let mut curl = Command::new("curl")
        .args(["--silent", "--no-buffer", "--include", "--max-time", "60", "--unix-socket"])
        .arg(served.directory.path().join("control.sock"))
        .arg("http://ringfence/1.0/events")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = curl.stdout.take().unwrap();
    let mut said = String::new();
    let hears = async {
        while !said
            .contains("event: enforcing\ndata: {\"event\":\"enforcing\",\"enforcing\":false}\n\n")
        {
            let mut bytes = [0; 4096];
            // Until it listens, nobody is told.
            served.events.tell(|| api::Event::Enforcing { enforcing: false });
            let length = output.read(&mut bytes).await.unwrap();
            said.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    };
    timeout(SOON, hears).await.unwrap();
    assert!(said.contains("content-type: text/event-stream"), "{said}");
    served.serving.abort();
}

/// A listener that reads nothing is disconnected, and leaves its place.
#[tokio::test]
async fn a_listener_that_reads_nothing_is_dropped() {
    let served = Served::start();
    let mut deaf = served.connect().await;
    deaf.write_all(b"GET /1.0/events HTTP/1.1\r\n\r\n").await.unwrap();
    let place_is_free = async {
        while served.events.listeners() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        while served.events.listeners() > 0 {
            let reason = "x".repeat(4096);
            served.events.tell(|| api::Event::Source {
                source: reason,
                state: api::State::Ok,
                why: None,
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(SOON, place_is_free).await.unwrap();
    drop(deaf);
    served.serving.abort();
}

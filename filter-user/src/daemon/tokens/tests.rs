use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::{getuid, setfsuid};
use proptest::prelude::*;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const GOOD: &str = "5f3a9c1e-0d2b-4c8e-9a77-1b2c3d4e5f60";
const WEAK: &str = "5f3a9c1e-0d2b-4c8e-9a77-1b2c3d4e5f61";
const ACL: &str = "ringfence.bans.read";

/// What a real wazo-auth has answered, recorded by `tests/fixtures/wazo-auth/record.sh` from its commit f1c4e5272 (26.04).
macro_rules! recorded {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/wazo-auth/", $name, ".http"))
    };
}

fn reply(status: &str, body: &str) -> Vec<u8> {
    let head = "Content-Type: application/json\r\nServer: wazo-auth\r\nConnection: close";
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// The reply of wazo-auth to the question about a token, of which only one is good.
fn as_wazo_auth(target: &str) -> Vec<u8> {
    let (path, query) = target.split_once('?').unwrap();
    assert!(query.starts_with("scope=ringfence."), "{query}");
    match path.strip_prefix("/0.1/token/").unwrap() {
        GOOD => recorded!("everything").to_vec(),
        WEAK => recorded!("other").to_vec(),
        _ => recorded!("unknown").to_vec(),
    }
}

#[test]
fn each_answer_of_a_real_wazo_auth_is_understood() {
    let yes: [&[u8]; 3] =
        [recorded!("everything"), recorded!("bans-create"), recorded!("all-but-read")];
    for answer in yes {
        let answer = understood(answer).unwrap();
        assert!(matches!(&answer, Answer::Yes(user) if user.len() == 36), "{answer:?}");
    }
    let forbidden: [&[u8]; 4] = [
        recorded!("other"),
        recorded!("bans-status"),
        recorded!("one-word"),
        recorded!("all-but-create"),
    ];
    for answer in forbidden {
        assert_eq!(understood(answer).unwrap(), Answer::Forbidden);
    }
    let unknown: [&[u8]; 3] = [recorded!("unknown"), recorded!("expired"), recorded!("revoked")];
    for answer in unknown {
        assert_eq!(understood(answer).unwrap(), Answer::Unknown);
    }
}

/// A server that gives each request line to `answer`.
struct Server {
    at: Loopback,
    asked: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Server {
    async fn start(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap().to_string().parse().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (Arc::clone(&asked), Arc::new(answer));
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.unwrap());
                    }
                    let head = String::from_utf8(head).unwrap();
                    let line = head.lines().next().unwrap();
                    let target = line.strip_prefix("GET ").unwrap().strip_suffix(" HTTP/1.0");
                    match answer(target.unwrap()) {
                        Some(reply) => drop(stream.write_all(&reply).await),
                        // It keeps the connection and says nothing.
                        None => std::future::pending().await,
                    }
                });
            }
        });
        Self { at, asked, serving }
    }

    /// Those of the user of the tests, who has the server.
    fn tokens(&self) -> Tokens {
        let owner = Owner::of(&getuid().to_string()).unwrap();
        Tokens { owner, ..Tokens::new(Some(self.at)) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn refused(tokens: &Tokens, token: &[u8]) -> (ErrorId, String) {
    let Refusal { id, message } = tokens.check(Some(token), ACL).await.unwrap_err();
    (id, message)
}

#[tokio::test]
async fn wazo_auth_decides() {
    let server = Server::start(|target| Some(as_wazo_auth(target))).await;
    let tokens = server.tokens();
    let user = tokens.check(Some(GOOD.as_bytes()), ACL).await.unwrap();
    assert_eq!(user, "01e8775e-5724-4758-aff0-a64aedb6ce46");
    let (id, why) = refused(&tokens, WEAK.as_bytes()).await;
    assert_eq!(id, ErrorId::Forbidden);
    assert!(why.contains("`ringfence.bans.read`"), "{why}");
    let (id, why) = refused(&tokens, b"00000000-0000-0000-0000-000000000000").await;
    assert!(id == ErrorId::Unauthorized && why.contains("expired"), "{why}");
    let missing = tokens.check(None, ACL).await.unwrap_err();
    assert!(missing.message.contains("X-Auth-Token"), "{missing}");
}

/// A local user takes the port while wazo-auth is down, and says yes to every token.
#[tokio::test]
async fn another_user_who_listens_is_not_asked() {
    let listener = std::thread::spawn(|| {
        // The kernel assigns a socket to the current user of its thread. A person runs the tests otherwise.
        if getuid().is_root() {
            setfsuid(1000.into());
        }
        std::net::TcpListener::bind("127.0.0.1:0").unwrap()
    });
    let listener = listener.join().unwrap();
    let at = listener.local_addr().unwrap().to_string().parse().unwrap();
    let tokens = Tokens::new(Some(at));
    let (id, why) = refused(&tokens, GOOD.as_bytes()).await;
    assert!(id == ErrorId::Unavailable && why.contains("ss -ltnp"), "{why}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "it was asked");
    drop(listener);
    let (id, why) = refused(&tokens, GOOD.as_bytes()).await;
    assert!(id == ErrorId::Unavailable && why.contains("nobody listens there"), "{why}");
}

#[tokio::test]
async fn a_yes_is_remembered_for_its_acl_and_a_no_is_not() {
    let server = Server::start(|target| Some(as_wazo_auth(target))).await;
    let tokens = server.tokens();
    for _ in 0..5 {
        tokens.check(Some(GOOD.as_bytes()), ACL).await.unwrap();
    }
    assert_eq!(server.asked(), 1);
    tokens.check(Some(GOOD.as_bytes()), "ringfence.bans.create").await.unwrap();
    assert_eq!(server.asked(), 2);
    for _ in 0..3 {
        refused(&tokens, WEAK.as_bytes()).await;
    }
    assert_eq!(server.asked(), 5);
    // It is forgotten in time, and there is a bound.
    let key = (Token::read(GOOD.as_bytes()).unwrap(), ACL);
    tokens.known.lock().unwrap().get_mut(&key).unwrap().until = Instant::now();
    tokens.check(Some(GOOD.as_bytes()), ACL).await.unwrap();
    assert_eq!(server.asked(), 6);
    for number in 0..2 * REMEMBERED_MAX {
        let token = format!("00000000-0000-0000-0000-{number:012}");
        tokens.remember((Token::read(token.as_bytes()).unwrap(), ACL), "x".to_owned());
    }
    assert_eq!(tokens.known.lock().unwrap().len(), REMEMBERED_MAX);
}

/// What is no token never reaches wazo-auth.
#[tokio::test]
async fn nothing_else_than_a_uuid_is_asked_about() {
    let server = Server::start(|target| Some(as_wazo_auth(target))).await;
    let tokens = server.tokens();
    for token in [
        &b""[..],
        b"x",
        b"../../users",
        b"5f3a9c1e-0d2b-4c8e-9a77-1b2c3d4e5f6 ",
        b"5f3a9c1e-0d2b-4c8e-9a77-1b2c3d4e5f60?scope=",
        b"5f3a9c1e-0d2b-4c8e-9a77-1b2c3d4e5\r\n0",
        b"5f3a9c1e0d2b4c8e9a771b2c3d4e5f60",
        &[0xff; 36],
    ] {
        assert_eq!(refused(&tokens, token).await.0, ErrorId::Unauthorized, "{token:?}");
    }
    assert_eq!(server.asked(), 0);
    let none = Tokens::new(None);
    let (id, why) = refused(&none, GOOD.as_bytes()).await;
    assert!(id == ErrorId::Unauthorized && why.contains("api.wazo_auth"), "{why}");
}

#[tokio::test]
async fn an_answer_that_is_wrong_lets_nobody_in() {
    let long = "{\"data\": {\"auth_id\": \"x\"}}".to_owned() + &" ".repeat(70_000);
    for (answer, says) in [
        (reply("200 OK", &long), "longer than 64 KiB"),
        (reply("200 OK", "{"), "not that of wazo-auth"),
        (reply("200 OK", "{\"data\": {}}"), "not that of wazo-auth"),
        (reply("200 OK", ""), "not that of wazo-auth"),
        (reply("204 NO CONTENT", ""), "status 204"),
        (reply("302 FOUND", ""), "status 302"),
        (reply("500 INTERNAL SERVER ERROR", ""), "status 500"),
        (reply("503 SERVICE UNAVAILABLE", ""), "status 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not HTTP"),
        (vec![0xff; 100], "not HTTP"),
        (Vec::new(), "not HTTP"),
        ([b"HTTP/1.1 200 OK\r\n".as_slice(), &b"a: b\r\n".repeat(1000)].concat(), "not HTTP"),
    ] {
        let server = Server::start(move |_| Some(answer.clone())).await;
        let (id, why) = refused(&server.tokens(), GOOD.as_bytes()).await;
        assert!(id == ErrorId::Unavailable && why.contains(says), "{says}: {why}");
    }
    let server = Server::start(|_| Some(Vec::new())).await;
    let (tokens, at) = (server.tokens(), server.at);
    drop(server);
    // Its port is closed as soon as its task has ended.
    let closed = loop {
        let (_, why) = refused(&tokens, GOOD.as_bytes()).await;
        if why.contains("connect") || why.contains("nobody listens there") {
            break why;
        }
        tokio::task::yield_now().await;
    };
    assert!(closed.contains(&at.to_string()), "{closed}");
}

/// Many questions that are never answered end in time, and only a few are there at once.
#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let server = Server::start(|_| None).await;
    let patience = Duration::from_millis(500);
    let tokens = Arc::new(Tokens { patience, ..server.tokens() });
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let tokens = Arc::clone(&tokens);
            tokio::spawn(async move { refused(&tokens, GOOD.as_bytes()).await })
        })
        .collect();
    for one in asking {
        let (id, why) = one.await.unwrap();
        assert!(id == ErrorId::Unavailable && why.contains("no answer within 0.5 s"), "{why}");
    }
    assert!(server.asked() <= QUESTIONS, "{}", server.asked());
}

proptest! {
    #[test]
    fn any_answer_is_understood_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        drop(understood(&bytes));
        let mut reply = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        reply.extend(&bytes);
        drop(understood(&reply));
    }

    #[test]
    fn only_a_uuid_is_a_token(bytes in "[0-9a-zA-Z/?. -]{36}") {
        if let Some(Token(token)) = Token::read(bytes.as_bytes()) {
            prop_assert!(token.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'));
        }
    }
}

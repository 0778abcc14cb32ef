//! The client against behaviour that a real Asterisk does not show on demand: refusals, silence,
//! disconnections, and more events than are consumed. The real one is in `tests/tests/ami.rs` of the
//! workspace.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::thread;

use nix::unistd::{getuid, setfsuid};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::io::{AsyncBufReadExt, AsyncWrite};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::*;
use crate::config::Config;

const EVENT: &str = "Event: InvalidAccountID\r\nPrivilege: security,all\r\n\
    EventTV: 2026-11-22T09:39:10.668+0000\r\nSeverity: Error\r\nService: PJSIP\r\n\
    EventVersion: 1\r\nAccountID: 1\r\nSessionID: a\r\n\
    LocalAddress: IPV4/UDP/192.0.2.10/5060\r\nRemoteAddress: IPV4/UDP/192.0.2.66/45570\r\n\r\n";

const CHALLENGE: &str = "Response: Success\r\nActionID: challenge\r\nChallenge: 160512217\r\n\r\n";
const WELCOME: &str =
    "Response: Success\r\nActionID: login\r\nMessage: Authentication accepted\r\n\r\n";

/// Long enough that the busiest machine answers in time. A test that waits for one of these times makes
/// it short.
const TEST: Timing = Timing {
    answer: Duration::from_mins(1),
    silence: Duration::from_mins(1),
    own_login: Duration::from_mins(1),
    retry: Duration::from_millis(10),
    retry_max: Duration::from_millis(40),
};

/// A time that passes in a test.
const SHORT: Duration = Duration::from_secs(1);

struct Lab {
    directory: TempDir,
    listener: TcpListener,
    heard: mpsc::Receiver<(usize, Heard)>,
}

impl Lab {
    /// A client that waits for its peer, which is the test, with room for this many messages.
    async fn new(room: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::of(room, listener, TEST, |_login| {})
    }

    /// The same with other times.
    async fn with(timing: Timing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::of(8, listener, timing, |_login| {})
    }

    fn of(
        room: usize,
        listener: TcpListener,
        timing: Timing,
        adjust: impl FnOnce(&mut AmiSource),
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let secret_file = directory.path().join("secret");
        fs::write(&secret_file, "secret = s3cret\n").unwrap();
        fs::set_permissions(&secret_file, Permissions::from_mode(0o600)).unwrap();
        let (outlet, heard) = mpsc::channel(room);
        let mut login = AmiSource {
            port: listener.local_addr().unwrap().port(),
            listener: getuid().to_string(),
            secret_file,
            ..Config::default().sources.asterisk.ami
        };
        adjust(&mut login);
        tokio::spawn(follow_at(login, Outlet::new(0, outlet), timing));
        Self { directory, listener, heard }
    }

    /// Accepts the client and answers its challenge and its login.
    async fn log_in(&self) -> BufReader<TcpStream> {
        let mut stream = BufReader::new(self.listener.accept().await.unwrap().0);
        stream.write_all(b"Asterisk Call Manager/11.0.0\r\n").await.unwrap();
        assert!(action(&mut stream).await.contains("AuthType: MD5"));
        stream.write_all(CHALLENGE.as_bytes()).await.unwrap();
        let login = action(&mut stream).await;
        assert!(
            login.contains("Username: ringfence\r\n") && login.contains("Events: security\r\n")
        );
        assert!(!login.contains("s3cret"), "{login}");
        stream
    }

    async fn next(&mut self) -> Heard {
        self.heard.recv().await.unwrap().1
    }
}

/// One action as the client sent it.
async fn action(stream: &mut BufReader<TcpStream>) -> String {
    let mut action = String::new();
    while !action.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut action).await.unwrap() > 0, "it hung up");
    }
    action
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

fn run(test: impl Future<Output = ()>) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

#[test]
fn an_event_is_heard_and_a_hang_up_is_followed_by_a_new_login() {
    run(async {
        let mut lab = Lab::new(8).await;
        for _session in 0..3 {
            let mut stream = lab.log_in().await;
            send(&mut stream, WELCOME).await;
            send(&mut stream, EVENT).await;
            let heard = lab.next().await;
            assert_eq!((heard.lines, heard.lost, &heard.state), (1, 0, &SourceState::Ok));
            assert_eq!(heard.attempts[0].address.to_string(), "192.0.2.66");
            drop(stream);
            assert!(matches!(lab.next().await.state, SourceState::Failed(_)));
        }
    });
}

/// Messages of a later version: an error with an unknown name, an event with other headers.
#[test]
fn events_that_are_not_known_are_counted_with_a_sample() {
    run(async {
        let mut lab = Lab::new(8).await;
        let mut stream = lab.log_in().await;
        send(&mut stream, WELCOME).await;
        let unknown = EVENT.replace("InvalidAccountID", "UnexpectedAddress");
        let harmless = unknown.replace("Severity: Error", "Severity: Informational");
        let reworded = EVENT.replace("EventTV: ", "Time: ");
        send(&mut stream, &[EVENT, &unknown, &harmless, &reworded].concat()).await;
        let (mut lines, mut attempts, mut unparsed) = (0, 0, Unparsed::default());
        while lines < 4 {
            let heard = lab.next().await;
            lines += heard.lines;
            attempts += heard.attempts.len();
            unparsed.merge(heard.unparsed);
        }
        assert_eq!((lines, attempts, unparsed.lines()), (4, 1, 2));
        let samples = unparsed.samples();
        let named = |name: &str| samples.iter().any(|sample| sample.text.contains(name));
        assert!(named("Event: UnexpectedAddress") && named("Time: 2026"), "{samples:?}");
    });
}

#[test]
fn a_refusal_says_what_to_compare() {
    run(async {
        let mut lab = Lab::new(8).await;
        let mut stream = lab.log_in().await;
        let refusal =
            "Response: Error\r\nActionID: login\r\nMessage: Authentication failed\r\n\r\n";
        send(&mut stream, refusal).await;
        let SourceState::Failed(why) = lab.next().await.state else { panic!() };
        assert!(why.contains("(Authentication failed)") && why.contains("manager.conf"), "{why}");
    });
}

/// All answers to the challenge, any number of times: everything that the client sends is checked.
#[test]
fn without_a_challenge_nothing_of_the_secret_is_sent() {
    for answer in [
        "Response: Error\r\nActionID: challenge\r\nMessage: no\r\n\r\n",
        "Response: Success\r\nActionID: challenge\r\n\r\n",
        "Response: Success\r\nActionID: challenge\r\nChallenge: \r\n\r\n",
        "Response: Goodbye\r\nActionID: challenge\r\n\r\n",
    ] {
        run(async {
            let mut lab = Lab::new(8).await;
            for _session in 0..3 {
                let mut stream = BufReader::new(lab.listener.accept().await.unwrap().0);
                send(&mut stream, "Asterisk Call Manager/11.0.0\r\n").await;
                let mut sent = action(&mut stream).await;
                send(&mut stream, answer).await;
                stream.read_to_string(&mut sent).await.unwrap();
                assert_eq!(sent, actions::CHALLENGE, "{answer}");
                let SourceState::Failed(why) = lab.next().await.state else { panic!() };
                assert!(why.contains("refuses a login by MD5 challenge"), "{why}");
            }
        });
    }
}

/// Another user's number.
const NOBODY: u32 = 65_534;

/// Does something as another user, if this one is root; otherwise as a user that the client does not
/// expect.
fn as_another<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    thread::spawn(|| {
        // Only for this thread. The kernel assigns a socket to the current user of the thread that
        // creates it.
        if getuid().is_root() {
            setfsuid(NOBODY.into());
        }
        work()
    })
}

fn not_me(login: &mut AmiSource) {
    login.listener = (getuid().as_raw() + 1).to_string();
}

/// A local user takes the port before Asterisk.
#[test]
fn another_user_who_listens_is_not_even_connected_to() {
    run(async {
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = as_another(bind).join().unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let mut lab = Lab::of(8, listener, TEST, not_me);
        let SourceState::Failed(why) = lab.next().await.state else { panic!() };
        assert!(why.contains("not root or") && why.contains("ss -ltnp"), "{why}");
        assert!(timeout(Duration::from_millis(50), lab.listener.accept()).await.is_err());
    });
}

/// Another user takes the port after the listener was checked.
#[test]
fn another_user_who_accepts_is_sent_nothing() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut login = AmiSource {
            port: listener.local_addr().unwrap().port(),
            ..Config::default().sources.asterisk.ami
        };
        let thief = as_another(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"Asterisk Call Manager/11.0.0\r\n").unwrap();
            let mut sent = Vec::new();
            stream.read_to_end(&mut sent).unwrap();
            sent
        });
        let stream = TcpStream::connect(("127.0.0.1", login.port)).await.unwrap();
        let (frames, mut queue) = (Frames::default(), Queue::default());
        let mut connection = Connection { stream, frames, timing: TEST, queue: &mut queue };
        not_me(&mut login);
        let owner = Owner::of(&login.listener).unwrap();
        let why = connection.check(&owner, true).await.unwrap_err();
        assert!(why.contains("not root or"), "{why}");
        drop(connection);
        assert_eq!(thief.join().unwrap(), b"");
    });
}

#[test]
fn another_host_is_logged_in_to_only_by_leave() {
    for (place, remote, is) in [
        (Place::Here, false, true),
        (Place::Here, true, true),
        (Place::Elsewhere, false, false),
        (Place::Elsewhere, true, true),
    ] {
        assert_eq!(may_be(place, remote).is_ok(), is, "{place:?} {remote}");
    }
}

#[test]
fn a_login_without_the_class_is_said() {
    run(async {
        let mut lab = Lab::with(Timing { own_login: SHORT, ..TEST }).await;
        let mut stream = lab.log_in().await;
        send(&mut stream, WELCOME).await;
        let SourceState::Failed(why) = lab.next().await.state else { panic!() };
        assert!(why.contains("read = security"), "{why}");
        // And the finding is withdrawn when an event arrives after all.
        send(&mut stream, EVENT).await;
        assert_eq!(lab.next().await.state, SourceState::Ok);
    });
}

#[test]
fn a_silent_asterisk_is_asked_and_then_left() {
    run(async {
        let mut lab = Lab::with(Timing { silence: SHORT, ..TEST }).await;
        let mut stream = lab.log_in().await;
        send(&mut stream, WELCOME).await;
        send(&mut stream, EVENT).await;
        assert_eq!(lab.next().await.state, SourceState::Ok);
        assert!(action(&mut stream).await.contains("Action: Ping"));
        send(&mut stream, "Response: Success\r\nActionID: ping\r\nPing: Pong\r\n\r\n").await;
        assert!(action(&mut stream).await.contains("Action: Ping"));
        let SourceState::Failed(why) = lab.next().await.state else { panic!() };
        assert!(why.contains("has not answered"), "{why}");
    });
}

/// Whether anything else is part of its text is asked in a way that nobody can answer beforehand.
#[test]
fn a_refused_login_is_believed_once_asterisk_has_written_all_of_it() {
    run(async {
        let mut lab = Lab::new(8).await;
        let mut stream = lab.log_in().await;
        send(&mut stream, WELCOME).await;
        let login = EVENT.replace("Service: PJSIP", "Service: AMI").replace("/UDP/", "/TCP/");
        assert_ne!(login, EVENT);
        let mut ids = Vec::new();
        for _ in 0..2 {
            send(&mut stream, &login).await;
            let asked = action(&mut stream).await;
            let id = asked.split("ActionID: ").nth(1).unwrap().trim_end().to_owned();
            assert!(asked.starts_with("Action: Ping\r\n") && id.len() > 16, "{asked}");
            let answer = format!("Response: Success\r\nActionID: {id}\r\nPing: Pong\r\n\r\n");
            send(&mut stream, &answer).await;
            let heard = loop {
                let heard = lab.next().await;
                if !heard.attempts.is_empty() {
                    break heard;
                }
            };
            assert!(heard.attempts[0].proven && !heard.attempts[0].needs_witness);
            ids.push(id);
        }
        assert_ne!(ids[0], ids[1]);
    });
}

#[test]
fn without_a_secret_it_waits_until_there_is_one() {
    run(async {
        let mut lab = Lab::new(8).await;
        drop(lab.log_in().await);
        let path = lab.directory.path().join("secret");
        let away = lab.directory.path().join("away");
        fs::rename(&path, &away).unwrap();
        assert!(matches!(lab.next().await.state, SourceState::Failed(_)));
        let SourceState::Waiting(why) = lab.next().await.state else { panic!() };
        assert!(why.contains("secret of the AMI user `ringfence`"), "{why}");
        fs::rename(&away, &path).unwrap();
        lab.log_in().await;
    });
}

/// If the controller does not receive, Asterisk is still read, and events without room are counted.
#[test]
fn what_is_not_taken_has_a_bound_and_is_counted() {
    run(async {
        const EVENTS: usize = QUEUE_MAX.next_multiple_of(100) + 1000;
        let mut lab = Lab::new(1).await;
        let mut stream = lab.log_in().await;
        send(&mut stream, WELCOME).await;
        send(&mut stream, EVENT).await;
        // The event that is not received below occupies the only place in the channel.
        while lab.heard.is_empty() {
            tokio::task::yield_now().await;
        }
        let chunk = EVENT.repeat(100);
        for _hundred in 0..EVENTS / 100 {
            send(&mut stream, &chunk).await;
        }
        // It disconnects once it has read everything.
        stream.shutdown().await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
        let (mut events, mut kept, mut lost) = (0, 0, 0);
        loop {
            let heard = lab.next().await;
            assert!(heard.attempts.len() <= QUEUE_MAX);
            (events, lost) = (events + heard.lines, lost + heard.lost);
            kept += heard.attempts.len() as u64;
            if heard.state != SourceState::Ok {
                break;
            }
        }
        assert_eq!(events, EVENTS as u64 + 1);
        assert_eq!(events, kept + lost);
        assert!(lost > 0);
    });
}

//! Against a small server that answers as wazo-provd and wazo-auth do, and as they should not.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ::audit::{html, report, text};
use api::AuditPart;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::replace::{Talk, fix_with, synchronize_with, undo_with};
use super::*;
use crate::audit::curl::{Identity, Request};

/// As the real ones answered.
const CONFIGS: &str = include_str!("../../../audit/src/devices/configs.json");
const DEVICES: &str = include_str!("../../../audit/src/devices/devices.json");

/// Every secret of the fixture. The vendors' defaults in it are short words.
const SECRETS: [&str; 8] = [
    "Vq3wXk81LmZr07Tb",
    "p7RtY2mNc94KsQd1",
    "SipSecret",
    "7391",
    "Kx2-",
    "key-of-the-service",
    "token-of-the-session",
    "hunter2",
];

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Right,
    /// With this status, and a body that repeats a password.
    Status(u16),
    /// The same, but only to changes.
    Refuse(u16),
    /// With this text and the right status.
    Text(&'static str),
    /// With fewer bytes than it announced.
    Short,
    /// With more bytes than are read.
    Huge,
    /// Announces more bytes than are read.
    HugeLength,
    /// Not at all.
    Never,
}

/// The state of the server.
struct State {
    configs: BTreeMap<String, Value>,
    devices: Value,
    mood: Mood,
    /// The paths that have the mood begin with this.
    moody: &'static str,
    requests: Vec<String>,
}

struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn new() -> Self {
        let all: Value = serde_json::from_str(CONFIGS).unwrap();
        let configs = all["configs"].as_array().unwrap().iter();
        let configs = configs.map(|one| (one["id"].as_str().unwrap().to_owned(), one.clone()));
        let state = Arc::new(Mutex::new(State {
            configs: configs.collect(),
            devices: serde_json::from_str(DEVICES).unwrap(),
            mood: Mood::Right,
            moody: "/api/provd",
            requests: Vec::new(),
        }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let of_server = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let state = of_server.clone();
                thread::spawn(move || serve(stream.unwrap(), &state));
            }
        });
        Self { url, state }
    }

    fn mood(&self, mood: Mood, moody: &'static str) {
        let mut state = self.state.lock().unwrap();
        (state.mood, state.moody) = (mood, moody);
    }

    fn access(&self) -> Access {
        let key = Secret::new("key-of-the-service".to_owned());
        Access {
            place: Place::at(&self.url, false).unwrap(),
            ca: None,
            insecure: false,
            credentials: Credentials::User("ringfence".to_owned(), key),
        }
    }

    fn visit(&self) -> Result<Visit> {
        visit_with(self.access(), &[], &HttpAuth::None)
    }

    fn password(&self, config: &str, key: &str) -> Value {
        self.state.lock().unwrap().configs[config]["raw_config"][key].clone()
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// The head and the body of a request.
fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return Some((head.to_owned(), body.to_owned()));
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend(&buffer[..length]),
        }
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let Some((head, body)) = read_request(&mut stream) else { return };
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (mood, moody) = {
        let mut state = state.lock().unwrap();
        state.requests.push(format!("{method} {path}"));
        (state.mood, state.moody)
    };
    let mood = if path.starts_with(moody) { mood } else { Mood::Right };
    let (status, location, answer) = match mood {
        Mood::Refuse(status) if method == "PUT" => (status, "", "hunter2".to_owned()),
        Mood::Right | Mood::Short | Mood::Refuse(_) => {
            answer(method, path, &head, &body, &mut state.lock().unwrap())
        }
        Mood::Status(status) => (status, "", "hunter2".to_owned()),
        Mood::Text(text) => (200, "", text.to_owned()),
        Mood::Huge => {
            let chunk = format!("100000\r\n{}\r\n", "x".repeat(1 << 20));
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").ok();
            for _ in 0..70 {
                if stream.write_all(chunk.as_bytes()).is_err() {
                    return;
                }
            }
            stream.write_all(b"0\r\n\r\n").ok();
            return;
        }
        Mood::HugeLength => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx").ok();
            return;
        }
        Mood::Never => {
            // Until curl gives up.
            stream.read_to_end(&mut Vec::new()).ok();
            return;
        }
    };
    let length = if mood == Mood::Short { answer.len() + 100 } else { answer.len() };
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{location}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok();
    stream.write_all(answer.as_bytes()).ok();
}

/// The status, the header `Location`, and the body of an answer.
fn answer(
    method: &str,
    path: &str,
    head: &str,
    body: &str,
    state: &mut State,
) -> (u16, &'static str, String) {
    let none = String::new();
    if path == "/api/auth/0.1/token" {
        // ringfence:key-of-the-service
        let is_user =
            head.contains("Authorization: Basic cmluZ2ZlbmNlOmtleS1vZi10aGUtc2VydmljZQ==");
        return if is_user && method == "POST" {
            (200, "", json!({"data": {"token": "token-of-the-session", "acl": []}}).to_string())
        } else {
            (401, "", json!({"reason": ["Authentication Failed"], "status_code": 401}).to_string())
        };
    }
    if !head.contains("X-Auth-Token: token-of-the-session") {
        return (401, "", "Unauthorized".to_owned());
    }
    if path.starts_with("/api/auth/0.1/token/") {
        return (200, "", json!({"data": {"message": "success"}}).to_string());
    }
    let Some(path) = path.strip_prefix("/api/provd/0.2") else { return (404, "", none) };
    if ["PUT", "POST"].contains(&method)
        && !head.contains("Content-Type: application/vnd.proformatique.provd+json")
    {
        return (415, "", none);
    }
    match (method, path) {
        ("GET", "/dev_mgr/devices?recurse=true") => (200, "", state.devices.to_string()),
        ("GET", "/cfg_mgr/configs") => {
            let all: Vec<&Value> = state.configs.values().collect();
            (200, "", json!({ "configs": all }).to_string())
        }
        ("POST", "/dev_mgr/synchronize") => (201, "Location: /0.2/dev_mgr/synchronize/1\r\n", none),
        ("DELETE", _) => (204, "", none),
        _ => {
            let id = path.strip_prefix("/cfg_mgr/configs/").unwrap_or_default();
            let Some(config) = state.configs.get_mut(id) else {
                return (404, "", "No such resource".to_owned());
            };
            if method == "GET" {
                return (200, "", json!({ "config": config }).to_string());
            }
            *config = serde_json::from_str::<Value>(body).unwrap()["config"].take();
            (204, "", none)
        }
    }
}

/// Says yes to the questions that contain one of these, and remembers all that is said.
struct Script {
    yes: &'static [&'static str],
    said: String,
}

impl Script {
    fn new(yes: &'static [&'static str]) -> Self {
        Self { yes, said: String::new() }
    }
}

impl Talk for Script {
    fn ask(&mut self, question: &str) -> Result<bool> {
        self.say(&format!("{question}\n"))?;
        Ok(self.yes.iter().any(|yes| question.contains(yes)))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        self.said += text;
        Ok(())
    }
}

fn without_secrets(text: &str, more: &[&str]) {
    for secret in SECRETS.iter().chain(more) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[test]
fn no_output_shows_a_secret() {
    let server = Server::new();
    let visit = server.visit().unwrap();
    let facts = ::audit::facts::Facts::default();
    let report = report::report(facts, &[AuditPart::Devices], visit.findings().to_vec());
    assert_eq!((report.findings.len(), report.listeners.len()), (14, 0));
    for output in [
        format!("{visit:?}"),
        serde_json::to_string(&report).unwrap(),
        text::findings_alone(&report),
        text::report(&report),
        html::page(&report),
    ] {
        assert!(!output.contains('\u{1b}'));
        without_secrets(&output, &[]);
    }
    drop(visit);
    let requests = server.requests();
    assert_eq!(
        requests,
        [
            "POST /api/auth/0.1/token",
            "GET /api/provd/0.2/dev_mgr/devices?recurse=true",
            "GET /api/provd/0.2/cfg_mgr/configs",
            // The session's own token is revoked.
            "DELETE /api/auth/0.1/token/token-of-the-session",
        ]
    );
}

#[test]
fn bad_answers_are_explained_without_being_repeated() {
    let server = Server::new();
    for (mood, moody, expected) in [
        (Mood::Status(401), "/api/auth", "does not accept the user or the password"),
        (Mood::Status(500), "/api/auth", "wazo-auth does not issue a token: it answers 500"),
        (Mood::Text("{\"data\": {\"token\": [\"hunter2\"]}}"), "/api/auth", "contains no token"),
        (Mood::Status(401), "/api/provd", "lacks the right `provd.dev_mgr.devices.read`"),
        (
            Mood::Status(403),
            "/api/provd/0.2/cfg_mgr",
            "lacks the right `provd.cfg_mgr.configs.read`",
        ),
        (Mood::Status(404), "/api/provd", "is wazo-provd at this address?"),
        (Mood::Status(302), "/api/provd", "wazo-provd answers 302"),
        (Mood::Status(500), "/api/provd", "wazo-provd answers 500"),
        (Mood::Text("<html>hunter2"), "/api/provd", "no list of devices (line 1, column 1)"),
        (
            Mood::Text("{\"devices\": [], \"configs\": [{\"id\": \"hunter2\"}, \"hunter2\"]}"),
            "/api/provd",
            "no list of configurations (line 1, column",
        ),
        (Mood::Text(""), "/api/provd", "no list of devices"),
        (Mood::Short, "/api/provd", "curl: (18)"),
        (Mood::Huge, "/api/provd/0.2/cfg_mgr", "more than 64 MiB"),
        (Mood::HugeLength, "/api/provd", "curl: (63)"),
    ] {
        server.mood(mood, moody);
        let why = format!("{:#}", server.visit().unwrap_err());
        assert!(why.contains(expected), "{mood:?} {moody}: {why}");
        without_secrets(&why, &[]);
    }
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let server = Server::new();
    server.mood(Mood::Never, "/api/auth");
    let Access { place, credentials, .. } = server.access();
    let curl = Curl { time: Duration::from_secs(1), ..Curl::new(None, false) };
    let why = Session::begin(place, curl, &credentials).unwrap_err();
    assert!(format!("{why:#}").contains("curl: (28)"), "{why:#}");
    // A port on which nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::at(&format!("http://{closed}"), false).unwrap();
    let why = Session::begin(place, Curl::new(None, false), &credentials).unwrap_err();
    assert!(format!("{why:#}").starts_with("ask wazo-auth; does it run?: "), "{why:#}");
}

#[test]
fn five_thousand_telephones_are_read() {
    let server = Server::new();
    {
        let mut state = server.state.lock().unwrap();
        let template = state.configs["d1"].clone();
        let keys: serde_json::Map<String, Value> = (0..60)
            .map(|key| {
                (key.to_string(), json!({"type": "blf", "value": "1001", "label": "Somebody"}))
            })
            .collect();
        let mut devices = Vec::new();
        for number in 0..5000 {
            let id = format!("{number:032x}");
            let mut config = template.clone();
            config["id"] = json!(id);
            config["raw_config"]["funckeys"] = Value::Object(keys.clone());
            devices.push(json!({"id": id, "config": id, "ip": "10.0.0.1", "plugin": "wazo-snom"}));
            state.configs.insert(id, config);
        }
        state.devices = json!({ "devices": devices });
    }
    let visit = server.visit().unwrap();
    let inherited = |one: &&AuditFinding| one.id == "device-password/admin/inherited";
    let one = visit.findings().iter().find(inherited).unwrap();
    assert_eq!(one.title, "5000 telephones have the admin password of their template");
}

#[test]
fn passwords_are_replaced_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringfence.devices");
    let server = Server::new();
    let before = server.state.lock().unwrap().configs.clone();
    let visit = server.visit().unwrap();

    let mut script = Script::new(&["lobby", "bare", "numbers"]);
    assert_eq!(fix_with(&visit, &mut script, &file).unwrap(), 6);
    let new: Vec<String> = [
        ("lobby", "admin_password"),
        ("lobby", "user_password"),
        ("bare", "admin_password"),
        ("bare", "user_password"),
        ("numbers", "admin_password"),
        ("numbers", "user_password"),
    ]
    .map(|(config, key)| server.password(config, key).as_str().unwrap().to_owned())
    .into();
    assert!(new.iter().all(|one| one.len() == 16), "{new:?}");
    let distinct: std::collections::BTreeSet<&String> = new.iter().collect();
    assert_eq!(distinct.len(), new.len());
    // All else is as it was.
    let mut now = server.state.lock().unwrap().configs.clone();
    for config in ["lobby", "bare", "numbers"] {
        for key in ["admin_password", "user_password"] {
            let old = before[config]["raw_config"].get(key);
            let raw = now.get_mut(config).unwrap()["raw_config"].as_object_mut().unwrap();
            match old {
                Some(old) => raw.insert(key.to_owned(), old.clone()),
                None => raw.remove(key),
            };
        }
    }
    assert_eq!(now, before);
    let kept = fs::read_to_string(&file).unwrap();
    let new: Vec<&str> = new.iter().map(|one| &**one).collect();
    without_secrets(&script.said, &new);
    assert!(script.said.contains("6 passwords are replaced in wazo-provd"), "{}", script.said);
    assert!(new.iter().all(|new| !kept.contains(new)), "{kept}");

    // Somebody has changed one since.
    let change = |state: &mut State| {
        state.configs.get_mut("bare").unwrap()["raw_config"]["user_password"] = json!("hunter2");
    };
    change(&mut server.state.lock().unwrap());
    let mut script = Script::new(&[]);
    assert_eq!(undo_with(&visit, &mut script, &file).unwrap(), 5);
    assert!(
        script.said.contains("bare: user password changed since, so it stays as it is\n"),
        "{}",
        script.said
    );
    without_secrets(&script.said, &new);
    let now = server.state.lock().unwrap().configs.clone();
    let raw = |config: &str| now[config]["raw_config"].clone();
    assert_eq!(raw("lobby"), before["lobby"]["raw_config"]);
    assert_eq!(raw("numbers")["admin_password"], json!("7391"));
    assert_eq!(raw("bare"), json!({"ntp_enabled": false, "user_password": "hunter2"}));
    assert!(!file.exists());
    let why = undo_with(&visit, &mut script, &file).unwrap_err().to_string();
    assert!(why.contains("no password was replaced"), "{why}");
}

#[test]
fn a_failure_leaves_something_to_undo() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringfence.devices");
    let server = Server::new();
    let visit = server.visit().unwrap();
    let mut script = Script::new(&["lobby"]);
    assert_eq!(fix_with(&visit, &mut script, &file).unwrap(), 2);
    server.mood(Mood::Status(500), "/api/provd");
    let why = format!("{:#}", undo_with(&visit, &mut script, &file).unwrap_err());
    assert!(why.contains("2 passwords could not be restored"), "{why}");
    let why = format!("{:#}", fix_with(&visit, &mut script, &file).unwrap_err());
    assert!(why.contains("replace the admin password of lobby: wazo-provd answers 500"), "{why}");
    without_secrets(&format!("{why}{}", script.said), &[]);
    // A second replacement that wazo-provd refuses does not make the first one permanent.
    server.mood(Mood::Refuse(500), "/api/provd");
    fix_with(&visit, &mut script, &file).unwrap_err();
    assert_ne!(server.password("lobby", "admin_password"), json!("admin"));
    server.mood(Mood::Right, "/");
    assert_eq!(undo_with(&visit, &mut script, &file).unwrap(), 2);
    assert_eq!(server.password("lobby", "admin_password"), json!("admin"));
}

#[test]
fn telephones_are_synchronised_after_a_yes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringfence.devices");
    let server = Server::new();
    let visit = server.visit().unwrap();
    let mut script = Script::new(&["defaultconfigdevice", "Synchronise"]);
    assert_eq!(fix_with(&visit, &mut script, &file).unwrap(), 1);
    assert_eq!(synchronize_with(&visit, &mut Script::new(&[]), &file).unwrap(), 0);
    server.requests();
    server.mood(Mood::Status(500), "/api/provd/0.2/dev_mgr/synchronize");
    let why = synchronize_with(&visit, &mut script, &file).unwrap_err().to_string();
    assert!(why.starts_with("3 telephones could not be synchronised"), "{why}");
    assert!(file.exists());
    server.mood(Mood::Right, "/");
    server.requests();
    assert_eq!(synchronize_with(&visit, &mut script, &file).unwrap(), 3);
    assert!(script.said.contains("Synchronise 3 telephones?"), "{}", script.said);
    assert!(!file.exists());
    let requests = server.requests();
    let number = |what: &str| requests.iter().filter(|one| *one == what).count();
    assert_eq!(
        (
            number("POST /api/provd/0.2/dev_mgr/synchronize"),
            number("DELETE /api/provd/0.2/dev_mgr/synchronize/1"),
            requests.len()
        ),
        (3, 3, 6)
    );
}

/// `openssl s_server`, which sends files as they are.
struct Tls {
    server: Child,
    port: String,
    directory: TempDir,
}

impl Tls {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(directory.path());
            command.stdin(Stdio::null()).stderr(Stdio::null());
            command
        };
        let made = openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost",
        );
        let made = { made }.status().unwrap();
        assert!(made.success());
        for (path, document) in [
            ("api/provd/0.2/dev_mgr/devices?recurse=true", DEVICES),
            ("api/provd/0.2/cfg_mgr/configs", CONFIGS),
        ] {
            let file = directory.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, format!("HTTP/1.0 200 OK\r\n\r\n{document}")).unwrap();
        }
        let mut server = openssl("s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem -HTTP")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = io::BufReader::new(server.stdout.take().unwrap());
        let mut line = String::new();
        while !line.starts_with("ACCEPT") {
            line.clear();
            assert_ne!(io::BufRead::read_line(&mut said, &mut line).unwrap(), 0);
        }
        let port = line.trim().rsplit(':').next().unwrap().to_owned();
        thread::spawn(move || io::copy(&mut said, &mut io::sink()));
        Self { server, port, directory }
    }

    fn visit(&self, host: &str, ca: Option<PathBuf>, insecure: bool) -> Result<Visit> {
        let credentials = token(&Secret::new("token-of-the-session".to_owned())).unwrap();
        let place = Place::at(&format!("https://{host}:{}", self.port), insecure).unwrap();
        visit_with(Access { place, ca, insecure, credentials }, &[], &HttpAuth::Unknown)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

#[test]
fn certificates_are_verified() {
    let tls = Tls::new();
    let why = format!("{:#}", tls.visit("localhost", None, false).unwrap_err());
    assert!(why.contains("`--ca FILE`") && why.contains("curl: (60)"), "{why}");
    without_secrets(&why, &[]);
    let ca = tls.directory.path().join("cert.pem");
    let visit = tls.visit("localhost", Some(ca.clone()), false).unwrap();
    assert_eq!(visit.findings().len(), 13);
    assert_eq!(tls.visit("localhost", None, true).unwrap().findings().len(), 13);
    // The certificate is for another name.
    let why = format!("{:#}", tls.visit("127.0.0.1", Some(ca), false).unwrap_err());
    assert!(why.contains("curl: (60)"), "{why}");
}

#[test]
fn places() {
    for (url, insecure, expected) in [
        ("https://wazo.example/", false, Some("https://wazo.example/api/provd/0.2")),
        ("https://[2001:db8::1]:8443", false, Some("https://[2001:db8::1]:8443/api/provd/0.2")),
        ("http://127.0.0.1:80", false, Some("http://127.0.0.1:80/api/provd/0.2")),
        ("http://[::1]", false, Some("http://[::1]/api/provd/0.2")),
        ("http://wazo.example", true, Some("http://wazo.example/api/provd/0.2")),
        ("http://wazo.example", false, None),
        ("http://192.0.2.1:127", false, None),
        ("wazo.example", false, None),
        ("ftp://wazo.example", true, None),
        ("https://user:pw@wazo.example", true, None),
        ("https://a b", true, None),
        ("https://", true, None),
        ("https://wazo.example/path", true, None),
    ] {
        let place = Place::at(url, insecure).ok();
        assert_eq!(place.as_ref().map(Place::provd), expected, "{url}");
    }
}

#[test]
fn keys_and_tokens_are_read_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.yml");
    fs::write(&file, "service_id: ringfence\nservice_key: 'a-key'\n").unwrap();
    let Credentials::User(name, key) = Credentials::from_key(&file).unwrap() else { panic!() };
    assert_eq!((&*name, key.expose()), ("ringfence", "a-key"));
    fs::write(&file, " one-word \n").unwrap();
    let Credentials::Token(token) = Credentials::from_token_file(&file).unwrap() else { panic!() };
    assert_eq!(token.expose(), "one-word");
    for wrong in ["", "two hunter2", "hunter2\u{e9}"] {
        fs::write(&file, wrong).unwrap();
        without_secrets(&format!("{:#}", Credentials::from_token_file(&file).unwrap_err()), &[]);
        without_secrets(&format!("{:#}", Credentials::from_key(&file).unwrap_err()), &[]);
    }
    fs::write(&file, "x".repeat(5000)).unwrap();
    Credentials::from_token_file(&file).unwrap_err();
}

#[test]
fn the_strategy_is_read_from_the_first_file_that_sets_it() {
    let etc = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = etc.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    http_auth(etc.path()).unwrap_err();
    write("config.yml", "general:\n  http_auth_strategy: null\n");
    assert_eq!(http_auth(etc.path()).unwrap(), HttpAuth::None);
    write("conf.d/50-x.yml", "general: {http_auth_strategy: url_key}\n");
    assert_eq!(http_auth(etc.path()).unwrap(), HttpAuth::Key);
    write("conf.d/10-x.yml", "general: {http_auth_strategy: null}\n");
    write("conf.d/.05.yml", "general: {http_auth_strategy: url_key}\n");
    write("conf.d/05.yaml", "general: {http_auth_strategy: url_key}\n");
    assert_eq!(http_auth(etc.path()).unwrap(), HttpAuth::None);
    write("conf.d/01.yml", "{");
    assert!(http_auth(etc.path()).unwrap_err().to_string().contains("01.yml"));
}

#[test]
fn a_whole_audit_says_that_it_has_no_key() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(without_asking_in(&missing, &missing, &[]).is_none());
    let found = without_asking_in(directory.path(), &missing, &[]).unwrap().unwrap();
    assert_eq!(found.iter().map(|one| &*one.id).collect::<Vec<_>>(), ["devices-unexamined"]);
}

/// The secrets are on standard input only, so that no user of the host sees them in a list of processes.
#[test]
fn no_secret_is_on_a_command_line() {
    let server = Server::new();
    server.mood(Mood::Never, "/");
    let curl = Curl { time: Duration::from_secs(5), ..Curl::new(None, false) };
    let url = format!("{}/x", server.url);
    let call = thread::spawn(move || {
        let token = Secret::new("token-of-the-session".to_owned());
        let identity = Identity::Token(&token);
        curl.call(Request { method: "GET", url: &url, identity, body: None }).unwrap_err()
    });
    let mut found = Vec::new();
    while found.is_empty() && !call.is_finished() {
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
            let status = String::from_utf8_lossy(&read("status")).into_owned();
            let is_child = status.contains(&format!("PPid:\t{}\n", std::process::id()));
            if is_child && status.starts_with("Name:\tcurl\n") {
                found = [read("cmdline"), read("environ")].concat();
            }
        }
    }
    let found = String::from_utf8_lossy(&found).into_owned();
    assert!(found.starts_with("curl\0--disable\0--config\0-\0"), "{found}");
    without_secrets(&found, &[]);
    call.join().unwrap();
}

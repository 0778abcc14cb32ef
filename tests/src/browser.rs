//! Debian's Chromium in a network namespace, driven through chromedriver (`WebDriver` of the W3C).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::child::{self, OnSignal, Running};
use crate::netns::{Entry, Netns};
use crate::scratch;
use crate::world::until;

/// The port of chromedriver.
const PORT: u16 = 9515;

const LIMIT: Duration = Duration::from_mins(1);

/// The quality of a picture as WebP, in per cent: text is still sharp.
const WEBP_QUALITY: u8 = 80;

/// Options with which Chromium shows pages and does nothing else.
const OPTIONS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A running browser with one window.
#[derive(Debug)]
pub struct Browser {
    host: Entry,
    session: String,
    /// Dropped before the profile, which it uses.
    _driver: Running,
    _profile: TempDir,
}

impl Browser {
    /// Starts it on a host.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(host: &Netns) -> anyhow::Result<Self> {
        let host = host.entry();
        let profile = scratch::directory("browser")?;
        let mut command = host.command("chromedriver");
        command.arg(format!("--port={PORT}")).arg("--log-level=OFF");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let driver = Running::spawn("chromedriver", &mut command)?;
        let data = format!("--user-data-dir={}", profile.path().display());
        let options: Vec<&str> = OPTIONS.into_iter().chain([&*data]).collect();
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"binary": "/usr/bin/chromium", "args": options},
        }}});
        if !until(LIMIT, || call(&host, "GET", "/status", None).is_ok()) {
            bail!("chromedriver does not answer");
        }
        let session = call(&host, "POST", "/session", Some(&wanted)).context("start Chromium")?;
        let session = session["sessionId"].as_str().context("a session has a name")?.to_owned();
        Ok(Self { host, session, _driver: driver, _profile: profile })
    }

    fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        call(&self.host, "POST", &format!("/session/{}{path}", self.session), Some(body))
    }

    /// A command of the protocol of its developer tools.
    ///
    /// # Errors
    ///
    /// If the browser refuses it.
    pub fn tools(&self, command: &str, parameters: &Value) -> anyhow::Result<Value> {
        let body = json!({"cmd": command, "params": parameters});
        self.post("/goog/cdp/execute", &body)
    }

    /// Opens an address, and waits until it is loaded.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(&self, url: &str) -> anyhow::Result<()> {
        self.post("/url", &json!({"url": url})).map(drop)
    }

    /// The value of an expression in JavaScript.
    ///
    /// # Errors
    ///
    /// If it throws.
    pub fn value(&self, expression: &str) -> anyhow::Result<Value> {
        self.run(&format!("return ({expression});"))
    }

    /// What a script returns. If that is a promise, what becomes of it.
    ///
    /// # Errors
    ///
    /// If it throws.
    pub fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// The text that is visible.
    ///
    /// # Errors
    ///
    /// If there is no page.
    pub fn text(&self) -> anyhow::Result<String> {
        Ok(self.value("document.body.innerText")?.as_str().unwrap_or_default().to_owned())
    }

    /// Makes the window as wide and high as a screen.
    ///
    /// # Errors
    ///
    /// If it cannot be changed.
    pub fn screen(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let mobile = width < 600;
        self.tools(
            "Emulation.setDeviceMetricsOverride",
            &json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}),
        )
        .map(drop)
    }

    /// Prefers a dark page, or a light one.
    ///
    /// # Errors
    ///
    /// If it cannot be changed.
    pub fn dark(&self, dark: bool) -> anyhow::Result<()> {
        let value = if dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": value}]);
        self.tools("Emulation.setEmulatedMedia", &json!({"features": features})).map(drop)
    }

    /// Presses the key Tab, which moves the focus, this many times. Returns the value of an expression after each.
    ///
    /// # Errors
    ///
    /// If it cannot be pressed, or the expression throws.
    pub fn press_tab(&self, times: usize, expression: &str) -> anyhow::Result<Vec<Value>> {
        let key = |kind| {
            json!({"cmd": "Input.dispatchKeyEvent", "params":
                {"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}})
        };
        let script = json!({"script": format!("return ({expression});"), "args": []});
        let step = [
            ("/goog/cdp/execute", key("keyDown")),
            ("/goog/cdp/execute", key("keyUp")),
            ("/execute/sync", script),
        ];
        let step = step.map(|(path, body)| Call {
            method: "POST",
            path: format!("/session/{}{path}", self.session),
            body: Some(body),
        });
        let steps: Vec<Call> = (0..times).flat_map(|_| step.clone()).collect();
        let answers = call_all(&self.host, &steps)?;
        Ok(answers.into_iter().skip(2).step_by(3).collect())
    }

    /// What the browser complained about since the last call.
    ///
    /// # Errors
    ///
    /// If it does not say.
    pub fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let entries = self.post("/se/log", &json!({"type": "browser"}))?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        Ok(entries.iter().map(|entry| entry["message"].to_string()).collect())
    }

    /// Writes a picture of the window: as WebP if the name of the file ends so, which takes a tenth of the space, and
    /// otherwise as PNG.
    ///
    /// # Errors
    ///
    /// If it cannot be made or written.
    pub fn picture(&self, file: &Path) -> anyhow::Result<()> {
        let form = if file.extension().is_some_and(|end| end == "webp") {
            json!({"format": "webp", "quality": WEBP_QUALITY})
        } else {
            json!({"format": "png"})
        };
        let picture = self.tools("Page.captureScreenshot", &form)?;
        let encoded = file.with_extension("base64");
        fs::write(&encoded, picture["data"].as_str().unwrap_or_default())
            .context("write the picture")?;
        let out = fs::File::create(file).with_context(|| format!("create {}", file.display()))?;
        let mut decode = Command::new("base64");
        let done = decode.arg("--decode").arg(&encoded).stdout(out).status();
        ensure!(done.context("start base64")?.success(), "base64 failed");
        fs::remove_file(&encoded).context("remove the encoded picture")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends Chromium; chromedriver alone would leave it.
        drop(call(&self.host, "DELETE", &format!("/session/{}", self.session), None));
    }
}

/// A call to chromedriver.
#[derive(Clone, Debug)]
struct Call {
    method: &'static str,
    path: String,
    body: Option<Value>,
}

/// Makes one call.
fn call(
    host: &Entry,
    method: &'static str,
    path: &str,
    body: Option<&Value>,
) -> anyhow::Result<Value> {
    let call = Call { method, path: path.to_owned(), body: body.cloned() };
    call_all(host, &[call])?.pop().context("chromedriver answers nothing")
}

/// Calls to chromedriver, one after the other. One curl makes them all: to start it takes longer than most calls do.
fn call_all(host: &Entry, calls: &[Call]) -> anyhow::Result<Vec<Value>> {
    if calls.is_empty() {
        return Ok(Vec::new());
    }
    let directory = scratch::directory("request")?;
    let mut config = String::new();
    for (number, Call { method, path, body }) in calls.iter().enumerate() {
        let next = if number > 0 { "next\n" } else { "" };
        write!(
            config,
            "{next}silent\nshow-error\nnoproxy = \"*\"\nmax-time = 60\nrequest = {method}\n\
             url = \"http://127.0.0.1:{PORT}{path}\"\n"
        )?;
        // A script may be longer than an argument can be.
        if let Some(body) = body {
            let file = directory.path().join(format!("body-{number}"));
            fs::write(&file, body.to_string()).context("write a request")?;
            write!(
                config,
                "header = \"Content-Type: application/json\"\ndata = \"@{}\"\n",
                file.display()
            )?;
        }
    }
    let file = directory.path().join("calls");
    fs::write(&file, config).context("write the requests")?;
    let mut curl = host.command("curl");
    curl.arg("--config").arg(file);
    let done = child::finish("curl", &mut curl, 2 * LIMIT, OnSignal::Stop)?.success("curl")?;
    let answers = serde_json::Deserializer::from_str(&done.stdout).into_iter::<Value>();
    let mut values = Vec::new();
    for (answer, call) in answers.zip(calls) {
        let value = answer.context("an answer in JSON")?["value"].take();
        if let Some(error) = value["error"].as_str() {
            bail!("{}: {error}: {}", call.path, value["message"]);
        }
        values.push(value);
    }
    ensure!(values.len() == calls.len(), "{} answers to {} calls", values.len(), calls.len());
    Ok(values)
}

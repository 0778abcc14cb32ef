//! Debian's Chromium in a network namespace, driven through chromedriver (`WebDriver` of the W3C).

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

    /// Presses the key Tab, which moves the focus.
    ///
    /// # Errors
    ///
    /// If it cannot be pressed.
    pub fn press_tab(&self) -> anyhow::Result<()> {
        for kind in ["keyDown", "keyUp"] {
            let key =
                json!({"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9});
            self.tools("Input.dispatchKeyEvent", &key)?;
        }
        Ok(())
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
fn call(host: &Entry, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
    let mut curl = host.command("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "-X", method]);
    // A script may be longer than an argument can be.
    let file = scratch::directory("request")?;
    if let Some(body) = body {
        let file = file.path().join("body");
        fs::write(&file, body.to_string()).context("write a request")?;
        curl.args(["-H", "Content-Type: application/json", "-d"]);
        curl.arg(format!("@{}", file.display()));
    }
    curl.arg(format!("http://127.0.0.1:{PORT}{path}"));
    let done = child::finish("curl", &mut curl, LIMIT, OnSignal::Stop)?.success("curl")?;
    let mut answer: Value = serde_json::from_str(&done.stdout).context("an answer in JSON")?;
    let value = answer["value"].take();
    if let Some(error) = value["error"].as_str() {
        bail!("{path}: {error}: {}", value["message"]);
    }
    Ok(value)
}

//! Runs the program `curl` with its options on standard input, in the form of its configuration files, so that a
//! secret never stands on a command line.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use crate::child::{self, PATH};

/// The longest file with a key.
const KEY_MAX: usize = 4096;

/// Appends an option with its value in quotes.
///
/// # Errors
///
/// If the value has a control character, because a line break would begin another option. The format of
/// `write-out` and the content of a `form` may have line breaks and tabs.
pub(crate) fn option(text: &mut String, name: &str, value: &str) -> anyhow::Result<()> {
    let has_lines = matches!(name, "write-out" | "form");
    let is_allowed = |c: char| !c.is_control() || has_lines && matches!(c, '\n' | '\r' | '\t');
    ensure!(value.chars().all(is_allowed), "a value for curl ({name}) has a control character");
    text.push_str(name);
    text.push_str(" = \"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push_str("\"\n");
    Ok(())
}

/// The key in a file: its first line, which must not appear in any message.
///
/// # Errors
///
/// If it cannot be read or is no key; the error says why.
pub(crate) fn key(file: &Path) -> Result<Zeroizing<String>, String> {
    let mut text = Zeroizing::new(String::with_capacity(KEY_MAX + 1));
    let most = u64::try_from(KEY_MAX).unwrap_or(u64::MAX);
    let read = File::open(file).and_then(|open| open.take(most).read_to_string(&mut text));
    read.map_err(|error| format!("its key cannot be read: {}: {error}", file.display()))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() || !line.chars().all(|c| c.is_ascii_graphic() || c == ' ') {
        return Err(format!("the first line of {} is no key", file.display()));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Runs curl without the daemon's capabilities. Returns what it printed, at most one
/// byte more than `most`, or `None` with what it said instead.
///
/// # Errors
///
/// If it cannot be run.
pub(crate) async fn run(input: &str, most: usize) -> Result<(Option<Vec<u8>>, String), String> {
    let mut command = child::command("curl");
    command.args(["--disable", "--config", "-"]);
    command.env_clear().env("PATH", PATH).env("LC_ALL", "C");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.kill_on_drop(true).spawn().map_err(|error| format!("run setpriv: {error}"))?;
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("curl has no input or output".to_owned());
    };
    let give = async move {
        // A program that does not read it says why.
        let _given = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let (mut bytes, mut said) = (Vec::new(), Vec::new());
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let (mut stdout, mut stderr) = (stdout.take(limit), stderr.take(4096));
    let ((), read) = tokio::join!(give, stdout.read_to_end(&mut bytes));
    read.map_err(|error| format!("read what curl printed: {error}"))?;
    if bytes.len() > most {
        // Curl may still wait for a reader. Dropping it ends it.
        return Ok((Some(bytes), String::new()));
    }
    // Its errors are short, so they fit into the pipe.
    let _heard = stderr.read_to_end(&mut said).await;
    let status = child.wait().await.map_err(|error| format!("wait for curl: {error}"))?;
    if status.success() {
        return Ok((Some(bytes), String::new()));
    }
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().next().unwrap_or_default().trim();
    let said = if first.is_empty() { format!("curl failed ({status})") } else { first.to_owned() };
    Ok((None, said))
}

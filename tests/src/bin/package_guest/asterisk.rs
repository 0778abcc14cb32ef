//! A substitute for Wazo's Asterisk with everything that the package uses: its directories, user,
//! command line and manager interface.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::system::{must, output};

const NOTICE_LOG: &str = "/var/log/asterisk/fail2ban";
/// The commands given on its command line.
const TOLD: &str = "/run/package-test-asterisk";
const AMI_PORT: u16 = 5038;
const OWN_LOGIN: &str = "Event: SuccessfulAuth\r\nPrivilege: security,all\r\nSeverity: Informational\r\n\
    Service: AMI\r\nEventVersion: 1\r\nAccountID: ringfence\r\nSessionID: 0x7f0000000000\r\n\
    LocalAddress: IPV4/TCP/127.0.0.1/5038\r\nRemoteAddress: IPV4/TCP/127.0.0.1/40000\r\nUsingPassword: 0\r\n\r\n";
const FILES: [(&str, &str); 3] = [
    (
        "/etc/asterisk/manager.conf",
        "[general]\nenabled = yes\nport = 5038\nbindaddr = 127.0.0.1\n\n#tryinclude manager.d/*.conf\n",
    ),
    ("/etc/asterisk/logger.conf", "[logfiles]\nfail2ban => notice\n#tryinclude logger.d/*.conf\n"),
    ("/etc/asterisk/asterisk.conf", "[options]\nrunuser = asterisk\n"),
];

/// Installs it. `asterisk -rx` only records its command.
pub(crate) fn install() -> Result<()> {
    must("groupadd", &["--system", "asterisk"])?;
    must("useradd", &["--system", "--gid", "asterisk", "--no-create-home", "asterisk"])?;
    for directory in ["/etc/asterisk/manager.d", "/etc/asterisk/logger.d", "/var/log/asterisk"] {
        fs::create_dir_all(directory).with_context(|| format!("make {directory}"))?;
    }
    for (file, text) in FILES {
        fs::write(file, text).with_context(|| format!("write {file}"))?;
    }
    fs::write(NOTICE_LOG, "").context("make the log")?;
    must("chown", &["-R", "asterisk:asterisk", "/var/log/asterisk", "/etc/asterisk"])?;
    // Only its user and group have access.
    must("chmod", &["0750", "/var/log/asterisk"])?;
    must("chmod", &["0640", NOTICE_LOG])?;
    let program = "/usr/sbin/asterisk";
    fs::write(program, format!("#!/bin/sh\necho \"$@\" >> {TOLD}\n")).context("write a program")?;
    fs::set_permissions(program, Permissions::from_mode(0o755)).context("set its mode")
}

/// Fails unless it was given this command.
pub(crate) fn was_told(words: &str) -> Result<()> {
    let told = fs::read_to_string(TOLD).unwrap_or_default();
    ensure!(told.contains(words), "Asterisk was told {told:?}, and not {words:?}");
    Ok(())
}

/// Fails unless the package's AMI user exists with a secret that Asterisk can read and others cannot.
pub(crate) fn has_the_ami_user() -> Result<()> {
    let placed = Path::new("/etc/asterisk/manager.d/ringfence.conf");
    ensure!(placed.exists(), "{} is missing", placed.display());
    let secret = "/etc/ringfence/ami.secret";
    let mode = output("stat", &["--format=%U:%G %a", secret])?;
    ensure!(mode.contains(":asterisk ") && mode.trim().ends_with('0'), "{secret} is {mode}");
    must("runuser", &["-u", "asterisk", "--", "cat", secret])?;
    was_told("manager reload")
}

/// Serves AMI to any number of clients until this process ends.
pub(crate) fn serve_ami() -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", AMI_PORT)).context("open AMI's port")?;
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            thread::spawn(move || -> Result<()> {
                let actions = BufReader::new(client.try_clone().context("duplicate a socket")?);
                client.write_all(b"Asterisk Call Manager/11.0.0\r\n").context("greet")?;
                let mut action = String::new();
                for line in actions.lines() {
                    let line = line.context("read an action")?;
                    if !line.is_empty() {
                        action.push_str(&line);
                        action.push('\n');
                        continue;
                    }
                    client.write_all(answer(&action).as_bytes()).context("answer")?;
                    action.clear();
                }
                Ok(())
            });
        }
    });
    Ok(())
}

/// The response to an action: success, and a challenge if the action asks for one.
fn answer(action: &str) -> String {
    let id = action.lines().find(|line| line.starts_with("ActionID: ")).unwrap_or("ActionID: ");
    let challenge = action.contains("Action: Challenge");
    let challenge = if challenge { "Challenge: 160512217\r\n" } else { "" };
    // A user who may read security events hears of the own login.
    let login = action.contains("Action: Login");
    let event = if login { OWN_LOGIN } else { "" };
    format!("Response: Success\r\n{id}\r\n{challenge}Message: Done\r\n\r\n{event}")
}

/// Writes the lines that Asterisk logs about wrong passwords from this address.
pub(crate) fn log_failures_of(address: Ipv4Addr) -> Result<()> {
    let time = output("date", &["+%F %T.0000"])?;
    let time = time.trim();
    let line = format!(
        "[{time}] NOTICE[1234] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from \
         '\"1\" <sip:1@192.0.2.1>' failed for '{address}:5060' (callid: abc) - Failed to authenticate\n"
    );
    let mut log = OpenOptions::new().append(true).open(NOTICE_LOG).context("open the log")?;
    log.write_all(line.repeat(5).as_bytes()).context("write the log")
}

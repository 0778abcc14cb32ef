//! Asterisk's SIP transports and its ports for media: from Asterisk itself, or else from its files.

use std::path::Path;

use ::audit::facts::Asterisk;
use ::audit::transports::{self, printed, rtp_printed};
use anyhow::Result;
use api::SipTransport;
use zeroize::Zeroizing;

use super::{Missing, program};
use crate::doctor::conf::Conf;

/// The name of its process.
pub(super) const PROCESS: &str = "asterisk";

/// The default directory of its configuration.
const USUAL: &str = "/etc/asterisk";

/// What `rtp.conf` leaves open (`res_rtp_asterisk.c`).
const RTP: (u16, u16) = (5000, 31_000);

/// The facts about Asterisk; `None` if it is not installed.
pub(super) fn read(etc: &Path, runs: bool, missing: &mut Missing) -> Option<Asterisk> {
    if !runs && !etc.is_dir() {
        return None;
    }
    let asked = if runs { ask(etc, "pjsip show transports") } else { Ok(None) };
    let why_not = match asked {
        Ok(Some(text)) => {
            let transports = printed(&text);
            let rtp =
                ask(etc, "rtp show settings").ok().flatten().and_then(|text| rtp_printed(&text));
            return Some(Asterisk {
                source: "asterisk -rx 'pjsip show transports'".to_owned(),
                transports,
                rtp: rtp.or_else(|| rtp_of(etc, missing)),
            });
        }
        Ok(None) => None,
        Err(why) => Some(format!("{why:#}")),
    };
    let (transports, is_whole) = of_files(etc);
    if let Some(why) = why_not.filter(|_| transports.is_empty() || !is_whole) {
        missing.add("Asterisk's SIP transports", why);
    } else if !is_whole {
        let why = "pjsip.conf takes a part from a program, and Asterisk cannot be asked";
        missing.add("Asterisk's SIP transports", why);
    }
    let rtp = rtp_of(etc, missing);
    Some(Asterisk { source: etc.join("pjsip.conf").display().to_string(), transports, rtp })
}

/// Asterisk's output for a command; `None` if its program is not installed.
pub(super) fn ask(etc: &Path, command: &str) -> Result<Option<String>> {
    with_arguments(etc, command, |arguments| program::output(PROCESS, arguments))
}

/// The same for a command that shows passwords.
pub(super) fn ask_secret(etc: &Path, command: &str) -> Result<Option<Zeroizing<String>>> {
    with_arguments(etc, command, |arguments| program::secret_output(PROCESS, arguments))
}

fn with_arguments<T>(etc: &Path, command: &str, run: impl FnOnce(&[&str]) -> T) -> T {
    let file = etc.join("asterisk.conf");
    let file = file.to_string_lossy();
    let arguments = ["-C", &*file, "-rx", command];
    let usual = etc == Path::new(USUAL);
    run(if usual { arguments.get(2..).unwrap_or_default() } else { &arguments })
}

/// The transports in `pjsip.conf`, and whether the file is complete without the output of programs.
fn of_files(etc: &Path) -> (Vec<SipTransport>, bool) {
    let conf = Conf::read(etc, "pjsip");
    let last = |section: &str, key: &str| {
        conf.values(section, key).last().map(|value| (*value).to_owned())
    };
    let transport = |section: &str| {
        let is_transport = last(section, "type").is_some_and(|kind| kind == "transport");
        let protocol = last(section, "protocol").unwrap_or_else(|| "udp".to_owned());
        let bind = last(section, "bind").unwrap_or_default();
        transports::transport(section, &protocol, &bind).filter(|_| is_transport)
    };
    (conf.sections().into_iter().filter_map(transport).collect(), !conf.runs_programs())
}

/// The ports for media in `rtp.conf`.
fn rtp_of(etc: &Path, missing: &mut Missing) -> Option<(u16, u16)> {
    let conf = Conf::read(etc, "rtp");
    let port = |key: &str| conf.values("general", key).last().and_then(|port| port.parse().ok());
    if conf.files().is_empty() {
        return None;
    }
    if conf.runs_programs() {
        missing.add("Asterisk's ports for media", "rtp.conf takes a part from a program");
    }
    Some((port("rtpstart").unwrap_or(RTP.0), port("rtpend").unwrap_or(RTP.1)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn transports_and_media_are_read_from_files() {
        let etc = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(etc.path().join(name), text).unwrap();
        write(
            "pjsip.conf",
            "[t](!)\ntype = transport\nprotocol = tls\n[tls](t)\nbind = [::]:5161\n[global]\ntype = global\n\
             #include more.conf\n",
        );
        write(
            "more.conf",
            "[udp]\ntype=transport\nbind=0.0.0.0\n[peer]\ntype=endpoint\ntransport=udp\n",
        );
        write("rtp.conf", "[general]\nrtpstart = 12000 ; low\n");
        let mut missing = Missing::default();
        let asterisk = read(etc.path(), false, &mut missing).unwrap();
        let said: Vec<String> = asterisk
            .transports
            .iter()
            .map(|one| format!("{} {} {} {}", one.name, one.protocol, one.address, one.port))
            .collect();
        assert_eq!(said, ["tls tls :: 5161", "udp udp 0.0.0.0 5060"]);
        assert_eq!((asterisk.rtp, missing.0.len()), (Some((12_000, 31_000)), 0));
        write("pjsip.conf", "#exec \"/usr/bin/wazo-confgen asterisk/pjsip.conf --cached\"\n");
        let asterisk = read(etc.path(), false, &mut missing).unwrap();
        assert_eq!((asterisk.transports.len(), missing.0.len()), (0, 1));
        assert!(read(Path::new("/nonexistent"), false, &mut missing).is_none());
    }
}

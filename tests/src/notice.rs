//! Counts, by address, the failures in Asterisk's NOTICE file. The lab uses this independent count to
//! check the filter. It reads only lines that the lab's attackers cause; it is not a parser for hostile
//! text.
//! parser for hostile text.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Follows one NOTICE file that is not rotated.
#[derive(Debug)]
pub struct Notices {
    path: PathBuf,
    read: u64,
    partial: Vec<u8>,
    counts: HashMap<IpAddr, u64>,
}

impl Notices {
    /// Follows the file at `path` from its beginning.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0, partial: Vec::new(), counts: HashMap::new() }
    }

    /// Reads the lines that were added since the last call.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn update(&mut self) -> anyhow::Result<()> {
        let mut file = File::open(&self.path)
            .with_context(|| format!("open the NOTICE log {}", self.path.display()))?;
        file.seek(SeekFrom::Start(self.read)).context("seek in the NOTICE log")?;
        let added = file.read_to_end(&mut self.partial).context("read the NOTICE log")?;
        self.read += u64::try_from(added).context("length of the NOTICE log")?;
        self.take_lines();
        Ok(())
    }

    /// The number of failures of `address`.
    pub fn of(&self, address: IpAddr) -> u64 {
        self.counts.get(&address).copied().unwrap_or(0)
    }

    fn take_lines(&mut self) {
        let Some(end) = self.partial.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let rest = self.partial.split_off(end + 1);
        for line in self.partial.split(|byte| *byte == b'\n') {
            if let Some(address) = failed_for(line) {
                *self.counts.entry(address).or_default() += 1;
            }
        }
        self.partial = rest;
    }
}

/// The address in `' failed for '192.0.2.66:5060' (callid`.
fn failed_for(line: &[u8]) -> Option<IpAddr> {
    let line = std::str::from_utf8(line).ok()?;
    let (_before, after) = line.split_once("' failed for '")?;
    let (endpoint, _rest) = after.split_once('\'')?;
    let (address, _port) = endpoint.rsplit_once(':')?;
    address.trim_matches(['[', ']']).parse().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const V4: &str = "[2026-11-22 09:32:21.1233] NOTICE[9999] res_pjsip/pjsip_distributor.c: \
        Request 'REGISTER' from '<sip:1001@192.0.2.10>' failed for '192.0.2.66:42366' \
        (callid: x@192.0.2.66) - Failed to authenticate\n";
    const V6: &str = "[2026-11-22 09:34:30.3444] NOTICE[9999] res_pjsip/pjsip_distributor.c: \
        Request 'REGISTER' from '<sip:1@[2001:db8::10]>' failed for '[2001:db8::66]:44631' \
        (callid: y) - Failed to authenticate\n";

    #[test]
    fn lines_are_counted_once_also_when_they_come_in_pieces() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut notices = Notices::new(file.path());
        let (head, tail) = V4.split_at(100);
        for piece in [V4, "Asterisk 22.10.1 built by nobody\n", V6, head, tail] {
            file.write_all(piece.as_bytes()).unwrap();
            notices.update().unwrap();
        }
        assert_eq!(notices.of("192.0.2.66".parse().unwrap()), 2);
        assert_eq!(notices.of("2001:db8::66".parse().unwrap()), 1);
        assert_eq!(notices.of("192.0.2.1".parse().unwrap()), 0);
    }
}

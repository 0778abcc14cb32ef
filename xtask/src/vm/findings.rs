//! The lines of `ringfence-vm-init` or `ringfence-package-guest` on the serial port, among those of the
//! kernel.
//!
//! `vm: ok SECONDS NAME`, `vm: failed SECONDS NAME: WHY`, `vm: verified COUNT`, and at the end
//! `vm: end`.

use anyhow::{Result, bail, ensure};

const PREFIX: &str = "vm: ";

/// All findings.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Findings {
    pub(crate) checks: Vec<Check>,
    /// The number of instructions that the verifier followed.
    pub(crate) verified: Option<u64>,
    ended: bool,
}

/// One check.
#[derive(Debug, PartialEq)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) seconds: f64,
    /// Its error, if it failed.
    pub(crate) failure: Option<String>,
}

impl Findings {
    /// Reads them from the log of the serial port.
    pub(crate) fn read(log: &str) -> Self {
        let mut findings = Self::default();
        for line in log.lines() {
            // The firmware writes escape sequences before the first line.
            let Some(at) = line.find(PREFIX) else { continue };
            let said = line.get(at + PREFIX.len()..).unwrap_or_default().trim_end();
            match said.split_once(' ') {
                Some(("ok", rest)) => findings.checks.extend(check(rest, false)),
                Some(("failed", rest)) => findings.checks.extend(check(rest, true)),
                Some(("verified", count)) => findings.verified = count.parse().ok(),
                None if said == "end" => findings.ended = true,
                _ => {}
            }
        }
        findings
    }

    /// Prints each check with its result.
    pub(crate) fn print(&self) {
        for check in &self.checks {
            let word = if check.failure.is_none() { "ok" } else { "FAILED" };
            println!("  {word:7}{:6.1} s  {}", check.seconds, check.name);
            if let Some(why) = &check.failure {
                println!("                   {why}");
            }
        }
    }

    /// How many checks failed.
    pub(crate) fn failed(&self) -> usize {
        self.checks.iter().filter(|check| check.failure.is_some()).count()
    }

    /// Fails unless every check was made and passed.
    pub(crate) fn complete(&self) -> Result<()> {
        ensure!(self.ended, "it did not come to its end");
        ensure!(!self.checks.is_empty(), "it checked nothing");
        match self.failed() {
            0 => Ok(()),
            count => bail!("{count} checks failed"),
        }
    }
}

fn check(said: &str, failed: bool) -> Option<Check> {
    let (seconds, rest) = said.split_once(' ')?;
    let (name, failure) = match rest.split_once(": ") {
        Some((name, why)) if failed => (name, Some(why.to_owned())),
        _ => (rest, failed.then(String::new)),
    };
    Some(Check { name: name.to_owned(), seconds: seconds.parse().ok()?, failure })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\x1b[2Jvm: ok 1.5 loads and attaches\r\n[ 3.1] veth: something\r\n\
        vm: verified 144588\r\nvm: failed 0.2 a ban drops: it passed: twice\r\nvm: end\r\n";

    #[test]
    fn reads_what_was_said() {
        let findings = Findings::read(LOG);
        let check = |name: &str, seconds, failure: Option<&str>| Check {
            name: name.to_owned(),
            seconds,
            failure: failure.map(str::to_owned),
        };
        assert_eq!(
            findings.checks,
            [
                check("loads and attaches", 1.5, None),
                check("a ban drops", 0.2, Some("it passed: twice"))
            ]
        );
        assert_eq!(findings.verified, Some(144_588));
        assert!(findings.complete().unwrap_err().to_string().contains("1 checks failed"));
    }

    #[test]
    fn a_kernel_that_dies_passes_nothing() {
        let cut = Findings::read("vm: ok 1.5 loads\nvm: verified 5\nKernel panic\n");
        assert!(cut.complete().is_err());
        assert!(Findings::read("").complete().is_err());
        assert!(Findings::read("vm: verified 5\nvm: end\n").complete().is_err());
        assert!(Findings::read("vm: ok 1.0 a\nvm: end\n").complete().is_ok());
    }
}

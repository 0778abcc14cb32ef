//! Identifies the system from `os-release`.

use std::fs;

use super::versions::DEBIAN_MIN;
use crate::workspace::find_program;

/// The properties of the system that matter for installing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct System {
    /// Its name.
    pub(super) name: String,
    /// Whether it is a Debian whose packages are known here.
    pub(super) debian: bool,
}

impl System {
    /// The current system.
    pub(super) fn read() -> Self {
        let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = Self::parse(&text);
        Self { debian: system.debian && find_program("apt-get").is_some(), ..system }
    }

    fn parse(os_release: &str) -> Self {
        let value = |key: &str| {
            os_release
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|value| value.trim().trim_matches(['"', '\'']))
        };
        let version = value("VERSION_ID").and_then(|version| version.parse::<u32>().ok());
        // Debian's testing has no VERSION_ID.
        let recent = version.is_none_or(|version| version >= DEBIAN_MIN);
        Self {
            name: value("PRETTY_NAME").unwrap_or("an unknown system").to_owned(),
            debian: value("ID") == Some("debian") && recent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (String, bool) {
        let system = System::parse(text);
        (system.name, system.debian)
    }

    #[test]
    fn debian_12_and_later() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nID=debian\n";
        assert_eq!(parse(text), ("Debian GNU/Linux 12 (bookworm)".into(), true));
        assert!(parse("ID=debian\nPRETTY_NAME='Debian GNU/Linux forky/sid'\n").1);
        assert!(!parse("ID=debian\nVERSION_ID=\"11\"\n").1);
    }

    #[test]
    fn others_are_named() {
        let text = "NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=44\nPRETTY_NAME=\"Fedora 44\"\n";
        assert_eq!(parse(text), ("Fedora 44".into(), false));
        let ubuntu =
            "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nPRETTY_NAME=\"Ubuntu 24.04\"";
        assert_eq!(parse(ubuntu), ("Ubuntu 24.04".into(), false));
        assert_eq!(parse(""), ("an unknown system".into(), false));
    }
}

//! The actions sent to Asterisk's manager interface, and the secret of a login.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use md5::{Digest, Md5};

/// The longest secret file.
const SECRET_FILE_MAX: u64 = 4096;

/// Requests the challenge of a login by digest.
pub(super) const CHALLENGE: &str =
    "Action: Challenge\r\nActionID: challenge\r\nAuthType: MD5\r\n\r\n";

/// Checks that the other side is alive, and how far it has written.
pub(super) fn ping(id: &str) -> String {
    format!("Action: Ping\r\nActionID: {id}\r\n\r\n")
}

/// Why a secret file cannot be used.
#[derive(Debug)]
pub(super) enum SecretError {
    /// It does not exist.
    Missing,
    /// It cannot be read or contains no secret, for this reason.
    Unusable(String),
}

/// A secret that never appears in a log.
pub(super) struct Secret(String);

/// The secret in the file at `path`: the value of its line `secret = VALUE`, as Asterisk's
/// `manager.conf` has it, so that both can read one file.
///
/// # Errors
///
/// If the file does not exist, everybody may read it, or it contains no secret.
pub(super) fn read_secret(path: &Path) -> Result<Secret, SecretError> {
    let unusable = |why: String| SecretError::Unusable(format!("{}: {why}", path.display()));
    let file = File::open(path).map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            SecretError::Missing
        } else {
            unusable(error.to_string())
        }
    })?;
    let mode = file.metadata().map_err(|error| unusable(error.to_string()))?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(unusable("everybody may read it; type `chmod o= FILE`".to_owned()));
    }
    let mut text = String::new();
    file.take(SECRET_FILE_MAX)
        .read_to_string(&mut text)
        .map_err(|error| unusable(error.to_string()))?;
    secret_in(&text)
        .map(|secret| Secret(secret.to_owned()))
        .ok_or_else(|| unusable("it has no line `secret = VALUE`".to_owned()))
}

fn secret_in(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let value = value.strip_prefix('>').unwrap_or(value);
        // In Asterisk, a comment begins with `;`.
        let value = value.split(';').next().unwrap_or_default().trim();
        let usable = !value.is_empty() && !value.contains(char::is_control);
        (name.trim() == "secret" && usable).then_some(value)
    })
}

/// Logs in by digest, the MD5 of challenge and secret, and requests only security events.
pub(super) fn login_by_digest(user: &str, secret: &Secret, challenge: &[u8]) -> String {
    let digest = Md5::new().chain_update(challenge).chain_update(&secret.0).finalize();
    let digest: [u8; 16] = digest.into();
    let key = u128::from_be_bytes(digest);
    format!(
        "Action: Login\r\nActionID: login\r\nAuthType: MD5\r\nUsername: {user}\r\nKey: {key:032x}\r\n\
         Events: security\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_secret_is_read_as_asterisk_reads_it() {
        for (text, secret) in [
            ("secret = s3cret\n", Some("s3cret")),
            ("; secret = no\n[ringfence]\nsecret=>s3cret ; yes\n", Some("s3cret")),
            ("secretive = x\nsecret =\n", None),
            ("", None),
        ] {
            assert_eq!(secret_in(text), secret, "{text:?}");
        }
    }

    #[test]
    fn a_file_that_everybody_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        assert!(matches!(read_secret(&path), Err(SecretError::Missing)));
        fs::write(&path, "secret = s3cret\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let Err(SecretError::Unusable(why)) = read_secret(&path) else { panic!() };
        assert!(why.contains("chmod"), "{why}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(read_secret(&path).unwrap().0, "s3cret");
    }

    #[test]
    fn the_digest_is_that_of_challenge_and_secret() {
        let action = login_by_digest("ringfence", &Secret("s3cret".to_owned()), b"160512217");
        // printf 160512217s3cret | md5sum
        assert!(action.contains("\r\nKey: 0ae0b03f20570795070e061aa62a7b0d\r\n"), "{action}");
    }
}

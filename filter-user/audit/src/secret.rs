//! Passwords: a type that cannot be printed, and is overwritten when it is dropped.
//!
//! Must never show a password, or leave it in memory.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use zeroize::Zeroizing;

/// A password. It has no `Display`, and `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes over a password.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The password itself, for those that compare or send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Accepts numbers too, because a password of digits may be written as one. Its errors do not repeat what
/// was read.
struct SecretVisitor;

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a password")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Secret, E> {
        Ok(Secret::new(number.to_string()))
    }

    fn visit_bool<E: Error>(self, is: bool) -> Result<Secret, E> {
        Ok(Secret::new(is.to_string()))
    }

    fn visit_unit<E: Error>(self) -> Result<Secret, E> {
        Ok(Secret::new(String::new()))
    }
}

/// The positions of equal passwords: each group has at least two. The comparison is in memory only, with
/// hashes whose key is random.
pub fn equal<'a>(secrets: impl Iterator<Item = &'a Secret>) -> Vec<Vec<usize>> {
    let mut of_text: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, secret) in secrets.enumerate() {
        of_text.entry(secret.expose()).or_default().push(index);
    }
    let mut groups: Vec<Vec<usize>> = of_text.into_values().filter(|one| one.len() > 1).collect();
    groups.sort();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "Secret Some(Secret)");
    }

    #[test]
    fn a_secret_is_read_from_any_scalar() {
        let read = |json: &str| serde_json::from_str::<Secret>(json).map(|s| s.expose().to_owned());
        for (json, text) in
            [("\"a\\u0062\"", "ab"), ("1234", "1234"), ("-1", "-1"), ("true", "true"), ("null", "")]
        {
            assert_eq!(read(json).unwrap(), text);
        }
        let why = read("[\"hunter2\"]").unwrap_err().to_string();
        assert!(why.contains("expected a password") && !why.contains("hunter2"), "{why}");
    }

    #[test]
    fn equal_secrets_are_grouped() {
        let secrets = ["a", "b", "a", "c", "b"].map(|text| Secret::new(text.to_owned()));
        assert_eq!(equal(secrets.iter()), [vec![0, 2], vec![1, 4]]);
    }
}

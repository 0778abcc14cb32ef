//! Sections whose keys are names that the administrator chooses: feeds, alerts and actions.

use std::collections::BTreeMap;

/// The longest name.
const NAME_MAX: usize = 32;

/// Adds an entry with the defaults, unless there is one with this name. `what` is its kind, such as `a feed`;
/// at most `most` are possible.
///
/// # Errors
///
/// If it is not possible; the error says why.
pub(super) fn add<T: Default>(
    all: &mut BTreeMap<String, T>,
    name: &str,
    what: &str,
    most: usize,
) -> Result<(), String> {
    if all.contains_key(name) {
        return Ok(());
    }
    let shown = detection::duration::snippet(name);
    let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || !name.bytes().all(letters) || name.len() > NAME_MAX {
        return Err(format!(
            "`{shown}` is not a name for {what}; use lower-case letters, digits and `-`, at most {NAME_MAX}"
        ));
    }
    if all.len() >= most {
        return Err(format!("`{shown}` is one too many: at most {most} are possible"));
    }
    all.insert(name.to_owned(), T::default());
    Ok(())
}

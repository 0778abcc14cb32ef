//! Suggests the nearest known key for an unknown one.

use std::collections::BTreeSet;

use super::schema::keys;
use crate::duration::snippet;

/// Longer keys are not compared, because no setting is as long.
const KEY_MAX: usize = 40;

/// The message about an unknown `key` in the section `prefix` (empty at the top), given the known `paths`.
pub(super) fn unknown_key(prefix: &str, key: &str, paths: &[&str]) -> String {
    let written = join(prefix, &snippet(key));
    if let Some(path) = paths.iter().find(|path| **path == join(prefix, key)) {
        let nested = keys(path);
        let closing = "}".repeat(nested.len().saturating_sub(1));
        let nested = nested.join(": {");
        return format!("unknown key `{written}`; nest it: `{nested}: ...{closing}`");
    }
    let here = children(prefix, paths);
    if let Some(near) = nearest(key, here.iter().copied()) {
        return format!("unknown key `{written}`; did you mean `{near}`?");
    }
    let same_name = paths.iter().find(|path| keys(path).last() == Some(&key));
    if let Some(elsewhere) = same_name {
        return format!("unknown key `{written}`; did you mean `{elsewhere}`?");
    }
    let list: Vec<String> = here.iter().map(|key| format!("`{key}`")).collect();
    let own = if prefix == "jails" { "; a jail of your own has a `filter`" } else { "" };
    format!("unknown key `{written}`; known here: {}{own}", list.join(", "))
}

/// The keys of the section `prefix`, in the order of `paths`.
pub(super) fn children<'a>(prefix: &str, paths: &[&'a str]) -> Vec<&'a str> {
    let above = if prefix.is_empty() { Vec::new() } else { keys(prefix) };
    let mut seen = BTreeSet::new();
    paths
        .iter()
        .filter_map(|path| {
            let keys = keys(path);
            keys.iter()
                .zip(&above)
                .all(|(key, above)| key == above)
                .then(|| keys.get(above.len()).copied())?
        })
        .filter(|key| seen.insert(*key))
        .collect()
}

/// The path of `key` in the section `prefix`.
pub(super) fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if key.len() > KEY_MAX {
        return None;
    }
    let key = key.to_lowercase().replace('-', "_");
    known
        .map(|known| (strsim::damerau_levenshtein(&key, &known.replace('-', "_")), known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

//! Words, names and paths.

use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;

use serde_json::Value as Json;

use super::{Kind, Read, Wrong, is_invisible, mismatch, one};
use crate::config;
use crate::config::yaml::{Node, Scalar};
use detection::settings::{NONE, scope_named, scopes};

/// The longest host name of the DNS (RFC 1035 section 2.3.4), and more than a user name needs.
const WORD_MAX: usize = 255;

/// Linux's `PATH_MAX`, without the final NUL.
const PATH_MAX: usize = 4095;

/// `true` or `false`.
pub(crate) struct Flag<'a>(pub(crate) &'a mut bool);

impl Kind for Flag<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, flag)?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(*self.0)
    }

    fn expected(&self) -> String {
        "`true` or `false`".into()
    }

    fn example(&self) -> Json {
        Json::from(!*self.0)
    }
}

/// One of several words, with all of them and the name of each.
pub(crate) struct Choice<'a, T: 'static>(
    pub(crate) &'a mut T,
    pub(crate) &'static [T],
    pub(crate) fn(T) -> &'static str,
);

impl<T: Copy> Kind for Choice<'_, T> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let Self(_, all, name) = *self;
        let named = |scalar: &Scalar| all.iter().find(|choice| name(**choice) == scalar.text);
        *self.0 = one(node, |scalar| named(scalar).copied().ok_or_else(|| mismatch(scalar)))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from((self.2)(*self.0))
    }

    fn expected(&self) -> String {
        let names: Vec<String> =
            self.1.iter().map(|choice| format!("`{}`", (self.2)(*choice))).collect();
        match names.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            Some(_) | None => names.concat(),
        }
    }

    fn example(&self) -> Json {
        self.1.last().map_or_else(|| self.value(), |last| Json::from((self.2)(*last)))
    }
}

/// The scope of a ban, with the names of the port classes.
pub(crate) struct Scope<'a>(pub(crate) &'a mut config::Scope, pub(crate) Rc<[String]>);

impl Kind for Scope<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let scope = |scalar: &Scalar| scope_named(&scalar.text, &self.1);
        *self.0 = one(node, |scalar| scope(scalar).ok_or_else(|| mismatch(scalar)))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(scope_name(*self.0, &self.1))
    }

    fn expected(&self) -> String {
        scopes(&self.1)
    }

    fn example(&self) -> Json {
        Json::from("sip")
    }
}

/// The scope of a ban, or [`NONE`].
pub(crate) struct OptionalScope<'a>(
    pub(crate) &'a mut Option<config::Scope>,
    pub(crate) Rc<[String]>,
);

impl Kind for OptionalScope<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let scope = |scalar: &Scalar| match &*scalar.text {
            NONE => Ok(None),
            name => scope_named(name, &self.1).map(Some).ok_or_else(|| mismatch(scalar)),
        };
        *self.0 = one(node, scope)?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.map_or_else(|| NONE.to_owned(), |scope| scope_name(scope, &self.1)))
    }

    fn expected(&self) -> String {
        format!("`{NONE}`, {}", scopes(&self.1))
    }

    fn example(&self) -> Json {
        Json::from(NONE)
    }
}

/// An absolute path.
pub(crate) struct Path<'a>(pub(crate) &'a mut PathBuf);

impl Kind for Path<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, absolute_path)?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.display().to_string())
    }

    fn expected(&self) -> String {
        format!("an absolute path such as `{}`", self.0.display())
    }
}

/// An absolute path, or an empty text for none; with an example.
pub(crate) struct OptionalPath<'a>(pub(crate) &'a mut Option<PathBuf>, pub(crate) &'static str);

impl Kind for OptionalPath<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| {
            if scalar.text.is_empty() { Ok(None) } else { absolute_path(scalar).map(Some) }
        })?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.as_ref().map(|path| path.display().to_string()).unwrap_or_default())
    }

    fn expected(&self) -> String {
        "an absolute path, or `\"\"` for none".into()
    }

    fn example(&self) -> Json {
        Json::from(self.1)
    }
}

/// Text without spaces, with a description.
pub(crate) struct Word<'a>(pub(crate) &'a mut String, pub(crate) &'static str);

impl Kind for Word<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, word)?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.as_str())
    }

    fn expected(&self) -> String {
        self.1.into()
    }
}

/// A value that is written as text, or an empty text for none, with a description and an example.
pub(crate) struct OrNone<'a, T>(
    pub(crate) &'a mut Option<T>,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

impl<T: FromStr<Err = String> + ToString> Kind for OrNone<'_, T> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| {
            if scalar.text.is_empty() {
                return Ok(None);
            }
            scalar.text.parse().map(Some).map_err(Wrong::Value)
        })?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.as_ref().map(ToString::to_string).unwrap_or_default())
    }

    fn expected(&self) -> String {
        self.1.into()
    }

    fn example(&self) -> Json {
        Json::from(self.2)
    }
}

/// A value that is written as text, with a description and an example.
pub(crate) struct Text<'a, T>(
    pub(crate) &'a mut T,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

impl<T: FromStr<Err = String> + ToString> Kind for Text<'_, T> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| scalar.text.parse().map_err(Wrong::Value))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.to_string())
    }

    fn expected(&self) -> String {
        self.1.into()
    }

    fn example(&self) -> Json {
        Json::from(self.2)
    }
}

/// Also accepts the words of YAML 1.1, which Wazo's own daemons read.
fn flag(scalar: &Scalar) -> Result<bool, Wrong> {
    let word = if scalar.plain { scalar.text.to_ascii_lowercase() } else { String::new() };
    match &*word {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(mismatch(scalar)),
    }
}

pub(super) fn absolute_path(scalar: &Scalar) -> Result<PathBuf, Wrong> {
    let text = &scalar.text;
    if !text.starts_with('/') || text.contains(is_invisible) || text.len() > PATH_MAX {
        return Err(mismatch(scalar));
    }
    Ok(PathBuf::from(text))
}

fn word(scalar: &Scalar) -> Result<String, Wrong> {
    let text = &scalar.text;
    let strange = |c: char| c.is_whitespace() || is_invisible(c);
    if text.is_empty() || text.len() > WORD_MAX || text.contains(strange) {
        return Err(mismatch(scalar));
    }
    Ok(text.clone())
}

fn scope_name(scope: config::Scope, classes: &[String]) -> String {
    let name = |bit| classes.get(usize::from(bit).checked_sub(1)?);
    match scope {
        config::Scope::Sip => "sip".to_owned(),
        config::Scope::All => "all".to_owned(),
        config::Scope::Throttle => "throttle".to_owned(),
        config::Scope::Ports(number) => name(number).cloned().unwrap_or_default(),
    }
}

//! A list of values, each of which is read from a text.

use std::str::FromStr;

use serde_json::Value as Json;

use super::{Kind, Read, at_most, many};
use crate::config::yaml::Node;

/// A list of at most so many values, with a description and an example of an entry.
pub(crate) struct Several<'a, T>(
    pub(crate) &'a mut Vec<T>,
    pub(crate) usize,
    pub(crate) &'static str,
    pub(crate) &'static str,
);

impl<T: FromStr<Err = String> + ToString> Kind for Several<'_, T> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = at_most(node, self.1, many(node, |scalar| scalar.text.parse())?)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|value| Json::from(value.to_string())).collect()
    }

    fn expected(&self) -> String {
        self.2.into()
    }

    fn example(&self) -> Json {
        [self.3].into_iter().map(Json::from).collect()
    }
}

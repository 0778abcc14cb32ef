//! A list of values, each of which is read from a text.

use std::str::FromStr;

use serde_json::Value as Json;

use super::{Kind, Read, at_most, many};
use crate::config::yaml::Node;

/// A list of values.
pub(crate) struct Several<'a, T> {
    /// The values.
    pub(crate) values: &'a mut Vec<T>,
    /// How many are possible.
    pub(crate) most: usize,
    /// What is expected.
    pub(crate) expected: &'static str,
    /// An entry for the documentation.
    pub(crate) example: &'static str,
}

impl<T: FromStr<Err = String> + ToString> Kind for Several<'_, T> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.values = at_most(node, self.most, many(node, |scalar| scalar.text.parse())?)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.values.iter().map(|value| Json::from(value.to_string())).collect()
    }

    fn expected(&self) -> String {
        self.expected.into()
    }

    fn example(&self) -> Json {
        [self.example].into_iter().map(Json::from).collect()
    }
}

//! The form of a list.

use serde_json::Value as Json;

use ::feeds::Form;

use super::{Kind, Read, Wrong, one};
use crate::config::yaml::Node;

/// The form of a list.
pub(crate) struct Format<'a>(pub(crate) &'a mut Form);

impl Kind for Format<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| scalar.text.parse().map_err(Wrong::Value))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.to_string())
    }

    fn expected(&self) -> String {
        Form::EXPECTED.into()
    }

    fn example(&self) -> Json {
        Json::from("csv:2")
    }
}

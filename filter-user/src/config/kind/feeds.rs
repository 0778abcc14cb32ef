//! Where a list is, and its form.

use serde_json::Value as Json;

use ::feeds::Form;

use super::{Kind, Read, Wrong, one};
use crate::config::feeds;
use crate::config::yaml::Node;

/// A URL or the path of a file; an empty text for none.
pub(crate) struct Place<'a>(pub(crate) &'a mut Option<feeds::Place>);

impl Kind for Place<'_> {
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
        "a URL or the path of a file".into()
    }

    fn example(&self) -> Json {
        Json::from("https://lists.example/sip.txt")
    }
}

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

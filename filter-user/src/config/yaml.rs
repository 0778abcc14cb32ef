//! Parses YAML into a small tree of nodes with their positions. Knows nothing about settings.
//!
//! Anchors, aliases, tags and a second document are refused: the configuration needs none of them, and
//! they let a small file become a large tree. Depth and size are bounded.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, StrInput};

use crate::duration::snippet;

/// The deepest nesting. The settings need four levels.
const DEPTH_MAX: usize = 16;

/// The most nodes that are read.
const NODES_MAX: usize = 100_000;

/// A place in a file, counted from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line().max(1), column: marker.col() + 1 }
    }
}

/// An error at a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: Position,
    pub(super) text: String,
}

/// A value with its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A scalar as written. The setting determines its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Whether it has no quotes, so that it may be something other than text.
    pub(super) plain: bool,
}

impl Scalar {
    pub(super) fn is_null(&self) -> bool {
        self.plain && matches!(&*self.text, "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Value {
    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Scalar(scalar) if scalar.is_null())
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) node: Node,
}

/// The content of a file.
#[derive(Debug)]
pub(super) struct Document {
    /// `None` for a file without content.
    pub(super) root: Option<Node>,
    /// Keys that are set twice.
    pub(super) problems: Vec<Problem>,
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Document, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder =
        Builder { parser: Parser::new_from_str(text), nodes: 0, problems: Vec::new() };
    let root = builder.document()?;
    Ok(Document { root, problems: builder.problems })
}

/// Whether a foreign file has a value at this path, and not null; `None` if it has nothing there.
///
/// # Errors
///
/// If the file cannot be parsed.
pub(crate) fn has_value(text: &str, path: &[&str]) -> Result<Option<bool>, String> {
    let document = parse(text).map_err(|Problem { at, text }| {
        format!("line {}, column {}: {text}", at.line, at.column)
    })?;
    let mut node = document.root;
    for name in path {
        let Some(Value::Map(entries)) = node.map(|node| node.value) else { return Ok(None) };
        node = entries.into_iter().find(|entry| entry.key == *name).map(|entry| entry.node);
    }
    Ok(node.map(|node| !node.value.is_null()))
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    nodes: usize,
    problems: Vec<Problem>,
}

impl<'a> Builder<'a> {
    fn document(&mut self) -> Result<Option<Node>, Problem> {
        let mut root = None;
        loop {
            let (event, at) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(problem(
                        at,
                        "a second document begins here; a file may contain only one",
                    ));
                }
                Event::Nothing
                | Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::SequenceEnd
                | Event::MappingEnd => {}
                content @ (Event::Alias(_)
                | Event::Scalar(..)
                | Event::SequenceStart(..)
                | Event::MappingStart(..)) => root = Some(self.node(content, at, 0)?),
            }
        }
    }

    /// The node that begins with `event`. Recursion ends at [`DEPTH_MAX`].
    fn node(&mut self, event: Event<'a>, at: Position, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(problem(
                at,
                format!("more than {NODES_MAX} values, which is the most that is read"),
            ));
        }
        if depth > DEPTH_MAX {
            return Err(problem(at, format!("nested more than {DEPTH_MAX} levels deep")));
        }
        let (anchor, tag) = match &event {
            Event::Scalar(_, _, anchor, tag)
            | Event::SequenceStart(anchor, tag)
            | Event::MappingStart(anchor, tag) => (*anchor, tag.as_deref()),
            Event::Alias(anchor) => (*anchor, None),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => (0, None),
        };
        if let Some(tag) = tag {
            let tag = if tag.is_yaml_core_schema() {
                format!("!!{}", snippet(&tag.suffix))
            } else {
                snippet(&tag.to_string())
            };
            let text = format!("the tag `{tag}` is not supported here; write the value itself");
            return Err(problem(at, text));
        }
        if anchor != 0 {
            let text = "anchors and aliases (`&name`, `*name`) are not supported here; write the \
                        value itself, in quotes if it is text that begins with `&` or `*`";
            return Err(problem(at, text));
        }

        let value = match event {
            Event::Scalar(text, style, ..) => Value::Scalar(Scalar {
                text: text.into_owned(),
                plain: style == ScalarStyle::Plain,
            }),
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Map(self.map(depth)?),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::Alias(_)
            | Event::SequenceEnd
            | Event::MappingEnd => return Err(problem(at, "not valid YAML: a value is missing")),
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Problem> {
        let mut items = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event, at, depth + 1)?);
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<Entry>, Problem> {
        let mut entries = Vec::new();
        let mut lines = BTreeMap::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let Value::Scalar(key) = self.node(event, at, depth + 1)?.value else {
                return Err(problem(at, "a key must be a name, not a list or a section"));
            };
            let (event, value_at) = self.next()?;
            let node = self.node(event, value_at, depth + 1)?;
            if let Some(first) = lines.get(&key.text) {
                let key = snippet(&key.text);
                let text = format!("`{key}` is set twice in this file, first in line {first}");
                self.problems.push(Problem { at, text });
            } else {
                lines.insert(key.text.clone(), at.line);
                entries.push(Entry { key: key.text, at, node });
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Position), Problem> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, span.start.into())),
            Some(Err(error)) => {
                Err(problem((*error.marker()).into(), format!("not valid YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Position { line: 1, column: 1 })),
        }
    }
}

fn problem(at: Position, text: impl Into<String>) -> Problem {
    Problem { at, text: text.into() }
}

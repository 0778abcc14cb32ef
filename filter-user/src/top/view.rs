//! What is on the screen, as values: tables of text, without the terminal that shows them.

use super::rates::Rate;

/// The screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The state of the daemon: what is first is the most important.
    pub(super) head: Vec<(String, Tone)>,
    /// The tab that is shown.
    pub(super) tab: Tab,
    /// The traffic, if the tab has it.
    pub(super) traffic: Option<Graph>,
    /// Tables, the most important last: it gets the room that the others leave.
    pub(super) tables: Vec<Table>,
    /// The line at the bottom.
    pub(super) foot: (String, Tone),
    /// What covers the rest.
    pub(super) window: Option<Window>,
}

/// A part of the view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Overview,
    Attackers,
    Bans,
    Sources,
    Interfaces,
}

impl Tab {
    pub(super) const ALL: [Self; 5] =
        [Self::Overview, Self::Attackers, Self::Bans, Self::Sources, Self::Interfaces];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Attackers => "Attackers",
            Self::Bans => "Bans",
            Self::Sources => "Sources",
            Self::Interfaces => "Interfaces",
        }
    }

    /// The tab this far to the right.
    pub(super) fn right(self, by: usize) -> Self {
        let place = Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0);
        Self::ALL.get((place + by) % Self::ALL.len()).copied().unwrap_or_default()
    }
}

/// The meaning of a text, for its colour. Nothing is told by colour alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tone {
    #[default]
    Plain,
    Dim,
    Good,
    Warning,
    Bad,
}

/// Packets passed and dropped a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Graph {
    /// The latest is the last.
    pub(super) passed: Vec<Rate>,
    pub(super) dropped: Vec<Rate>,
}

/// A table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row>,
    /// What is shown if there are no rows.
    pub(super) empty: String,
    /// The key of the selected row.
    pub(super) selected: Option<String>,
    /// Whether it may stand beside the table before it.
    pub(super) is_beside: bool,
}

impl Table {
    /// The place of the selected row.
    pub(super) fn place(&self) -> Option<usize> {
        let selected = self.selected.as_deref()?;
        self.rows.iter().position(|row| row.key == selected)
    }
}

/// A row. Its cells are safe to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Row {
    /// What identifies it.
    pub(super) key: String,
    pub(super) cells: Vec<String>,
    pub(super) tone: Tone,
}

/// A column.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) width: Width,
    /// Numbers end at the same place.
    pub(super) is_number: bool,
    /// Columns with the highest rank are left out first if there is too little room. Those of rank 0 stay.
    pub(super) rank: u8,
}

/// The width of a column. Most are fixed, so that a new value moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    Fixed(u16),
    /// As wide as its cells, at least this.
    Content(u16),
    /// What the others leave, at least this.
    Rest(u16),
}

/// A window over the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// How many lines above are not shown.
    pub(super) above: usize,
}

impl Window {
    pub(super) fn new(title: String, lines: Vec<String>) -> Self {
        Self { title, lines, above: 0 }
    }
}

/// Makes a column of text.
pub(super) const fn text(name: &'static str, width: Width, rank: u8) -> Column {
    Column { name, width, is_number: false, rank }
}

/// Makes a column of numbers.
pub(super) const fn number(name: &'static str, width: u16, rank: u8) -> Column {
    Column { name, width: Width::Fixed(width), is_number: true, rank }
}

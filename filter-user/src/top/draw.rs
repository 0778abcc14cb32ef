//! Draws the view with ratatui.

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;
use ratatui::widgets::{Clear, Sparkline, Widget as _};

use super::rates::Rate;
use super::safe::{cut, is_plain};
use super::view::{Column, Graph, Row, Tab, Table, Tone, View, Width, Window};

/// Tables stand beside each other from this width on.
const BESIDE_FROM: u16 = 72;

/// The height from which the traffic has two lines for each graph.
const TALL: u16 = 34;

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether there are colours.
    pub(super) colour: bool,
    /// Whether the terminal shows more than ASCII.
    pub(super) unicode: bool,
}

/// Bars of ASCII.
const ASCII_BARS: bar::Set<'_> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "*",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: ":",
    one_eighth: ".",
    empty: " ",
};

impl Look {
    fn style(self, tone: Tone) -> Style {
        let style = Style::new();
        if !self.colour {
            return match tone {
                Tone::Bad => style.add_modifier(Modifier::BOLD),
                Tone::Plain | Tone::Dim | Tone::Good | Tone::Warning => style,
            };
        }
        match tone {
            Tone::Plain => style,
            Tone::Dim => style.fg(Color::DarkGray),
            Tone::Good => style.fg(Color::Green),
            Tone::Warning => style.fg(Color::Yellow),
            Tone::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    fn more(self) -> char {
        if self.unicode { '…' } else { '~' }
    }

    fn bars(self) -> bar::Set<'static> {
        if self.unicode { bar::NINE_LEVELS } else { ASCII_BARS }
    }

    /// Whether a symbol may be on the screen: what is foreign is escaped before, and this is the last line of
    /// defence.
    fn allows(self, symbol: &str) -> bool {
        let mut chars = symbol.chars();
        let (Some(c), None) = (chars.next(), chars.next()) else { return false };
        let is_drawn = self.unicode && matches!(c, '\u{2500}'..='\u{259f}' | '…');
        is_drawn || if self.unicode { is_plain(c) } else { matches!(c, ' '..='~') }
    }
}

/// Draws a frame.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, look: Look) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let [head, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(buffer, head, view, look);
    draw_tabs(buffer, tabs, view.tab, look);
    let body = view.traffic.as_ref().map_or(body, |graph| draw_traffic(buffer, body, graph, look));
    draw_tables(buffer, body, &view.tables, look);
    let (text, tone) = &view.foot;
    // What is typed must be seen to its end.
    let room = usize::from(foot.width);
    let length = text.chars().count();
    let shown: String = if *tone == Tone::Plain || *tone == Tone::Bad && text.contains('_') {
        text.chars().skip(length.saturating_sub(room)).collect()
    } else {
        cut(text, room, look.more())
    };
    put(buffer, foot, 0, &shown, look.style(*tone));
    if let Some(window) = &view.window {
        let [_, over, _] = Layout::vertical([
            Constraint::Length(2.min(area.height)),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(area);
        draw_window(buffer, over, window, look);
    }
    for cell in &mut buffer.content {
        if !look.allows(cell.symbol()) {
            cell.set_symbol("?");
        }
    }
}

/// Writes text at a column of the first line of an area.
fn put(buffer: &mut Buffer, area: Rect, column: u16, text: &str, style: Style) {
    if area.height == 0 || column >= area.width {
        return;
    }
    let room = usize::from(area.width - column);
    buffer.set_stringn(area.x + column, area.y, text, room, style);
}

/// The same with what it takes, in columns.
fn width(text: &str) -> u16 {
    u16::try_from(text.chars().count()).unwrap_or(u16::MAX)
}

fn draw_head(buffer: &mut Buffer, area: Rect, view: &View, look: Look) {
    let mut column = 0;
    for (place, (text, tone)) in view.head.iter().enumerate() {
        // A part that does not fit is left out, unless it is the first.
        if place > 0 && column + width(text) > area.width {
            continue;
        }
        let text = cut(text, usize::from(area.width.saturating_sub(column)), look.more());
        put(buffer, area, column, &text, look.style(*tone));
        column = column.saturating_add(width(&text)).saturating_add(2);
    }
}

fn draw_tabs(buffer: &mut Buffer, area: Rect, shown: Tab, look: Look) {
    let full: u16 = Tab::ALL.iter().map(|tab| width(tab.name()) + 4).sum();
    let mut column = 0;
    for (number, tab) in (1..).zip(Tab::ALL) {
        // Without room for all names, only that of the shown tab.
        let name = if full <= area.width || tab == shown { tab.name() } else { "" };
        let text = format!("{number} {name}");
        let (text, style) = if tab == shown {
            (format!("[{}]", text.trim_end()), Style::new().add_modifier(Modifier::BOLD))
        } else {
            (format!(" {} ", text.trim_end()), look.style(Tone::Dim))
        };
        put(buffer, area, column, &text, style);
        column = column.saturating_add(width(&text));
    }
}

/// Draws the traffic, and returns the area below it.
fn draw_traffic(buffer: &mut Buffer, area: Rect, graph: &Graph, look: Look) -> Rect {
    let lines = if area.height >= TALL { 3 } else { 1 };
    let height = (2 * lines).min(area.height);
    let [top, rest] =
        Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    let [passed, dropped] =
        Layout::vertical([Constraint::Length(lines), Constraint::Length(lines)]).areas(top);
    let parts = [
        ("passed", passed, &graph.passed, Tone::Good),
        ("dropped", dropped, &graph.dropped, Tone::Bad),
    ];
    for (name, area, samples, tone) in parts {
        let now = samples.last().copied().unwrap_or_default();
        put(buffer, area, 0, &format!("{name:<7} {:>5}/s ", now.text()), Style::new());
        let [_, bars] =
            Layout::horizontal([Constraint::Length(16), Constraint::Fill(1)]).areas(area);
        let room = usize::from(bars.width);
        let shown = samples.get(samples.len().saturating_sub(room)..).unwrap_or_default();
        let empty = vec![0; room.saturating_sub(shown.len())];
        let data = empty.into_iter().chain(shown.iter().map(|rate| rate.whole()));
        let highest = shown.iter().max().copied().unwrap_or(Rate(0)).whole();
        // A round scale, so that the bars do not change with each new maximum.
        let scale = highest.max(8).next_power_of_two();
        let style = look.style(tone).remove_modifier(Modifier::BOLD);
        Sparkline::default()
            .data(data)
            .max(scale)
            .bar_set(look.bars())
            .style(style)
            .render(bars, buffer);
    }
    rest
}

fn draw_tables(buffer: &mut Buffer, area: Rect, tables: &[Table], look: Look) {
    let Some((last, before)) = tables.split_last() else { return };
    let mut rest = area;
    let mut place = 0;
    while let Some(table) = before.get(place) {
        let beside =
            before.get(place + 1).filter(|next| next.is_beside && area.width >= BESIDE_FROM);
        // Half of the room is for the last table; with very little room it gets all of it.
        let longest = table.rows.len().max(beside.map_or(0, |beside| beside.rows.len())).max(1);
        let wanted = u16::try_from(longest + 1).unwrap_or(u16::MAX);
        let height = wanted.min((rest.height / 2).saturating_sub(1));
        let height = if rest.height < 8 { 0 } else { height };
        let [top, _, below] = Layout::vertical([
            Constraint::Length(height),
            Constraint::Length(u16::from(height > 0)),
            Constraint::Fill(1),
        ])
        .areas(rest);
        if let Some(beside) = beside {
            let [left, _, right] = Layout::horizontal([
                Constraint::Fill(1),
                Constraint::Length(2),
                Constraint::Length(36),
            ])
            .areas(top);
            draw_table(buffer, left, table, look);
            draw_table(buffer, right, beside, look);
            place += 1;
        } else {
            draw_table(buffer, top, table, look);
        }
        rest = below;
        place += 1;
    }
    draw_table(buffer, rest, last, look);
}

fn draw_table(buffer: &mut Buffer, area: Rect, table: &Table, look: Look) {
    if area.height == 0 || area.width == 0 {
        return;
    }
    let widths = widths(table, area.width);
    let head: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    let style = Style::new().add_modifier(Modifier::BOLD);
    put(buffer, area, 0, &line(table.columns, &widths, &head, look), style);
    let [_, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    if table.rows.is_empty() {
        let text = cut(&table.empty, usize::from(body.width), look.more());
        put(buffer, body, 0, &text, look.style(Tone::Dim));
        return;
    }
    let place = table.place();
    let height = usize::from(body.height);
    // The selected row is shown, and as many before it as fit.
    let above = place.map_or(0, |place| (place + 1).saturating_sub(height));
    let hidden = table.rows.len().saturating_sub(above + height);
    for (number, row) in table.rows.iter().enumerate().skip(above).take(height) {
        let shown = u16::try_from(number - above).unwrap_or(u16::MAX);
        let area = Rect { y: body.y.saturating_add(shown), height: 1, ..body };
        if hidden > 0 && usize::from(shown) + 1 == height && place != Some(number) && height > 1 {
            put(buffer, area, 0, &format!("and {} more", hidden + 1), look.style(Tone::Dim));
            continue;
        }
        draw_row(buffer, area, (table.columns, &widths), row, place == Some(number), look);
    }
}

fn draw_row(
    buffer: &mut Buffer,
    area: Rect,
    (columns, widths): (&[Column], &[Option<usize>]),
    row: &Row,
    is_selected: bool,
    look: Look,
) {
    let cells: Vec<&str> = row.cells.iter().map(|cell| &**cell).collect();
    let mut text = line(columns, widths, &cells, look);
    let mut style = look.style(row.tone);
    if is_selected {
        style = style.add_modifier(Modifier::REVERSED);
        text = format!("{text:<width$}", width = usize::from(area.width));
    }
    put(buffer, area, 0, &text, style);
}

/// The cells of a line at the widths of the columns.
fn line(columns: &[Column], widths: &[Option<usize>], cells: &[&str], look: Look) -> String {
    let mut line = String::new();
    for ((column, width), cell) in columns.iter().zip(widths).zip(cells) {
        let Some(width) = *width else { continue };
        if !line.is_empty() {
            line.push(' ');
        }
        let cell = cut(cell, width, look.more());
        let spaces = width.saturating_sub(cell.chars().count());
        let spaces = std::iter::repeat_n(' ', spaces);
        if column.is_number {
            line.extend(spaces);
            line += &cell;
        } else {
            line += &cell;
            line.extend(spaces);
        }
    }
    line.truncate(line.trim_end().len());
    line
}

/// The widths of the columns; `None` for those that are left out.
fn widths(table: &Table, room: u16) -> Vec<Option<usize>> {
    let room = usize::from(room);
    let content = |place: usize, least: u16| {
        let cells = table.rows.iter().filter_map(|row| row.cells.get(place));
        let longest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        longest.max(usize::from(least))
    };
    let least = |(place, column): (usize, &Column)| match column.width {
        Width::Fixed(width) | Width::Rest(width) => usize::from(width),
        Width::Content(least) => content(place, least),
    };
    let mut widths: Vec<Option<usize>> =
        table.columns.iter().enumerate().map(|column| Some(least(column))).collect();
    let total = |widths: &[Option<usize>]| {
        let shown = widths.iter().flatten();
        shown.clone().sum::<usize>() + shown.count().saturating_sub(1)
    };
    while total(&widths) > room {
        let ranked = table.columns.iter().enumerate().filter(|(place, column)| {
            column.rank > 0 && widths.get(*place).is_some_and(Option::is_some)
        });
        let Some((place, _)) = ranked.max_by_key(|(_, column)| column.rank) else { break };
        if let Some(width) = widths.get_mut(place) {
            *width = None;
        }
    }
    let spare = room.saturating_sub(total(&widths));
    let is_rest = |column: &Column| matches!(column.width, Width::Rest(_));
    let rest = table.columns.iter().position(is_rest).and_then(|place| widths.get_mut(place));
    if let Some(Some(width)) = rest {
        *width += spare;
    }
    widths
}

fn draw_window(buffer: &mut Buffer, area: Rect, window: &Window, look: Look) {
    Clear.render(area, buffer);
    let rule = if look.unicode { '─' } else { '-' };
    let title = format!("{rule}{rule} {} ", window.title);
    let title = format!("{title:rule$}", rule = usize::from(area.width));
    let title: String = cut(&title, usize::from(area.width), look.more());
    put(buffer, area, 0, title.trim_end(), Style::new().add_modifier(Modifier::BOLD));
    let [_, body] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let lines: Vec<String> =
        window.lines.iter().flat_map(|line| wrapped(line, usize::from(body.width))).collect();
    let height = usize::from(body.height);
    // The last line is never above the window.
    let above = window.above.min(lines.len().saturating_sub(height));
    for (number, text) in (0..).zip(lines.iter().skip(above).take(height)) {
        let area = Rect { y: body.y.saturating_add(number), height: 1, ..body };
        put(buffer, area, 0, text, Style::new());
    }
}

/// A line in parts that fit, broken between words if possible. Continued lines keep the indentation.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let indent = text.chars().take_while(|c| *c == ' ').count();
    let indent = if indent + 10 < width { indent } else { 0 };
    let mut lines = Vec::new();
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        let space = rest.iter().take(width + 1).rposition(|c| *c == ' ');
        let at = space.filter(|at| *at > indent).unwrap_or(width);
        let behind = rest.split_off(at);
        lines.push(rest.into_iter().collect());
        let words = behind.into_iter().skip_while(|c| *c == ' ');
        rest = std::iter::repeat_n(' ', indent).chain(words).collect();
    }
    lines.push(rest.into_iter().collect());
    lines
}

#[cfg(test)]
mod tests;

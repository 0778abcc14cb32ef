//! The keys that `top` knows, without the terminal that they come from.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    Enter,
    Escape,
    Backspace,
    /// Ctrl-U.
    EraseLine,
    Tab,
    BackTab,
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// Ctrl-L: draws everything again.
    Redraw,
    /// Ctrl-C.
    Interrupt,
}

/// What the keys do, for the help.
pub(super) const HELP: [(&str, &str); 15] = [
    ("1 to 5, Tab", "overview, attackers, bans, sources, interfaces"),
    ("up, down, j, k", "select a line; Page Up and Page Down for more"),
    ("n, N", "bans: the next page, the previous page"),
    ("Enter, w", "why: what is known about the selected address"),
    ("W", "why, about an address that you type"),
    ("b", "ban a network (root only; asks first)"),
    ("u", "unban a network (root only; asks first)"),
    ("a", "allow a network: never drop or ban it (root only)"),
    ("/", "filter: show only lines that contain a text"),
    ("Escape", "close a window, end the filter"),
    ("s", "sort by something else"),
    ("p, space", "pause, go on"),
    ("Ctrl-L", "draw the screen again"),
    ("?, h", "this help"),
    ("q, Ctrl-C", "quit"),
];

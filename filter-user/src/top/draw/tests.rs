//! Screens of a few sizes, recorded in `top/screens`. `UPDATE_DOCS=1` records them again.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::model::tests::{active, filled};
use super::*;

const LOOK: Look = Look { colour: true, unicode: true };

fn screen(view: &View, width: u16, height: u16, look: Look) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, look)).unwrap();
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let lines = buffer.content.chunks(usize::from(buffer.area.width));
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    };
    lines.map(line).collect()
}

fn hold(name: &str, shown: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/top/screens").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, shown).unwrap();
        return;
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, recorded, "{name}: UPDATE_DOCS=1 cargo test -p filter-user --lib top::");
}

#[test]
fn every_tab_at_a_few_sizes_is_as_recorded() {
    for (number, tab) in (1..).zip(Tab::ALL) {
        for (width, height) in [(80, 24), (120, 40), (40, 10)] {
            let view = filled(&number.to_string(), &active("1001"));
            let shown = text(&screen(&view, width, height, LOOK));
            hold(&format!("{}-{width}x{height}.txt", tab.name().to_lowercase()), &shown);
        }
    }
    let view = filled("?", &active("1001"));
    hold("help-80x24.txt", &text(&screen(&view, 80, 24, LOOK)));
    let view = filled("b192.0.2.7 7d\n", &active("1001"));
    let ascii = Look { colour: false, unicode: false };
    hold("ban-ascii-80x24.txt", &text(&screen(&view, 80, 24, ascii)));
}

#[test]
fn without_colours_there_are_none() {
    let view = filled("1", &active("1001"));
    let look = Look { colour: false, ..LOOK };
    let coloured = |buffer: &Buffer| buffer.content.iter().any(|cell| cell.fg != Color::Reset);
    assert!(!coloured(&screen(&view, 80, 24, look)));
    assert!(coloured(&screen(&view, 80, 24, LOOK)));
}

#[test]
fn any_size_can_be_drawn() {
    let view = filled("1", &active("1001"));
    let window = filled("?", &active("1001"));
    for width in [0, 1, 2, 7, 15, 39, 71, 72, 300] {
        for height in [0, 1, 2, 3, 5, 8, 34, 100] {
            screen(&view, width, height, LOOK);
            screen(&window, width, height, LOOK);
        }
    }
}

#[test]
fn lines_are_broken_between_words() {
    assert_eq!(wrapped("a bc def", 5), ["a bc", "def"]);
    assert_eq!(wrapped("abcdefgh", 3), ["abc", "def", "gh"]);
    assert_eq!(wrapped("  one two three four", 15), ["  one two three", "  four"]);
    assert_eq!(wrapped("", 5), [""]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever an attacker calls an account, nothing but its own cell changes.
    #[test]
    fn an_account_moves_nothing(account: String) {
        let with = screen(&filled("2", &active(&account)), 80, 24, LOOK);
        let without = screen(&filled("2", &active("")), 80, 24, LOOK);
        for (place, (cell, other)) in with.content.iter().zip(&without.content).enumerate() {
            prop_assert!(LOOK.allows(cell.symbol()), "{:?}", cell.symbol());
            // `ACCOUNT`, in the lines of the attackers.
            if !(46..57).contains(&(place % 80)) {
                prop_assert_eq!(cell, other, "column {}", place % 80);
            }
        }
    }
}

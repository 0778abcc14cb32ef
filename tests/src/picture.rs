//! The screen of a terminal as a picture: what tmux captures becomes SVG.

use std::fmt::Write as _;

/// The size of a character, in pixels.
const WIDTH: usize = 8;
const HEIGHT: usize = 18;
/// Around the text.
const MARGIN: usize = 18;
/// Above the text.
const TOP: usize = 34;

/// How a character looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Look {
    /// The number of its colour.
    colour: Option<u8>,
    is_bold: bool,
    is_reversed: bool,
}

impl Look {
    fn class(self) -> &'static str {
        match self.colour.map(|colour| colour % 8) {
            Some(1) => "r",
            Some(2) => "g",
            Some(3) => "y",
            Some(0) => "d",
            Some(_) | None if self.is_bold => "b",
            Some(_) | None => "",
        }
    }

    /// Applies a sequence of numbers that select how characters look.
    fn select(&mut self, numbers: &str) {
        let mut numbers = numbers.split(';').map(|number| number.parse::<u8>().unwrap_or(0));
        while let Some(number) = numbers.next() {
            match number {
                0 => *self = Self::default(),
                1 => self.is_bold = true,
                7 => self.is_reversed = true,
                22 => self.is_bold = false,
                27 => self.is_reversed = false,
                30..=37 => self.colour = Some(number - 30),
                38 if numbers.next() == Some(5) => self.colour = numbers.next(),
                39 => self.colour = None,
                90..=97 => self.colour = Some(number - 82),
                _ => {}
            }
        }
    }
}

/// The characters of a line with their looks.
fn characters(line: &str, look: &mut Look) -> Vec<(char, Look)> {
    let mut characters = Vec::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if let Some(sequence) = rest.strip_prefix("\x1b[") {
            let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(sequence.len());
            let (numbers, behind) = sequence.split_at(end);
            if behind.starts_with('m') {
                look.select(numbers);
            }
            rest = behind.get(1..).unwrap_or_default();
        } else {
            characters.push((c, *look));
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    characters
}

/// What the terminal shows, with its escape sequences, as a picture with this title.
pub fn svg(screen: &str, title: &str) -> String {
    let mut look = Look::default();
    let lines: Vec<_> = screen.lines().map(|line| characters(line, &mut look)).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let (width, height) = (2 * MARGIN + columns * WIDTH, TOP + lines.len() * HEIGHT + MARGIN);
    let mut out = String::new();
    line(
        &mut out,
        &format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\" aria-labelledby=\"t\">"
        ),
    );
    line(&mut out, &format!("<title id=\"t\">{}</title>", escaped(title)));
    line(
        &mut out,
        concat!(
            "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,\"DejaVu Sans Mono\",monospace;",
            "fill:#d0d4da;white-space:pre}.d{fill:#7f8792}.g{fill:#7ac47a}.y{fill:#e0c060}.r{fill:#e57373}",
            ".b{fill:#ffffff;font-weight:bold}.x{fill:#d0d4da}.k{fill:#16191d}</style>"
        ),
    );
    line(
        &mut out,
        &format!("<rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#16191d\"/>"),
    );
    for x in [20, 37, 54] {
        line(&mut out, &format!("<circle cx=\"{x}\" cy=\"17\" r=\"5\" fill=\"#3a4048\"/>"));
    }
    for (number, characters) in lines.iter().enumerate() {
        draw(&mut out, characters, TOP + number * HEIGHT);
    }
    out.push_str("</svg>\n");
    out
}

/// Draws a line whose top is at `top`.
fn draw(out: &mut String, characters: &[(char, Look)], top: usize) {
    let mut at = 0;
    for run in characters
        .chunk_by(|one, two| one.1 == two.1 && bar(one.0).is_some() == bar(two.0).is_some())
    {
        let (x, look) =
            (MARGIN + at * WIDTH, run.first().map_or_else(Look::default, |first| first.1));
        at += run.len();
        if run.iter().all(|(c, _)| bar(*c).is_some()) {
            bars(out, run, (x, top), look);
            continue;
        }
        let text: String = run.iter().map(|(c, _)| c).collect();
        if look.is_reversed {
            let width = run.len() * WIDTH;
            line(
                out,
                &format!(
                    "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{HEIGHT}\" class=\"x\"/>"
                ),
            );
        }
        let class = if look.is_reversed { "k" } else { look.class() };
        // Words apart from each other stay in their columns whatever the font is.
        let mut from = 0;
        for word in text.split("  ") {
            let length = word.chars().count();
            let begins = word.chars().take_while(|c| *c == ' ').count();
            let shown = word.trim();
            if !shown.is_empty() {
                let (x, y) = (x + (from + begins) * WIDTH, top + 14);
                let width = shown.chars().count() * WIDTH;
                let class =
                    if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
                line(
                    out,
                    &format!(
                        "<text x=\"{x}\" y=\"{y}\" textLength=\"{width}\" lengthAdjust=\"spacingAndGlyphs\"{class}>{}</text>",
                        escaped(shown)
                    ),
                );
            }
            from += length + 2;
        }
    }
}

/// The height of a bar in eighths of a line, if a character is one.
fn bar(c: char) -> Option<usize> {
    ('\u{2581}'..='\u{2588}').contains(&c).then(|| c as usize - 0x2580)
}

/// Draws bars as one outline.
fn bars(out: &mut String, run: &[(char, Look)], (x, top): (usize, usize), look: Look) {
    let bottom = top + HEIGHT;
    let mut path = format!("M{x} {bottom}");
    for (c, _) in run {
        let height = bar(*c).unwrap_or(0) * HEIGHT / 8;
        let _infallible = write!(path, "V{}h{WIDTH}", bottom - height);
    }
    let _infallible = write!(path, "V{bottom}z");
    let class = if look.class().is_empty() { "x" } else { look.class() };
    line(out, &format!("<path d=\"{path}\" class=\"{class}\"/>"));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn line(out: &mut String, line: &str) {
    let _infallible = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_its_place_and_colour() {
        let screen = "\x1b[38;5;2menforcing\x1b[39m  \x1b[1m\x1b[38;5;1m1 <fault>\x1b[0m\n\n a  bc \x1b[7md\x1b[0m";
        let picture = svg(screen, "a & b");
        for expected in [
            "<title id=\"t\">a &amp; b</title>",
            "<text x=\"18\" y=\"48\" textLength=\"72\" lengthAdjust=\"spacingAndGlyphs\" class=\"g\">enforcing</text>",
            "<text x=\"106\" y=\"48\" textLength=\"72\" lengthAdjust=\"spacingAndGlyphs\" class=\"r\">1 &lt;fault&gt;</text>",
            "<text x=\"26\" y=\"84\" textLength=\"8\" lengthAdjust=\"spacingAndGlyphs\">a</text>",
            "<text x=\"50\" y=\"84\" textLength=\"16\" lengthAdjust=\"spacingAndGlyphs\">bc</text>",
            "class=\"k\">d</text>",
        ] {
            assert!(picture.contains(expected), "{expected}\n{picture}");
        }
    }

    #[test]
    fn bars_are_drawn() {
        let picture = svg("\x1b[38;5;2m\u{2584}\u{2588}", "");
        assert!(picture.contains("<path d=\"M18 52V43h8V34h8V52z\" class=\"g\"/>"), "{picture}");
    }
}

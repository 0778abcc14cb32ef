//! What each key does: in a window, in a line that is typed, and otherwise.

use api::{Request, Status};

use super::{Flow, Model, Moment, Over};
use crate::ban_list::network;
use crate::top::key::{HELP, Key};
use crate::top::prompt::{Prompt, Purpose, Typed};
use crate::top::tables;
use crate::top::view::{Tab, Tone, Window};

impl Model {
    /// Takes a key.
    pub(in crate::top) fn key(&mut self, key: Key, now: Moment) -> Flow {
        self.is_changed = true;
        if key == Key::Interrupt {
            return Flow::Quit;
        }
        if key == Key::Redraw {
            self.wants_redraw = true;
            return Flow::GoOn;
        }
        match self.over.take() {
            Some(Over::Prompt(prompt)) => self.type_into(prompt, key, now),
            Some(Over::Question(request, question)) => {
                if matches!(key, Key::Char('y' | 'Y')) {
                    self.wanted.push_back(*request);
                } else if key == Key::Char('n') || key == Key::Escape || key == Key::Char('N') {
                    self.say("nothing is changed", Tone::Plain, now);
                } else {
                    self.over = Some(Over::Question(request, question));
                }
            }
            Some(Over::Window(window)) => self.over = scrolled(window, key).map(Over::Window),
            None => return self.command(key, now),
        }
        Flow::GoOn
    }

    fn type_into(&mut self, mut prompt: Prompt, key: Key, now: Moment) {
        match prompt.key(key) {
            Typed::Left => return,
            Typed::More => {}
            Typed::Done if prompt.purpose == Purpose::Filter => {
                prompt.text.trim().clone_into(&mut self.filter);
                self.first_page(now);
                return;
            }
            Typed::Done => match prompt.request(self.settings.session) {
                Ok((request, _)) if prompt.purpose == Purpose::Why => {
                    self.wanted.push_back(request);
                    return;
                }
                Ok((request, question)) => {
                    self.over = Some(Over::Question(Box::new(request), question));
                    return;
                }
                Err(why) => prompt.wrong = Some(why),
            },
        }
        self.over = Some(Over::Prompt(prompt));
    }

    fn command(&mut self, key: Key, now: Moment) -> Flow {
        match key {
            Key::Char('q') => return Flow::Quit,
            Key::Char('?' | 'h') => {
                let line = |(keys, what): &(&str, &str)| format!("{keys:<15} {what}");
                let lines = HELP.iter().map(line).collect();
                self.over = Some(Over::Window(Window::new("help".to_owned(), lines)));
            }
            Key::Char(digit @ '1'..='5') => {
                let place = digit.to_digit(10).unwrap_or(1).saturating_sub(1);
                let place = usize::try_from(place).unwrap_or(0);
                self.show(Tab::ALL.get(place).copied().unwrap_or_default(), now);
            }
            Key::Tab => self.show(self.tab.right(1), now),
            Key::BackTab => self.show(self.tab.right(Tab::ALL.len() - 1), now),
            Key::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                self.next_round = now.at;
            }
            Key::Char('s') => {
                self.sort = self.sort.next();
                self.first_page(now);
            }
            Key::Char('/') => self.prompt(Purpose::Filter, now),
            Key::Char('W') => self.prompt(Purpose::Why, now),
            Key::Char('b') => self.prompt(Purpose::Ban, now),
            Key::Char('u') => self.prompt(Purpose::Unban, now),
            Key::Char('a') => self.prompt(Purpose::Allow, now),
            Key::Char('w') | Key::Enter => self.explain(now),
            Key::Escape => {
                self.message = None;
                if !self.filter.is_empty() {
                    self.filter.clear();
                    self.first_page(now);
                }
            }
            Key::Char('n') => self.turn_page(true, now),
            Key::Char('N') => self.turn_page(false, now),
            Key::Down | Key::Char('j') => self.select(now, 1),
            Key::Up | Key::Char('k') => self.select(now, -1),
            Key::PageDown => self.select(now, 10),
            Key::PageUp => self.select(now, -10),
            Key::Home => self.select(now, isize::MIN),
            Key::End => self.select(now, isize::MAX),
            Key::Char(_) | Key::Backspace | Key::EraseLine | Key::Redraw | Key::Interrupt => {}
        }
        Flow::GoOn
    }

    fn show(&mut self, tab: Tab, now: Moment) {
        if self.tab == tab {
            return;
        }
        self.tab = tab;
        self.first_page(now);
    }

    /// Begins the list of bans again, and asks at once for what is shown.
    fn first_page(&mut self, now: Moment) {
        self.pages.begins.clear();
        (self.pages.next, self.pages.rows) = (None, Vec::new());
        self.next_round = now.at;
    }

    fn turn_page(&mut self, forward: bool, now: Moment) {
        if self.tab != Tab::Bans {
            return;
        }
        match (forward, self.pages.next.take()) {
            (true, Some(next)) => self.pages.begins.push(Some(next)),
            (true, None) => self.say("this is the last page", Tone::Plain, now),
            (false, _) => {
                if self.pages.begins.pop().is_none() {
                    self.say("this is the first page", Tone::Plain, now);
                }
            }
        }
        self.next_round = now.at;
    }

    fn prompt(&mut self, purpose: Purpose, now: Moment) {
        let is_change = matches!(purpose, Purpose::Ban | Purpose::Unban | Purpose::Allow);
        if is_change && !self.settings.may_change {
            let command = purpose.command();
            let text = format!("only root may {command}: quit, and type `sudo ringfence top`");
            return self.say(&text, Tone::Warning, now);
        }
        let text = match purpose {
            Purpose::Filter => self.filter.clone(),
            Purpose::Why | Purpose::Ban | Purpose::Unban | Purpose::Allow => {
                self.network_of_selection(now).unwrap_or_default()
            }
        };
        self.over = Some(Over::Prompt(Prompt::new(purpose, text)));
    }

    /// The key of the selected row, if it is a network.
    fn network_of_selection(&self, now: Moment) -> Option<String> {
        let is_of_networks = matches!(self.tab, Tab::Overview | Tab::Attackers | Tab::Bans);
        self.selection(now).filter(|key| is_of_networks && network(key).is_ok())
    }

    fn explain(&mut self, now: Moment) {
        match self.tab {
            Tab::Overview | Tab::Attackers | Tab::Bans => {
                match self.network_of_selection(now).and_then(|net| network(&net).ok()) {
                    Some(net) => self.wanted.push_back(Request::Why { address: net.addr() }),
                    None => self.prompt(Purpose::Why, now),
                }
            }
            Tab::Sources => {
                let clock = self.clock(now);
                let name = self.selection(now).unwrap_or_default();
                let of = |status: &Status| tables::source(status, &name, &clock);
                if let Some(lines) = self.status.as_ref().and_then(of) {
                    self.over = Some(Over::Window(Window::new("source".to_owned(), lines)));
                }
            }
            Tab::Interfaces => {
                let row = self.selected_row(now);
                if let Some(row) = row {
                    self.over = Some(Over::Window(Window::new("fault".to_owned(), row.cells)));
                }
            }
        }
    }
}

/// A window after a key; `None` if it is closed.
fn scrolled(window: Window, key: Key) -> Option<Window> {
    let last = window.lines.len().saturating_sub(1);
    let above = match key {
        Key::Down | Key::Char('j') => window.above + 1,
        Key::Up | Key::Char('k') => window.above.saturating_sub(1),
        Key::PageDown | Key::Char(' ') => window.above + 10,
        Key::PageUp => window.above.saturating_sub(10),
        Key::Home => 0,
        Key::End => last,
        Key::Escape | Key::Enter | Key::Char(_) => return None,
        Key::Backspace
        | Key::EraseLine
        | Key::Tab
        | Key::BackTab
        | Key::Redraw
        | Key::Interrupt => window.above,
    };
    Some(Window { above: above.min(last), ..window })
}

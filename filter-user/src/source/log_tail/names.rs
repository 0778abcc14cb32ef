//! The history of one name in a directory: from events it determines which files lost the name.

use std::ffi::{OsStr, OsString};

use super::siblings;

/// An event in the directory.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A file was moved away from this name.
    MovedFrom(&'a OsStr, u32),
    /// The file of the [`Event::MovedFrom`] with the same cookie has this name now.
    MovedTo(&'a OsStr, u32),
    /// A file was created.
    Created(&'a OsStr),
    /// A file was unlinked.
    Deleted(&'a OsStr),
}

/// Follows files that had the name once through further renames (`log` to `log.1` to `log.2`), so that a
/// file which had it only for a moment can still be found.
#[derive(Debug)]
pub(super) struct Names {
    name: OsString,
    left: Vec<Place>,
    version: u64,
}

/// The place of a file that had the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the directory, under this name.
    Named(OsString),
    /// Between two events, or outside the directory.
    Moving(u32),
    /// Unlinked or overwritten.
    Gone,
}

impl Names {
    pub(super) fn new(name: &OsStr) -> Self {
        Self { name: name.to_owned(), left: Vec::new(), version: 0 }
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Changes with every event about the name, a file that had it, or a name that rotation gives.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn handle(&mut self, event: Event<'_>) {
        let (Event::MovedFrom(about, _)
        | Event::MovedTo(about, _)
        | Event::Created(about)
        | Event::Deleted(about)) = event;
        self.version += u64::from(siblings::may_be_sibling(&self.name, about));
        match event {
            Event::MovedFrom(name, cookie) => {
                if name == self.name {
                    self.left.push(Place::Moving(cookie));
                } else {
                    self.change(&Place::Named(name.to_owned()), Place::Moving(cookie));
                }
            }
            Event::MovedTo(name, cookie) => {
                self.change(&Place::Named(name.to_owned()), Place::Gone);
                if name == self.name {
                    self.left.retain(|place| *place != Place::Moving(cookie));
                } else {
                    self.change(&Place::Moving(cookie), Place::Named(name.to_owned()));
                }
            }
            Event::Created(_) => {}
            Event::Deleted(name) => self.change(&Place::Named(name.to_owned()), Place::Gone),
        }
    }

    /// The files that had the name since [`Names::forget`], in the order in which they left it.
    pub(super) fn left(&self) -> &[Place] {
        &self.left
    }

    pub(super) fn forget(&mut self) {
        self.left.clear();
    }

    fn change(&mut self, from: &Place, to: Place) {
        if let Some(place) = self.left.iter_mut().find(|place| *place == from) {
            *place = to;
            self.version += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(events: &[(&str, &str, u32)]) -> Names {
        let mut names = Names::new(OsStr::new("log"));
        for (what, name, cookie) in events {
            let name = OsStr::new(*name);
            names.handle(match *what {
                "from" => Event::MovedFrom(name, *cookie),
                "to" => Event::MovedTo(name, *cookie),
                "new" => Event::Created(name),
                _ => Event::Deleted(name),
            });
        }
        names
    }

    fn named(name: &str) -> Place {
        Place::Named(name.into())
    }

    #[test]
    fn follows_a_rotation() {
        let names = after(&[("from", "log", 1), ("to", "log.1", 1), ("new", "log", 0)]);
        assert_eq!(names.left(), [named("log.1")]);
    }

    #[test]
    fn follows_two_rotations_at_once() {
        let names = after(&[
            ("from", "log", 1),
            ("to", "log.1", 1),
            ("new", "log", 0),
            ("from", "log.1", 2),
            ("to", "log.2", 2),
            ("from", "log", 3),
            ("to", "log.1", 3),
        ]);
        assert_eq!(names.left(), [named("log.2"), named("log.1")]);
    }

    #[test]
    fn knows_what_is_lost() {
        let names = after(&[
            ("from", "log", 1),
            ("to", "log.1", 1),
            ("from", "log", 2),
            ("to", "log.1", 2),
            ("gone", "log.1", 0),
            ("from", "log", 3),
        ]);
        assert_eq!(names.left(), [Place::Gone, Place::Gone, Place::Moving(3)]);
    }

    #[test]
    fn a_file_that_comes_back_did_not_leave() {
        let names =
            after(&[("from", "log", 1), ("to", "x", 1), ("from", "x", 2), ("to", "log", 2)]);
        assert!(names.left().is_empty());
    }

    #[test]
    fn other_files_do_not_matter() {
        let names = after(&[
            ("new", "full", 0),
            ("from", "full", 1),
            ("to", "full.1", 1),
            ("gone", "full.1", 0),
        ]);
        assert_eq!(names.version(), 0);
        assert_ne!(after(&[("new", "log", 0)]).version(), 0);
        assert_ne!(after(&[("gone", "log", 0)]).version(), 0);
        assert_ne!(after(&[("from", "tmp", 1), ("to", "log", 1)]).version(), 0);
    }
}

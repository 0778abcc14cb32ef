//! Looks up which files have the name of the log, and which had it meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::sys::inotify::{AddWatchFlags, InotifyEvent, WatchDescriptor};

use super::files::{FileId, Followed, Opened, links, open, path_of};
use super::lines::LineSplitter;
use super::position::{Prefix, kept_path};
use super::siblings::{self, Sibling};
use super::watch::{Changed, Dir, name_event, watch_dir, watch_file};
use super::{COPYING, Health, LogTail, RENAME_RETRIES, Start, UNCHANGED, file_time};

impl LogTail {
    /// Opens the file with the name, and the files that had it since the last time.
    ///
    /// Renames may happen meanwhile: the opened files are those that the events mean only if no rename
    /// happened between reading the events and opening the files. Returns whether this was so.
    pub(super) fn look_up_names(&mut self, start: Start) -> io::Result<bool> {
        for _ in 0..RENAME_RETRIES {
            self.drain_events()?;
            self.watch_links();
            let version = self.version();
            let looked = file_time();
            let left: Vec<_> = self.dirs.iter().flat_map(Dir::open_left).collect();
            let changed: Vec<_> = self.dirs.iter().map(|dir| Changed::of(&dir.path)).collect();
            let current = open(&self.path);
            let target = self.target(&current);
            // A directory can contain thousands of files, and this runs every second.
            let siblings = (!self.is_unchanged(&changed)).then(|| self.siblings(target.as_deref()));
            self.drain_events()?;
            if self.version() == version {
                self.names_changed = false;
                for dir in &mut self.dirs {
                    dir.names.forget();
                }
                for file in std::mem::take(&mut self.left) {
                    self.follow(file, Start::Beginning);
                }
                let undecided = self.follow_new(left, siblings, current, start);
                (self.changed, self.looked) = (changed, looked);
                if let Some(undecided) = undecided {
                    self.undecided = undecided;
                }
                if !self.undecided.is_empty() {
                    self.changed.clear();
                }
                // An undecided file may be found only between the old target and the new one.
                if self.undecided.is_empty() || self.target.is_none() {
                    self.target = target.or_else(|| self.target.take());
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn follow_new(
        &mut self,
        left: Vec<Option<Opened>>,
        siblings: Option<Vec<Sibling>>,
        current: io::Result<Opened>,
        start: Start,
    ) -> Option<Vec<FileId>> {
        // The first file to leave the name is the one that had it before.
        let known = usize::from(self.current.is_some());
        for (nth, file) in left.into_iter().enumerate() {
            match file {
                Some(file) => self.follow(file, start),
                None => self.state.missed += u64::from(nth >= known),
            }
        }
        let unseen = |siblings| self.find_unseen(siblings, current.as_ref().ok());
        let undecided = siblings.map(unseen);
        (self.current, self.state.health) = match current {
            Ok(file) => {
                let id = file.id;
                self.follow(file, start);
                (Some(id), Health::Ok)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, Health::Waiting),
            Err(error) => (None, Health::Failed(error.to_string())),
        };
        undecided
    }

    /// Follows files that were made since the names were last read, and rotated away unseen: copies of a
    /// truncated file, and files that had the name meanwhile. Returns the files for which this cannot be
    /// decided yet.
    pub(super) fn find_unseen(
        &mut self,
        siblings: Vec<Sibling>,
        current: Option<&Opened>,
    ) -> Vec<FileId> {
        self.let_go.retain(|ended| siblings.iter().any(|sibling| ended.is(sibling)));
        let mut undecided = Vec::new();
        let mut unseen = Vec::new();
        // A copy of one of these is read only when that one is truncated.
        let mut prefixes: Vec<_> = self.files.iter().map(|file| file.prefix.clone()).collect();
        prefixes.extend(current.map(|current| Prefix::of(&current.file, current.size)));
        prefixes.retain(|prefix| !prefix.is_empty());
        let current = current.map(|current| current.id);
        for sibling in siblings {
            let id = sibling.opened.id;
            let is_new = |made: &SystemTime| *made >= self.looked || self.undecided.contains(&id);
            let Some(made) = sibling.made.filter(is_new) else { continue };
            let is_followed = self.let_go.iter().any(|ended| ended.is(&sibling))
                || self.files.iter().any(|file| file.id == id);
            if !sibling.rotated || Some(id) == current || is_followed {
                continue;
            }
            let copy_of = |prefix: &Prefix| prefix.is_of(&sibling.opened.file);
            if prefixes.iter().any(|prefix| prefix.identifies() && copy_of(prefix)) {
                continue;
            }
            let is_empty = sibling.opened.size == 0;
            let may_become = prefixes.iter().any(|prefix| prefix.may_become(&sibling.opened.file));
            if may_become || prefixes.iter().any(copy_of) {
                if made.elapsed().is_ok_and(|age| age < COPYING) {
                    undecided.push(id);
                    continue;
                }
                if may_become && !is_empty {
                    continue;
                }
            }
            unseen.push(sibling.opened);
        }
        for opened in unseen {
            let place = self.files.iter().position(|file| Some(file.id) == current);
            let place = place.unwrap_or(self.files.len());
            self.state.rotations += 1;
            self.read_on(opened, place);
        }
        undecided
    }

    /// The files that rotation has made of the log, and the targets that a symbolic link had meanwhile.
    pub(super) fn siblings(&self, target: Option<&Path>) -> Vec<Sibling> {
        let mut siblings = siblings::of(&self.places());
        if let Some((old, new)) = self.target.as_deref().zip(target) {
            siblings.extend(siblings::between(old, new));
        }
        siblings
    }

    /// The file to which the name leads, if it is behind a symbolic link.
    pub(super) fn target(&self, current: &io::Result<Opened>) -> Option<PathBuf> {
        let path = current.as_ref().ok().and_then(|current| path_of(&current.file))?;
        (path != self.path).then_some(path)
    }

    /// Whether nothing can have been created in the directories since the names were last read.
    pub(super) fn is_unchanged(&self, changed: &[Option<Changed>]) -> bool {
        let long_ago = self.looked.checked_sub(UNCHANGED).unwrap_or(self.looked);
        let is_old =
            |changed: &Option<Changed>| changed.is_some_and(|changed| changed.at < long_ago);
        *changed == self.changed && changed.iter().all(is_old)
    }

    /// The places of the log: its name, and its targets if it is a symbolic link.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(Dir::followed).collect()
    }

    pub(super) fn version(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.names.version()).sum()
    }

    pub(super) fn drain_events(&mut self) -> io::Result<()> {
        loop {
            match self.inotify.get_ref().read() {
                Ok(events) => self.handle(&events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn handle(&mut self, events: &[InotifyEvent]) {
        let before = self.version();
        for event in events {
            // Events of files only wake the reader; events that were lost may have concerned names.
            self.names_changed |= event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW);
            let Some(event_for) = name_event(event) else {
                continue;
            };
            for dir in self.dirs.iter_mut().filter(|dir| dir.watch == Some(event.wd)) {
                dir.names.handle(event_for);
            }
        }
        self.names_changed |= self.version() != before;
    }

    /// Also watches for renames where the file is, and on the way there, if the name is a symbolic link.
    pub(super) fn watch_links(&mut self) {
        for _ in 0..RENAME_RETRIES {
            let links = links(&self.path);
            let same = |(dir, link): &(&Dir, &PathBuf)| dir.followed() == **link;
            let kept = self.dirs.iter().zip(&links).take_while(same).count().max(1);
            if kept == self.dirs.len() && kept == links.len() {
                return;
            }
            let dropped: Vec<Dir> = self.dirs.drain(kept..).collect();
            // Files that had a name there are still read to their end.
            self.left.extend(dropped.iter().flat_map(Dir::open_left).flatten());
            let dropped: Vec<_> = dropped.into_iter().filter_map(|dir| dir.watch).collect();
            let inotify = &self.inotify.get_ref().0;
            let added = links.iter().skip(kept).filter_map(|link| Dir::watch(inotify, link).ok());
            let known = self.dirs.len();
            self.dirs.extend(added);
            self.unwatch(dropped);
            self.changed.clear();
            if self.dirs.len() - known < links.len() - kept {
                // Nothing was written after its end yet.
                return;
            }
        }
    }

    /// Another directory with the same name may have replaced a directory.
    pub(super) fn watch_dirs_again(&mut self) {
        let inotify = &self.inotify.get_ref().0;
        let mut replaced = Vec::new();
        for dir in &mut self.dirs {
            let watch = watch_dir(inotify, &dir.path).ok();
            if watch != dir.watch {
                replaced.extend(std::mem::replace(&mut dir.watch, watch));
            }
        }
        self.unwatch(replaced);
    }

    /// Ends watches of directories in which no name is looked for any more.
    pub(super) fn unwatch(&self, watches: Vec<WatchDescriptor>) {
        for watch in watches {
            if self.dirs.iter().all(|dir| dir.watch != Some(watch)) {
                // The watch is already gone if the directory is.
                self.inotify.get_ref().0.rm_watch(watch).ok();
            }
        }
    }

    /// A file to read.
    pub(super) fn followed(&self, opened: Opened, start: Start) -> Followed {
        let watch = watch_file(&self.inotify.get_ref().0, &opened.file);
        let path = path_of(&opened.file).filter(|path| *path != self.path);
        let mut file = Followed::new(opened, watch, start);
        file.path = path.as_deref().and_then(kept_path);
        file
    }

    pub(super) fn follow(&mut self, opened: Opened, start: Start) {
        if self.files.iter().any(|file| file.id == opened.id) {
            return;
        }
        self.state.rotations += u64::from(!self.files.is_empty());
        let file = self.followed(opened, start);
        self.files.push_back(file);
    }

    /// Reads a file from its beginning, at this index of `files`.
    pub(super) fn read_on(&mut self, opened: Opened, place: usize) {
        if !self.files.iter().any(|file| file.id == opened.id) {
            let file = self.followed(opened, Start::Beginning);
            self.files.insert(place, file);
        }
    }

    /// Reads a file from `position`, at this index of `files`. It began with `prefix` when it was looked
    /// up, and may have been truncated since.
    pub(super) fn go_on(
        &mut self,
        opened: Opened,
        position: u64,
        lines: LineSplitter,
        prefix: Prefix,
        place: usize,
    ) {
        if self.files.iter().any(|file| file.id == opened.id) {
            return;
        }
        let mut file = self.followed(opened, Start::Beginning);
        (file.position, file.lines, file.prefix) = (position, lines, prefix);
        file.prefix.extend(&file.file, file.size);
        self.files.insert(place, file);
    }
}

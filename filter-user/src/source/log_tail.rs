//! Follows one log file, and returns its lines, each once and in the order of writing.
//!
//! The file may be missing, rotated by move or by copy and truncate, deleted, or replaced, also by a
//! symbolic link. A file that loses its name is still read, because its writer keeps it open until told
//! to reopen (Asterisk: until `logger reload`). It is closed when it has been silent for a while after
//! its successor was written to. Must never deliver a line twice, a part of a line, or more than
//! [`LINE_MAX`] bytes, and the contents of a file must never make it keep memory.
//!
//! The order is kept across files: before any of them is read, newer files are measured before older
//! ones. So a line that is read from a new file was written after everything that is then read from the
//! old one.
//!
//! A later process continues from a [`Position`]: it looks for the files by their identity and their
//! beginning, also among those that rotation has made meanwhile.
//!
//! Everything except the waiting blocks on the disk, so it belongs on a separate thread; the amount for
//! each turn is bounded.

mod files;
pub(super) mod lines;
mod names;
mod position;
mod siblings;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use self::files::{FileId, Followed, Opened, links, open, parent, path_of};
pub use self::lines::LINE_MAX;
use self::lines::LineSplitter;
pub use self::position::{FilePosition, Position};
use self::position::{Prefix, kept_path};
use self::siblings::{SIBLINGS_MAX, Sibling};
pub use self::siblings::{is_rotated, unrotated};
use self::watch::{Changed, Dir, Watcher, name_event, watch_dir, watch_file};

/// The most bytes that are read before others get their turn.
const TURN_BYTES: usize = 256 * 1024;

/// For file systems that send no events, and for directories that were replaced.
const POLL: Duration = Duration::from_secs(2);

/// How long a file without its name must be silent before it is closed.
const GRACE: Duration = Duration::from_mins(1);

/// The most silent files that are kept open.
const FILES_MAX: usize = 16;

/// If a directory was last changed this long before it was read, any later change must have changed its
/// time.
const UNCHANGED: Duration = Duration::from_secs(2);

/// How long a copy may take until it contains the beginning.
const COPYING: Duration = Duration::from_secs(10);

/// How often names are read again because they have changed meanwhile.
const RENAME_RETRIES: usize = 16;

/// Where to begin in a file that already exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its beginning.
    Beginning,
    /// At its end.
    End,
}

/// Whether there is a file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The file is read.
    Ok,
    /// There is no file with that name yet, or at the moment.
    Waiting,
    /// The file cannot be read, for this reason. It is tried again and again.
    Failed(String),
}

/// The state of following a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether there is a file to read.
    pub health: Health,
    /// Lines delivered.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Lines that were left out: longer than [`LINE_MAX`], or incomplete when the file disappeared.
    pub skipped: u64,
    /// How often another file took the name.
    pub rotations: u64,
    /// How often a file was truncated.
    pub truncations: u64,
    /// Files that had the name and were gone before they could be opened.
    pub missed: u64,
}

/// One log file, followed by name.
#[derive(Debug)]
pub struct LogTail {
    path: PathBuf,
    inotify: AsyncFd<Watcher>,
    /// The directory of the name and, if that is a symbolic link, those of its targets, up to the file.
    dirs: Vec<Dir>,
    /// The times of these directories when the names were last read.
    changed: Vec<Option<Changed>>,
    /// Files that had a name in a directory to which no link leads any more.
    left: Vec<Opened>,
    /// The file that the name led to, if it was behind a symbolic link, when all files were decided.
    target: Option<PathBuf>,
    /// The files that have or had the name, the oldest first.
    files: VecDeque<Followed>,
    /// The file that has the name.
    current: Option<FileId>,
    /// Files that were read to their end and closed, while they still exist under another name.
    let_go: Vec<FileId>,
    names_changed: bool,
    /// Whether to look at the files now even without an event.
    polls: bool,
    /// When the names were last read: files written since may have been rotated unseen.
    looked: SystemTime,
    /// Files that may be copies in the making; this cannot be decided yet.
    undecided: Vec<FileId>,
    next_poll: Instant,
    grace: Duration,
    buffer: Box<[u8]>,
    /// Bytes that an earlier process left unread.
    backlog: u64,
    state: State,
}

impl LogTail {
    /// Follows `path`. A file that appears under that name later is read from its beginning.
    ///
    /// # Errors
    ///
    /// If the directory of `path` cannot be watched.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO and time enabled.
    pub fn open(path: impl Into<PathBuf>, start: Start) -> io::Result<Self> {
        let mut tail = Self::watching(path)?;
        tail.begin(start)?;
        Ok(tail)
    }

    /// Follows `path` from the position of another `LogTail`.
    ///
    /// # Errors
    ///
    /// The same as for [`open`](Self::open).
    ///
    /// # Panics
    ///
    /// The same as for [`open`](Self::open).
    pub fn resume(path: impl Into<PathBuf>, position: &Position) -> io::Result<Self> {
        let mut tail = Self::watching(path)?;
        tail.looked = position.at();
        let undecided = position.undecided.iter();
        tail.undecided = undecided.map(|&(device, inode)| FileId { device, inode }).collect();
        tail.target = position.target().map(PathBuf::from);
        tail.watch_links();
        for file in &position.files {
            tail.find(file)?;
        }
        tail.begin(Start::Beginning)?;
        tail.backlog = tail.files.iter().map(|f| f.size.saturating_sub(f.position)).sum();
        Ok(tail)
    }

    /// Whether the file that had the name has lost it and is still read, because its writer may have it
    /// open.
    pub fn reads_on_without_name(&self) -> bool {
        self.current.is_none() && !self.files.is_empty()
    }

    /// How many bytes are waiting to be read, as far as is known.
    pub fn waiting(&self) -> u64 {
        self.files.iter().map(|file| file.size.saturating_sub(file.position)).sum()
    }

    /// Whether the next lines were written before this began to follow.
    pub fn is_behind(&self) -> bool {
        self.state.bytes < self.backlog
    }

    fn watching(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "`register` is unsafe for descriptors that can close; this one is owned"
        )]
        let inotify = AsyncFd::with_interest(Watcher(inotify), Interest::READABLE)?;
        let dir = Dir::watch(&inotify.get_ref().0, &path).map_err(|error| {
            let dir = parent(&path).display();
            io::Error::new(error.kind(), format!("cannot watch the directory {dir}: {error}"))
        })?;
        Ok(Self {
            path,
            inotify,
            dirs: vec![dir],
            changed: Vec::new(),
            left: Vec::new(),
            target: None,
            files: VecDeque::new(),
            current: None,
            let_go: Vec::new(),
            names_changed: false,
            polls: false,
            looked: file_time(),
            undecided: Vec::new(),
            next_poll: Instant::now() + POLL,
            grace: GRACE,
            buffer: vec![0; LINE_MAX].into_boxed_slice(),
            backlog: 0,
            state: State {
                health: Health::Waiting,
                lines: 0,
                bytes: 0,
                skipped: 0,
                rotations: 0,
                truncations: 0,
                missed: 0,
            },
        })
    }

    fn begin(&mut self, start: Start) -> io::Result<()> {
        if !self.look_up_names(start)? {
            let busy = format!("{} is renamed too often", self.path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, busy));
        }
        Ok(())
    }

    /// The position after the last line that was delivered.
    pub fn position(&self) -> Position {
        let files = self.files.iter().map(|file| FilePosition {
            device: file.id.device,
            inode: file.id.inode,
            offset: file.delivered(),
            in_mid_line: file.lines.is_skipping(),
            prefix: file.prefix.clone(),
            path: file.path.clone(),
        });
        let undecided = self.undecided.iter().map(|id| (id.device, id.inode));
        let target = self.target.as_deref().filter(|_| !self.undecided.is_empty());
        let mut position = Position::new(self.looked, files.collect());
        position.undecided = undecided.take(SIBLINGS_MAX).collect();
        position.target = target.and_then(kept_path);
        position
    }

    /// Continues in a file of an earlier process. If it was truncated meanwhile, first in its copy, and
    /// then in the lines that were written since.
    fn find(&mut self, wanted: &FilePosition) -> io::Result<()> {
        let mut places = self.places();
        places.extend(wanted.path.iter().flat_map(|path| siblings::names(path.as_ref())));
        let (rest, anew) = self.while_unchanged(|| rest_and_anew(wanted, &places))?;
        match rest {
            Copy::Rest(rest) => {
                let lines = if wanted.in_mid_line {
                    LineSplitter::in_mid_line()
                } else {
                    LineSplitter::default()
                };
                self.go_on(rest, wanted.offset, lines, wanted.prefix.clone(), self.files.len());
            }
            Copy::Read(id) => self.let_go.push(id),
            Copy::None => self.state.missed += u64::from(wanted.offset > 0),
        }
        if let Some(anew) = anew {
            self.read_on(anew, self.files.len());
        }
        Ok(())
    }

    /// The result of `look` at the directories while no name in them changes, because a file that is
    /// renamed while a directory is read may be missed. If they keep changing, the last result.
    fn while_unchanged<T>(&mut self, look: impl Fn() -> T) -> io::Result<T> {
        let mut retries = RENAME_RETRIES;
        loop {
            self.drain_events()?;
            let version = self.version();
            let seen = look();
            self.drain_events()?;
            if self.version() == version || retries == 0 {
                return Ok(seen);
            }
            retries -= 1;
        }
    }

    /// Reads a file from its beginning, at this index of `files`.
    fn read_on(&mut self, opened: Opened, place: usize) {
        if !self.files.iter().any(|file| file.id == opened.id) {
            let file = self.followed(opened, Start::Beginning);
            self.files.insert(place, file);
        }
    }

    /// Reads a file from `position`, at this index of `files`. It began with `prefix` when it was looked
    /// up, and may have been truncated since.
    fn go_on(
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

    /// Follows files that were made since the names were last read, and rotated away unseen: copies of a
    /// truncated file, and files that had the name meanwhile. Returns the files for which this cannot be
    /// decided yet.
    fn find_unseen(&mut self, siblings: Vec<Sibling>, current: Option<&Opened>) -> Vec<FileId> {
        // The inode of a deleted file may be used again.
        self.let_go.retain(|id| siblings.iter().any(|sibling| sibling.opened.id == *id));
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
            let is_followed = self.let_go.contains(&id) || self.files.iter().any(|f| f.id == id);
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

    /// The path that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of following the log.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Waits until there may be something to read. Safe to cancel.
    ///
    /// # Errors
    ///
    /// If the kernel's events cannot be read.
    pub async fn wait(&mut self) -> io::Result<()> {
        let events = loop {
            tokio::select! {
                ready = self.inotify.readable() => {
                    match ready?.try_io(|watcher| watcher.get_ref().read()) {
                        Ok(events) => break events?,
                        Err(_would_block) => {}
                    }
                }
                () = sleep_until(self.next_poll) => {
                    self.next_poll = Instant::now() + POLL;
                    self.polls = true;
                    return Ok(());
                }
            }
        };
        self.handle(&events);
        Ok(())
    }

    /// Reads up to [`TURN_BYTES`], or until `each`, which is called for every line without its newline,
    /// has enough; returns whether there is more. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the kernel's events cannot be read. Problems with the file are in [`Self::state`].
    pub fn turn(&mut self, each: &mut impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<bool> {
        if std::mem::take(&mut self.polls) {
            self.watch_dirs_again();
            self.names_changed = true;
        }
        if self.names_changed {
            self.look_up_names(Start::Beginning)?;
        }
        self.measure()?;
        if self.names_changed {
            // The old contents of a truncated file are read before its new ones.
            self.look_up_names(Start::Beginning)?;
        }
        let mut budget = TURN_BYTES;
        let now = Instant::now();
        let mut enough = false;
        for file in &mut self.files {
            while !enough && file.position < file.size && budget > 0 {
                let read = match file.read(&mut self.buffer, budget) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => {
                        self.state.health = Health::Failed(error.to_string());
                        break;
                    }
                };
                if !file.prefix.is_of(&file.file) {
                    // Truncated and rewritten since it was measured: these bytes do not follow the
                    // previous ones.
                    file.position -= read as u64;
                    file.size = 0;
                    self.names_changed = true;
                    break;
                }
                file.last_read = now;
                budget -= read;
                let split = file.lines.split(&self.buffer[..read], each);
                // The rest, after `each` had enough, is read again later.
                enough = split.enough;
                file.position -= (read - split.read) as u64;
                self.state.bytes += split.read as u64;
                self.state.lines += split.lines;
                self.state.skipped += split.skipped;
            }
        }
        self.let_go(now);
        Ok(budget == 0 || enough || self.names_changed)
    }

    /// Measures the files, the newest first.
    fn measure(&mut self) -> io::Result<()> {
        let mut truncated = Vec::new();
        for (place, file) in self.files.iter_mut().enumerate().rev() {
            let Ok(metadata) = file.file.metadata() else {
                continue;
            };
            let size = metadata.len();
            // A truncated file may already be as long as before.
            let written = metadata.modified().ok();
            let grew = size != file.size || written != file.written;
            file.written = written;
            let known = std::mem::replace(&mut file.size, size);
            if size < file.position || (grew && !file.prefix.is_of(&file.file)) {
                self.state.truncations += 1;
                let prefix = std::mem::take(&mut file.prefix);
                let lines = std::mem::take(&mut file.lines);
                let position = std::mem::take(&mut file.position);
                let unread = known > position || lines.holds_part();
                truncated.push((place, prefix, position, lines, unread));
            }
            if grew {
                file.prefix.extend(&file.file, size);
            }
        }
        // From the last to the first, so that the indices stay valid.
        for (place, prefix, position, lines, unread) in truncated {
            if !self.find_copy(place, prefix, position, lines)? {
                self.state.skipped += u64::from(unread);
            }
            self.names_changed = true;
        }
        Ok(())
    }

    /// Reads the unread rest of a truncated file from its copy, if there is one.
    fn find_copy(
        &mut self,
        place: usize,
        prefix: Prefix,
        position: u64,
        lines: LineSplitter,
    ) -> io::Result<bool> {
        if !prefix.identifies() {
            // Nothing was delivered, so the copy is read like a file that was never seen.
            return Ok(true);
        }
        let mut places = self.places();
        // The name may lead to another file by now.
        let truncated = self.files.get(place).and_then(|file| path_of(&file.file));
        places.extend(truncated.iter().flat_map(|path| siblings::names(path)));
        let look = || {
            let siblings = siblings::of(&places).into_iter().map(|sibling| sibling.opened);
            Copy::among(siblings, &prefix, position)
        };
        match self.while_unchanged(look)? {
            Copy::Rest(copy) => self.go_on(copy, position, lines, prefix, place),
            Copy::Read(id) => self.let_go.push(id),
            Copy::None => return Ok(false),
        }
        Ok(true)
    }

    /// Closes files without the name that are no longer written to.
    fn let_go(&mut self, now: Instant) {
        let Some(newest) = self.files.back() else {
            return;
        };
        if Some(newest.id) != self.current || newest.size == 0 {
            return;
        }
        let mut surplus = self.files.len().saturating_sub(FILES_MAX);
        let current = newest.id;
        let inotify = &self.inotify.get_ref().0;
        let (state, let_go) = (&mut self.state, &mut self.let_go);
        self.files.retain(|file| {
            let drained = file.position >= file.size;
            let silent = now.duration_since(file.last_read) >= self.grace;
            if file.id == current || !drained || !(silent || surplus > 0) {
                return true;
            }
            surplus = surplus.saturating_sub(1);
            state.skipped += u64::from(file.lines.holds_part());
            file.unwatch(inotify);
            let_go.push(file.id);
            false
        });
    }

    /// Opens the file with the name, and the files that had it since the last time.
    ///
    /// Renames may happen meanwhile: the opened files are those that the events mean only if no rename
    /// happened between reading the events and opening the files. Returns whether this was so.
    /// files are these the files that the events meant. Whether it came to that.
    fn look_up_names(&mut self, start: Start) -> io::Result<bool> {
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

    fn follow_new(
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

    /// The files that rotation has made of the log, and the targets that a symbolic link had meanwhile.
    fn siblings(&self, target: Option<&Path>) -> Vec<Sibling> {
        let mut siblings = siblings::of(&self.places());
        if let Some((old, new)) = self.target.as_deref().zip(target) {
            siblings.extend(siblings::between(old, new));
        }
        siblings
    }

    /// The file to which the name leads, if it is behind a symbolic link.
    fn target(&self, current: &io::Result<Opened>) -> Option<PathBuf> {
        let path = current.as_ref().ok().and_then(|current| path_of(&current.file))?;
        (path != self.path).then_some(path)
    }

    /// Whether nothing can have been created in the directories since the names were last read.
    fn is_unchanged(&self, changed: &[Option<Changed>]) -> bool {
        let long_ago = self.looked.checked_sub(UNCHANGED).unwrap_or(self.looked);
        let is_old =
            |changed: &Option<Changed>| changed.is_some_and(|changed| changed.at < long_ago);
        *changed == self.changed && changed.iter().all(is_old)
    }

    /// The places of the log: its name, and its targets if it is a symbolic link.
    fn places(&self) -> Vec<PathBuf> {
        self.dirs.iter().map(Dir::followed).collect()
    }

    /// A file to read.
    fn followed(&self, opened: Opened, start: Start) -> Followed {
        let watch = watch_file(&self.inotify.get_ref().0, &opened.file);
        let path = path_of(&opened.file).filter(|path| *path != self.path);
        let mut file = Followed::new(opened, watch, start);
        file.path = path.as_deref().and_then(kept_path);
        file
    }

    fn follow(&mut self, opened: Opened, start: Start) {
        if self.files.iter().any(|file| file.id == opened.id) {
            return;
        }
        self.state.rotations += u64::from(!self.files.is_empty());
        let file = self.followed(opened, start);
        self.files.push_back(file);
    }

    fn version(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.names.version()).sum()
    }

    fn drain_events(&mut self) -> io::Result<()> {
        loop {
            match self.inotify.get_ref().read() {
                Ok(events) => self.handle(&events),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn handle(&mut self, events: &[InotifyEvent]) {
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
    fn watch_links(&mut self) {
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
    fn watch_dirs_again(&mut self) {
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
    fn unwatch(&self, watches: Vec<WatchDescriptor>) {
        for watch in watches {
            if self.dirs.iter().all(|dir| dir.watch != Some(watch)) {
                // The watch is already gone if the directory is.
                self.inotify.get_ref().0.rm_watch(watch).ok();
            }
        }
    }
}

/// The unread rest of a file that was truncated.
#[derive(Debug)]
enum Copy {
    /// The rest is in this file.
    Rest(Opened),
    /// There is none: all of this copy was read before the file was truncated.
    Read(FileId),
    /// There is no copy.
    None,
}

impl Copy {
    /// Finds the copy of a file that began with `prefix` and was read up to `position`.
    fn among(others: impl Iterator<Item = Opened>, prefix: &Prefix, position: u64) -> Self {
        if !prefix.identifies() {
            return Self::None;
        }
        let mut read = Self::None;
        for other in others {
            if other.size >= position && prefix.is_of(&other.file) {
                return Self::Rest(other);
            }
            let begins = Prefix::of(&other.file, other.size);
            if other.size < position && begins.identifies() && prefix.begins_with(&begins) {
                read = Self::Read(other.id);
            }
        }
        read
    }
}

/// Where to continue after `wanted`, and the file that was truncated since, to read from its beginning.
fn rest_and_anew(wanted: &FilePosition, places: &[PathBuf]) -> (Copy, Option<Opened>) {
    let id = FileId { device: wanted.device, inode: wanted.inode };
    let mut siblings: Vec<_> =
        siblings::of(places).into_iter().map(|sibling| sibling.opened).collect();
    let same = siblings.iter().position(|sibling| sibling.id == id);
    match same.map(|place| siblings.swap_remove(place)) {
        Some(same) if same.size >= wanted.offset && wanted.prefix.is_of(&same.file) => {
            (Copy::Rest(same), None)
        }
        same => (Copy::among(siblings.into_iter(), &wanted.prefix, wanted.offset), same),
    }
}

/// The time that the kernel would give a file that is created now: it lags behind the clock by a tick,
/// and by more on a virtual machine that was not running.
fn file_time() -> SystemTime {
    let coarse = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).ok().map(Duration::from);
    coarse.map_or_else(SystemTime::now, |time| UNIX_EPOCH + time)
}

#[cfg(test)]
mod tests;

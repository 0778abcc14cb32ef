//! Reads the databases of countries and autonomous systems, and compiles what they shut out, in a task of its
//! own.
//!
//! Must never run in the loop that decides: a database of the whole world takes a second.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::geo::{Database, Place, SIZE_MAX, Table, compile};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::config::Geo;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The databases, and what they shut out.
#[derive(Debug)]
pub struct Compiled {
    /// The settings that it follows.
    pub settings: Geo,
    /// The databases by the names of their files.
    pub databases: Vec<(String, Database)>,
    /// What is shut out, if anything is to be.
    pub table: Option<Table>,
    /// The files as they were before they were read.
    pub(crate) stamps: Vec<Stamp>,
}

impl Compiled {
    /// Where an address is.
    pub fn place(&self, address: IpAddr) -> Place {
        let places = self.databases.iter().map(|(_, database)| database.place(address));
        places.fold(Place::default(), Place::or)
    }
}

/// What the task has read, with the settings that it followed.
pub type News = Result<Arc<Compiled>, (Geo, String)>;

/// Reads the databases and compiles the table. Blocks.
///
/// # Errors
///
/// If a file cannot be read, or does not fit the settings.
pub fn read(settings: &Geo) -> Result<Compiled, String> {
    let stamps = stamps(&settings.databases);
    let mut databases = Vec::new();
    for path in &settings.databases {
        let database = bytes(path).and_then(Database::read);
        let database = database.map_err(|why| format!("{}: {why}", path.display()))?;
        databases.push((path.display().to_string(), database));
    }
    let table = settings.policy().map(|policy| compile(&databases, &policy)).transpose()?;
    Ok(Compiled { settings: settings.clone(), databases, table, stamps })
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let about = fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".to_owned());
    }
    let most = u64::try_from(SIZE_MAX).unwrap_or(u64::MAX);
    if about.len() > most {
        return Err(format!("it has more than {} MiB", SIZE_MAX >> 20));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
    let read = File::open(path).and_then(|open| open.take(most).read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// What shows that a file has changed.
pub(crate) type Stamp = Option<(u64, u64, Option<SystemTime>)>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let about = fs::metadata(file).ok()?;
        Some((about.ino(), about.len(), about.modified().ok()))
    };
    files.iter().map(stamp).collect()
}

/// What the task is to follow.
#[derive(Debug)]
struct Wanted {
    settings: Geo,
    /// The files as they were when somebody else has read them with these settings.
    read: Option<Vec<Stamp>>,
}

/// The running task.
#[derive(Debug)]
pub struct Running {
    wanted: watch::Sender<Wanted>,
    /// What it has read.
    pub news: mpsc::Receiver<News>,
}

impl Running {
    /// Whether it follows these settings.
    pub fn follows(&self, settings: &Geo) -> bool {
        self.wanted.borrow().settings == *settings
    }

    /// Follows other settings from now on. What has been compiled with them already is compiled again only when a
    /// file changes.
    pub fn follow(&self, settings: &Geo, compiled: Option<&Compiled>) {
        let compiled = compiled.filter(|compiled| compiled.settings == *settings);
        let read = compiled.map(|compiled| compiled.stamps.clone());
        self.wanted.send_replace(Wanted { settings: settings.clone(), read });
    }
}

/// Starts to follow the files of these settings.
pub fn start(settings: Geo) -> Running {
    look(settings, LOOK_EVERY)
}

fn look(settings: Geo, every: Duration) -> Running {
    let (tell, news) = mpsc::channel(1);
    let (wanted, followed) = watch::channel(Wanted { settings, read: None });
    tokio::spawn(follow(followed, tell, every));
    Running { wanted, news }
}

/// Reads the files whenever they or the settings change.
async fn follow(mut followed: watch::Receiver<Wanted>, tell: mpsc::Sender<News>, every: Duration) {
    let mut last = None;
    loop {
        let settings = followed.borrow().settings.clone();
        let files = settings.databases.clone();
        let Ok(before) = spawn_blocking(move || stamps(&files)).await else { return };
        let now = Some((settings.clone(), before));
        if last != now && !settings.databases.is_empty() {
            let wanted = settings.clone();
            let done = spawn_blocking(move || {
                let read = read(&wanted);
                (read, stamps(&wanted.databases))
            });
            let Ok((read, after)) = done.await else { return };
            let is_whole = now.as_ref().is_some_and(|(_, before)| *before == after);
            // Somebody writes the file just now.
            if is_whole {
                last = now;
                let news = read.map(Arc::new).map_err(|why| (settings, why));
                if tell.send(news).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            changed = followed.changed() => {
                if changed.is_err() {
                    return;
                }
                let Wanted { settings, read } = &*followed.borrow_and_update();
                if let Some(stamps) = read {
                    last = Some((settings.clone(), stamps.clone()));
                }
            }
            () = sleep(every) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use ::geo::writer::{Said, Writer};

    use super::*;

    fn write(file: &Path, country: &str) {
        let mut writer = Writer::default();
        writer.add("185.0.0.0/16".parse().unwrap(), &Said::Country(country.to_owned()));
        let new = file.with_extension("new");
        fs::write(&new, writer.bytes("Test-Country")).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn settings(file: &Path) -> Geo {
        let ban = vec!["CN".parse().unwrap()];
        Geo { databases: vec![file.to_owned()], ban, ..Geo::default() }
    }

    #[tokio::test]
    async fn a_file_that_changes_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("country.mmdb");
        let mut running = look(settings(&file), Duration::from_millis(5));
        let (_, why) = running.news.recv().await.unwrap().unwrap_err();
        assert!(why.contains("country.mmdb: No such file"), "{why}");
        let address = "185.0.0.1".parse().unwrap();
        for country in ["DE", "CN"] {
            write(&file, country);
            let compiled = running.news.recv().await.unwrap().unwrap();
            assert_eq!(compiled.place(address).country.unwrap().to_string(), country);
            let shut = compiled.table.as_ref().unwrap().shuts_out(address);
            assert_eq!(shut, country == "CN");
        }
        let whole = fs::read(&file).unwrap();
        fs::write(&file, &whole[..whole.len() / 2]).unwrap();
        let (_, why) = running.news.recv().await.unwrap().unwrap_err();
        assert!(why.contains("no MMDB database"), "{why}");
        fs::write(&file, whole).unwrap();
        assert!(running.news.recv().await.unwrap().is_ok());
        let changed = Geo { dry_run: true, ..settings(&file) };
        running.follow(&changed, None);
        assert!(running.follows(&changed));
        assert_eq!(running.news.recv().await.unwrap().unwrap().settings, changed);
    }

    #[tokio::test]
    async fn what_a_reload_has_read_is_not_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("country.mmdb");
        write(&file, "DE");
        let mut running = look(settings(&file), Duration::from_millis(5));
        assert!(running.news.recv().await.unwrap().is_ok());
        let changed = Geo { dry_run: true, ..settings(&file) };
        running.follow(&changed, Some(&read(&changed).unwrap()));
        // The next news are of the next file.
        sleep(Duration::from_millis(50)).await;
        write(&file, "CN");
        let compiled = running.news.recv().await.unwrap().unwrap();
        let place = compiled.place("185.0.0.1".parse().unwrap());
        assert_eq!(
            (&compiled.settings, place.country.unwrap().to_string()),
            (&changed, "CN".to_owned())
        );
        // One that changed after the reload had read it is read again.
        let again = settings(&file);
        let old = read(&again).unwrap();
        write(&file, "FR");
        running.follow(&again, Some(&old));
        let of_new = async {
            loop {
                let compiled = running.news.recv().await.unwrap().unwrap();
                let place = compiled.place("185.0.0.1".parse().unwrap());
                if compiled.settings == again && place.country.unwrap().to_string() == "FR" {
                    return;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), of_new).await.unwrap();
    }

    #[test]
    fn what_is_no_database_is_said() {
        let wrong = |path: &str| read(&settings(Path::new(path))).unwrap_err();
        assert!(wrong("/etc/passwd").contains("/etc/passwd: it is no MMDB database"));
        assert!(wrong("/dev/zero").contains("it is not a file"));
        let directory = tempfile::tempdir().unwrap();
        let huge = directory.path().join("huge.mmdb");
        File::create(&huge).unwrap().set_len(300 << 20).unwrap();
        assert!(wrong(huge.to_str().unwrap()).contains("more than 256 MiB"));
    }
}

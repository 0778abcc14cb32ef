//! Filters have the same meaning in Ringfence and in fail2ban. Every filter in Debian's package is
//! compared over the logs of fail2ban's own tests, and the filters for Asterisk over logs that a real
//! Asterisk wrote under attack. The package is unpacked, not installed.

#![expect(clippy::disallowed_methods, reason = "fail2ban itself is run here, beside the crate")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fail2ban::{Filter, LogType, Options, Reading};
use serde_json::{Value, json};

/// The script that queries fail2ban.
const ORACLE: &str = include_str!("fixtures/fail2ban_filters.py");

/// The filters that are refused, with a part of the error. All have expressions over several lines.
const REFUSED: [(&str, &str); 4] = [
    ("ejabberd-auth", "maxlines"),
    ("guacamole", "maxlines"),
    ("mongodb-auth", "SKIPLINES"),
    ("slapd", "SKIPLINES"),
];

/// Debian's package, unpacked where the lab looks for it too; downloaded from the machine's mirror on
/// first use.
fn package() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../lab");
    let root = cache.join("fail2ban");
    if root.is_dir() {
        return root;
    }
    fs::create_dir_all(&cache).expect("a directory for the package");
    let work = tempfile::tempdir_in(&cache).expect("a directory beside it");
    let run = |command: &mut Command| {
        let status = command.current_dir(work.path()).status().expect("a program of Debian's");
        assert!(status.success(), "{command:?}: {status}; see that `apt-get update` works here");
    };
    // The user `_apt` may not write there.
    run(Command::new("apt-get").args(["-q", "-oAPT::Sandbox::User=root", "download", "fail2ban"]));
    let mut files = fs::read_dir(work.path()).expect("what was downloaded").flatten();
    let file = files.next().expect("a package").path();
    run(Command::new("dpkg-deb").arg("-x").arg(file).arg("unpacked"));
    match fs::rename(work.path().join("unpacked"), &root) {
        Ok(()) => {}
        // Another test has unpacked it first.
        Err(_) if root.is_dir() => {}
        Err(why) => panic!("{}: {why}", root.display()),
    }
    root
}

/// Lines to read with one filter.
struct Job {
    /// The directory that contains `filter.d`.
    directory: PathBuf,
    filter: String,
    set: BTreeMap<String, String>,
    journal: bool,
    lines: Vec<String>,
}

impl Job {
    fn to_json(&self) -> Value {
        json!({
            "directory": self.directory,
            "filter": self.filter,
            "options": self.set,
            "journal": self.journal,
            "lines": self.lines,
        })
    }

    /// Ringfence's readings of the lines.
    fn readings(&self) -> Result<Vec<Reading>, String> {
        let set: Vec<String> =
            self.set.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let path = self.directory.join("filter.d").join(&self.filter);
        let log = if self.journal { LogType::Journal } else { LogType::File };
        let name = format!("{}.conf[{}]", path.display(), set.join(","));
        let filter = Filter::load(&name, Options { log, ..Options::default() });
        let filter = filter.map_err(|why| why.to_string())?;
        Ok(self.lines.iter().map(|line| filter.read(line.as_bytes())).collect())
    }
}

/// The lines of one of fail2ban's test logs, by the filter options that its comments set.
fn jobs_of(logs: &Path, name: &str, directory: &Path) -> Vec<Job> {
    let (mut files, mut jobs, mut common) = (vec![name.to_owned()], Vec::new(), json!({}));
    let mut sets = vec![json!({})];
    let mut lines: Vec<String> = Vec::new();
    let finish = |sets: &[Value], common: &Value, lines: &mut Vec<String>, jobs: &mut Vec<Job>| {
        for set in sets {
            let both = [common, set].into_iter().filter_map(Value::as_object).flatten();
            let all: BTreeMap<String, String> = both
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect();
            let journal = all.get("logtype").is_some_and(|log| log == "journal");
            let prefix = all.get("test.prefix-line").filter(|_| journal);
            let lines = lines.iter().map(|line| format!("{}{line}", prefix.map_or("", |p| p)));
            jobs.push(Job {
                directory: directory.to_owned(),
                filter: name.to_owned(),
                journal,
                lines: lines.collect(),
                set: all.into_iter().filter(|(name, _)| !name.starts_with("test.")).collect(),
            });
        }
        lines.clear();
    };
    let mut index = 0;
    while let Some(file) = files.get(index).map(|file| logs.join(file)) {
        index += 1;
        let text = fs::read(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        for line in String::from_utf8_lossy(&text).lines() {
            let setting = line.trim_start_matches('#').trim_start();
            let document = |name: &str| {
                let text = setting.strip_prefix(name).filter(|_| line.starts_with('#'))?;
                serde_json::from_str::<Value>(text.trim_start_matches([':', ' '])).ok()
            };
            if let Some(options) = document("fileOptions") {
                common = options;
            } else if let Some(options) = document("filterOptions") {
                finish(&sets, &common, &mut lines, &mut jobs);
                sets = options.as_array().cloned().unwrap_or_else(|| vec![options]);
            } else if let Some(Value::String(more)) = document("addFILE") {
                files.push(more);
            } else if !line.starts_with('#') && !line.trim().is_empty() {
                lines.push(line.to_owned());
            }
        }
    }
    finish(&sets, &common, &mut lines, &mut jobs);
    jobs
}

/// fail2ban's readings of the lines of each job.
fn ask(python_path: &Path, jobs: &[Job]) -> Vec<Value> {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", ORACLE])
        .env("PYTHONPATH", python_path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start /usr/bin/python3, which is in Debian's package python3");
    let mut stdin = child.stdin.take().expect("its input");
    let questions: Vec<String> = jobs.iter().map(|job| job.to_json().to_string()).collect();
    let writer = std::thread::spawn(move || {
        for question in questions {
            writeln!(stdin, "{question}").expect("write to fail2ban");
        }
    });
    let output = child.wait_with_output().expect("wait for fail2ban");
    writer.join().expect("the writer");
    assert!(output.status.success(), "fail2ban ended with {}", output.status);
    let answers = String::from_utf8(output.stdout).expect("UTF-8");
    answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The differences between `readings` and fail2ban's, a line each, and the number of failures.
fn differences(job: &Job, said: &Value, readings: &[Reading]) -> (Vec<String>, usize) {
    let said = said.as_array().unwrap_or_else(|| panic!("{}: fail2ban: {said}", job.filter));
    assert_eq!(said.len(), readings.len(), "{}", job.filter);
    let (mut wrong, mut failures) = (Vec::new(), 0);
    for ((line, said), reading) in job.lines.iter().zip(said).zip(readings) {
        let id = said.as_array().and_then(|ids| ids.first()?.as_str());
        // No packet comes from 0.0.0.0, so a ban of it would have no effect.
        let address = id.map(|id| {
            let address = id.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
            address.map(|address| address.to_canonical())
        });
        let right = match (address, reading) {
            (Some(Some(address)), Reading::Failure(attempt)) => {
                failures += 1;
                attempt.address == address
            }
            (Some(None), Reading::NoAddress) | (None, Reading::Ignored | Reading::Nothing) => true,
            _ => false,
        };
        if !right {
            wrong.push(format!("{} {:?}: {id:?}, {reading:?}\n  {line}", job.filter, job.set));
        }
    }
    (wrong, failures)
}

fn compare(package: &Path, jobs: &[Job]) -> (usize, BTreeSet<(String, String)>) {
    let (mut wrong, mut failures, mut refused) = (Vec::new(), 0, BTreeSet::new());
    let python = package.join("usr/lib/python3/dist-packages");
    let answers = ask(&python, jobs);
    assert_eq!(answers.len(), jobs.len());
    for (job, said) in jobs.iter().zip(&answers) {
        match job.readings() {
            Ok(readings) => {
                let (different, found) = differences(job, said, &readings);
                wrong.extend(different);
                failures += found;
            }
            Err(why) => drop(refused.insert((job.filter.clone(), why))),
        }
    }
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
    (failures, refused)
}

#[test]
#[ignore = "gets Debian's package fail2ban from the machine's own mirror"]
fn every_filter_that_fail2ban_ships_reads_its_logs_as_fail2ban_does() {
    let package = package();
    let logs = package.join("usr/lib/python3/dist-packages/fail2ban/tests/files/logs");
    let mut names: Vec<String> = fs::read_dir(&logs)
        .expect("fail2ban's test logs")
        .flatten()
        .filter(|entry| entry.path().is_file())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut jobs = Vec::new();
    for name in &names {
        let directory = package.join("etc/fail2ban");
        // Two are for filters that are not in the package.
        if !directory.join(format!("filter.d/{name}.conf")).is_file() {
            continue;
        }
        jobs.extend(jobs_of(&logs, name, &directory));
    }
    let (failures, refused) = compare(&package, &jobs);
    assert!(jobs.len() > 80 && failures > 500, "{} jobs, {failures} failures", jobs.len());
    let names: BTreeSet<&str> = refused.iter().map(|(filter, _)| filter.as_str()).collect();
    assert_eq!(names, REFUSED.iter().map(|(filter, _)| *filter).collect(), "{refused:#?}");
    for (filter, why) in &refused {
        let expected = REFUSED.iter().any(|(name, word)| name == filter && why.contains(word));
        assert!(expected, "{why}");
    }
}

#[test]
#[ignore = "gets Debian's package fail2ban from the machine's own mirror"]
fn what_asterisk_wrote_under_attack_is_read_as_fail2ban_does() {
    let package = package();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/asterisk");
    // Wazo's own filter, which the lab contains, and fail2ban's.
    let wazo = tempfile::tempdir().expect("a directory");
    let filters = wazo.path().join("filter.d");
    fs::create_dir(&filters).expect("filter.d");
    let text = include_str!("../../../tests/lab/fail2ban/asterisk-wazo.conf");
    fs::write(filters.join("asterisk-wazo.conf"), text).expect("the filter");
    let mut jobs = Vec::new();
    for recordings in ["wazo22", "stock22", "hostile"] {
        for entry in fs::read_dir(fixtures.join(recordings)).expect("recordings").flatten() {
            let bytes = fs::read(entry.path()).expect("a recording");
            let lines = bytes.split(|byte| *byte == b'\n');
            let lines: Vec<String> =
                lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
            for (directory, filter) in [
                (package.join("etc/fail2ban"), "asterisk"),
                (wazo.path().to_owned(), "asterisk-wazo"),
            ] {
                jobs.push(Job {
                    directory,
                    filter: filter.to_owned(),
                    set: BTreeMap::new(),
                    journal: false,
                    lines: lines.clone(),
                });
            }
        }
    }
    let (failures, refused) = compare(&package, &jobs);
    assert!(jobs.len() > 50 && failures > 100, "{} jobs, {failures} failures", jobs.len());
    assert!(refused.is_empty(), "{refused:#?}");
}

//! `bans` and `unban` while no daemon runs.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use filter_user::config::Config as Settings;
use filter_user::escalation::Bounds;
use filter_user::store::{self, Names};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use ringfence_tests::child::{self, Finished, OnSignal};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{
    ATTACKERS, Echo, Hosts, SIP_PORT, nothing_is_left, udp_reaches, until,
};
use serde_json::Value;

/// Each test finally checks whether anything is left.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_mins(1);

const NETWORK: &str = "203.0.113.0/24";

/// The hosts, with a daemon that has banned some.
struct Setting {
    ringfence: Ringfence,
    _echo: Echo,
    hosts: Hosts,
}

impl Setting {
    fn new() -> Self {
        let hosts = Hosts::new().unwrap();
        let echo = Echo::start(&hosts.pbx).unwrap();
        let config = Config::new(Path::new("/nonexistent/fail2ban"));
        let ringfence =
            Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap();
        let this = Self { ringfence, _echo: echo, hosts };
        for attacker in &ATTACKERS[..3] {
            this.done(&["ban", &attacker.to_string(), "--for", "1h", "--reason", "abuse"]);
        }
        this.done(&["ban", NETWORK, "--except", "203.0.113.7", "--forever", "--scope", "sip"]);
        this
    }

    fn state(&self) -> PathBuf {
        self.ringfence.config_file().with_file_name("state")
    }

    /// Runs a command with the daemon's configuration.
    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = self.hosts.pbx.command(ringfence::built().unwrap());
        command.arg("-c").arg(self.ringfence.config_file()).args(arguments);
        child::finish("ringfence", &mut command, SOON, OnSignal::Stop).unwrap()
    }

    /// The output of a command that succeeds.
    fn done(&self, arguments: &[&str]) -> String {
        self.run(arguments).success(&arguments.join(" ")).unwrap().stdout
    }

    /// The listed bans, without values that change with time.
    fn listed(&self, arguments: &[&str]) -> Vec<Value> {
        let said = self.done(&[&["bans", "--json"], arguments].concat());
        let said: Value = serde_json::from_str(&said).unwrap();
        let mut bans = said["bans"].as_array().unwrap().clone();
        for ban in &mut bans {
            let ban = ban.as_object_mut().unwrap();
            for passing in ["since", "since_ms", "until", "packets"] {
                ban.remove(passing);
            }
        }
        bans.sort_by_key(|ban| ban["network"].to_string());
        bans
    }

    fn networks(&self) -> Vec<String> {
        let bans = self.listed(&[]);
        bans.iter().map(|ban| ban["network"].as_str().unwrap().to_owned()).collect()
    }

    fn reaches(&self, attacker: usize) -> bool {
        udp_reaches(&self.hosts.attacker, ATTACKERS[attacker], SIP_PORT).unwrap()
    }

    fn restart(&mut self) {
        self.ringfence.restart(&self.hosts.pbx).unwrap();
    }
}

fn end(setting: Setting) {
    drop(setting);
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn bans_are_listed_and_lifted() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut setting = Setting::new();
    let [first, second, third] = [0, 1, 2].map(|place: usize| ATTACKERS[place].to_string());
    let all = setting.listed(&[]);
    let within = setting.listed(&["--in", "192.0.2.0/24"]);
    let export = setting.done(&["bans", "--export"]);
    assert_eq!((all.len(), within.len()), (4, 3));
    let words = setting.done(&["unban", &third]);
    setting.done(&["ban", &third, "--for", "1h", "--reason", "abuse"]);
    setting.ringfence.kill().unwrap();

    // The same text in the same form.
    assert_eq!(setting.listed(&[]), all);
    assert_eq!(setting.listed(&["--in", "192.0.2.0/24"]), within);
    assert_eq!(setting.listed(&["--scope", "sip"]).len(), 1);
    assert_eq!(setting.listed(&["--jail", "sshd"]), Vec::<Value>::new());
    let lines = |text: &str| text.lines().filter_map(|line| line.split(' ').next()).count();
    assert_eq!(lines(&setting.done(&["bans", "--export"])), lines(&export));
    let listed = setting.run(&["bans", "--sort", "address", "--limit", "2"]);
    assert!(listed.stderr.contains("no daemon runs: these bans are in the kernel"), "{listed:?}");
    assert_eq!(listed.stdout.lines().count(), 3, "{listed:?}");
    let refused = setting.run(&["bans", "--jail", "none"]);
    assert!(!refused.status.success() && refused.stderr.contains("there is no jail `none`"));

    // Lifting one ban is durable, and the others remain.
    assert!(!setting.reaches(0) && !setting.reaches(1));
    let said = setting.run(&["unban", &first]);
    assert_eq!(said.stdout, words.replace(&third, &first), "{said:?}");
    assert!(said.stderr.contains("no daemon runs"), "{said:?}");
    assert!(setting.reaches(0) && !setting.reaches(1));
    let again = setting.run(&["unban", &first]);
    assert!(!again.status.success() && again.stderr.contains("is not banned"), "{again:?}");
    let several: Value =
        serde_json::from_str(&setting.run(&["unban", &second, &first, "--json"]).stdout).unwrap();
    assert_eq!(
        (&several["done"], &several["refused_count"], &several["durable"]),
        (&1.into(), &1.into(), &true.into())
    );
    assert!(setting.reaches(1));
    assert_eq!(setting.networks(), [third.clone(), NETWORK.to_owned()]);

    setting.restart();
    assert_eq!(setting.networks(), [third, NETWORK.to_owned()]);
    assert!(setting.reaches(0) && setting.reaches(1) && !setting.reaches(2));
    let history = setting.done(&["history", &first]);
    assert!(history.contains("root") && history.contains("unban"), "{history}");

    setting.ringfence.stop().unwrap();
    assert!(setting.done(&["unban", "--all"]).contains("2 bans"));
    assert!(setting.reaches(2) && setting.networks().is_empty());
    setting.restart();
    assert!(setting.reaches(2) && setting.networks().is_empty());
    end(setting);
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_store_or_the_kernel_alone_is_enough() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut setting = Setting::new();
    let [first, second, _] = [0, 1, 2].map(|place: usize| ATTACKERS[place].to_string());
    let all = setting.listed(&[]);

    // Nothing is pinned, as after a reboot.
    setting.ringfence.kill().unwrap();
    setting.ringfence.detach().unwrap().success("detach").unwrap();
    let listed = setting.run(&["bans"]);
    assert!(listed.stderr.contains("there is no filter"), "{listed:?}");
    assert_eq!(setting.listed(&[]), all);
    setting.done(&["unban", &first]);
    setting.restart();
    assert!(setting.reaches(0) && !setting.reaches(1));

    // Nothing is in the store.
    setting.ringfence.kill().unwrap();
    fs::remove_dir_all(setting.state()).unwrap();
    let listed = setting.done(&["bans"]);
    assert!(listed.contains("in force before the daemon started"), "{listed}");
    assert_eq!(setting.networks().len(), 3);
    setting.done(&["unban", &second]);
    assert!(setting.reaches(1) && !setting.reaches(2));
    setting.restart();
    assert!(setting.reaches(1) && !setting.reaches(2));

    // Nothing at all.
    setting.ringfence.kill().unwrap();
    setting.ringfence.detach().unwrap().success("detach").unwrap();
    fs::remove_dir_all(setting.state()).unwrap();
    for command in [&["bans"][..], &["unban", "192.0.2.1"]] {
        let refused = setting.run(command);
        assert!(!refused.status.success(), "{refused:?}");
        assert!(refused.stderr.contains("no daemon answers"), "{refused:?}");
    }
    assert!(!setting.state().exists());
    end(setting);
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_store_that_fails_leaves_all_as_it_was() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let mut setting = Setting::new();
        let state = setting.state();
        let first = ATTACKERS[0].to_string();
        setting.ringfence.kill().unwrap();
        let refuses = |setting: &Setting, why: &str| {
            let refused = setting.run(&["unban", &first]);
            assert!(!refused.status.success() && refused.stdout.is_empty(), "{refused:?}");
            assert!(refused.stderr.contains("nothing was changed"), "{refused:?}");
            assert!(refused.stderr.contains(why), "{refused:?}");
            assert_eq!(setting.networks().len(), 4);
            assert!(!setting.reaches(0));
        };

        // Another process has it open.
        let other = store::start(store::Settings {
            directory: state.clone(),
            memory: "/dev/shm".into(),
            names: Names::default(),
            offenders: Bounds::from(&Settings::default()),
            findtime: Duration::from_mins(10),
            clock: filter_user::clock::of_boot,
        })
        .unwrap();
        refuses(&setting, "the other process that has it open");
        other.store.end();
        other.thread.join().unwrap();

        // It cannot be written.
        mount(Some(&state), &state, none, MsFlags::MS_BIND, none).unwrap();
        let unwritable = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &state, none, unwritable, none).unwrap();
        refuses(&setting, "Read-only");
        umount(&state).unwrap();

        // It is broken: the bans in the kernel are sufficient.
        let file = state.join(store::FILE);
        fs::remove_file(state.join(format!("{}-wal", store::FILE))).ok();
        fs::write(&file, "no database\n".repeat(1000)).unwrap();
        let listed = setting.run(&["bans"]);
        assert!(listed.stderr.contains("cannot be read as a whole"), "{listed:?}");
        let said = setting.run(&["unban", &first]);
        assert!(said.status.success() && said.stderr.contains("moved it to"), "{said:?}");
        assert!(setting.reaches(0) && !setting.reaches(1));
        setting.restart();
        assert!(setting.reaches(0) && !setting.reaches(1));
        assert_eq!(setting.networks().len(), 3);
        drop(setting);
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap());
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_daemon_that_starts_meanwhile_does_not_enter_it_again() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut setting = Setting::new();
    let first = ATTACKERS[0].to_string();
    for delay in [0, 5, 20, 50, 100, 200] {
        setting.done(&["ban", &first, "--for", "1h"]);
        setting.ringfence.kill().unwrap();
        let file = setting.ringfence.config_file().to_owned();
        let mut command: Command = setting.hosts.pbx.command(ringfence::built().unwrap());
        command.arg("-c").arg(file).args(["unban", &first]);
        let said = thread::scope(|scope| {
            let lifts = scope.spawn(|| {
                thread::sleep(Duration::from_millis(delay));
                child::finish("ringfence unban", &mut command, SOON, OnSignal::Stop).unwrap()
            });
            // As systemd does: a daemon that fails because of the lock is started again.
            let mut started = setting.ringfence.restart(&setting.hosts.pbx);
            while let Err(why) = &started {
                assert!(format!("{why:#}").contains("is in use by"), "{why:#}");
                started = setting.ringfence.restart(&setting.hosts.pbx);
            }
            lifts.join().unwrap()
        });
        assert!(said.status.success(), "{delay} ms: {said:?}");
        assert!(until(SOON, || setting.reaches(0)), "{delay} ms");
        assert!(!setting.networks().contains(&first), "{delay} ms");
    }
    end(setting);
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn another_user_is_told_to_be_root() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut setting = Setting::new();
    setting.ringfence.kill().unwrap();
    // The binary and the configuration, where another user can read them.
    let place = tempfile::Builder::new().prefix("rf-other").tempdir().unwrap();
    let permit = |path: &Path, mode| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    permit(place.path(), 0o755);
    let (binary, file) = (place.path().join("ringfence"), place.path().join("config.yml"));
    fs::copy(ringfence::built().unwrap(), &binary).unwrap();
    fs::copy(setting.ringfence.config_file(), &file).unwrap();
    permit(&file, 0o644);
    for arguments in [&["bans"][..], &["unban", "192.0.2.66"]] {
        let mut command = setting.hosts.pbx.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(&binary).arg("-c").arg(&file).args(arguments);
        let said = child::finish("setpriv", &mut command, SOON, OnSignal::Stop).unwrap();
        assert!(!said.status.success() && said.stdout.is_empty(), "{said:?}");
        assert!(said.stderr.contains("this needs root: `sudo "), "{said:?}");
    }
    assert_eq!(setting.networks().len(), 4);
    drop(place);
    end(setting);
}

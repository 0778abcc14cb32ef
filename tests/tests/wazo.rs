//! What Wazo does to its services: `wazo-upgrade` with the hooks of the package, and `wazo-service`, which stops and
//! starts Asterisk through systemd. The hooks, the unit and systemd are real; Asterisk is a process that sleeps.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _, pipe};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringfence_tests::child::{self, OnSignal, Running};
use ringfence_tests::ringfence::built;
use ringfence_tests::scratch;
use ringfence_tests::site::Site;
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, until};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(2);

const PRE_STOP: &str = "/usr/share/wazo-upgrade/pre-stop.d/50-ringfence";
const POST_START: &str = "/usr/share/wazo-upgrade/post-start.d/50-ringfence";

/// The files of the package in their places, seen by one command alone.
const PLACE: &str = r#"set -eu
cd @DIRECTORY@
mount -t tmpfs ringfence-wazo overlay
for place in usr/sbin usr/share; do
    mkdir -p overlay/$place/upper overlay/$place/work
    cp -r $place/. overlay/$place/upper/
    mount -t overlay ringfence-wazo -o "lowerdir=/$place,upperdir=$PWD/overlay/$place/upper,workdir=$PWD/overlay/$place/work" /$place
done
"#;

/// A systemd of its own, which runs the commands of `systemctl` that are read.
const SYSTEMD: &str = r#"
export XDG_RUNTIME_DIR=$PWD/run XDG_CONFIG_HOME=$PWD/config
mount -t tmpfs ringfence-wazo /run
# Without it, systemd takes this for a host that another program has booted.
mkdir /run/systemd /run/systemd/system
mount -t tmpfs ringfence-wazo /sys/fs/cgroup
if grep -q name=systemd /proc/self/cgroup; then
    mkdir /sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd ringfence-wazo /sys/fs/cgroup/systemd
else
    mount -t cgroup2 ringfence-wazo /sys/fs/cgroup
fi
/lib/systemd/systemd --user --log-target=console > systemd.log 2>&1 &
until systemctl --user show-environment > /dev/null 2>&1; do sleep 0.1; done
echo ready
while read -r line; do
    if said=$(systemctl --user --quiet $line 2>&1); then echo "done $said"; else echo "failed" $said; fi
done
"#;

/// A Wazo host. Fields are dropped in this order.
struct Wazo {
    site: Site,
    directory: TempDir,
}

impl Wazo {
    fn new() -> Self {
        let site = Site::new(&[]).unwrap();
        let directory = scratch::directory("wazo").unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        let wazo = Self { site, directory };
        for place in ["overlay", "run", "usr/sbin", "usr/share", "config/systemd/user"] {
            fs::create_dir_all(wazo.directory.path().join(place)).unwrap();
        }
        for (hook, of) in [(PRE_STOP, "pre-stop"), (POST_START, "post-start")] {
            let script = fs::read_to_string(root.join("wazo-upgrade").join(of)).unwrap();
            wazo.program(hook, &script);
        }
        wazo.ringfence(&format!(
            "exec {} -c {} --socket {} \"$@\"",
            built().unwrap().display(),
            wazo.site.ringfence.config_file().display(),
            wazo.site.ringfence.client().socket().display(),
        ));
        let booted = wazo.directory.path().join("booted");
        wazo.program("/usr/sbin/asterisk", &format!("#!/bin/sh\n[ -e {} ]\n", booted.display()));
        let unit = root.join("wazo-service/ringfence-maintenance.service");
        wazo.unit("ringfence-maintenance.service", &fs::read_to_string(unit).unwrap());
        wazo.unit("asterisk.service", "[Service]\nExecStart=/bin/sleep 3600\nRestart=on-failure\n");
        wazo.unit("ringfence.service", "[Service]\nExecStart=/bin/sleep 3600\n");
        for target in ["basic.target", "default.target"] {
            wazo.unit(target, "[Unit]\nDescription=Nothing\n");
        }
        wazo
    }

    /// Puts a program into its place.
    fn program(&self, place: &str, text: &str) {
        let file = self.directory.path().join(place.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    }

    /// What `ringfence` does.
    fn ringfence(&self, line: &str) {
        self.program("/usr/sbin/ringfence", &format!("#!/bin/sh\n{line}\n"));
    }

    fn unit(&self, name: &str, text: &str) {
        fs::write(self.directory.path().join("config/systemd/user").join(name), text).unwrap();
    }

    /// Whether Asterisk answers.
    fn boots(&self, answers: bool) {
        let file = self.directory.path().join("booted");
        if answers {
            fs::write(file, "").unwrap();
        } else {
            fs::remove_file(file).unwrap_or_default();
        }
    }

    fn shell(&self, arguments: &[&str], text: &str) -> Command {
        let mut shell = self.site.hosts.pbx.command("unshare");
        let place = PLACE.replace("@DIRECTORY@", &self.directory.path().display().to_string());
        shell.arg("--mount").args(arguments).args(["sh", "-c"]).arg(format!("{place}{text}"));
        shell
    }

    /// Runs a hook as `wazo-upgrade` does. If it failed, that would abort the upgrade.
    fn hook(&self, path: &str) {
        let done = child::finish(path, &mut self.shell(&[], path), SOON, OnSignal::Stop).unwrap();
        done.success(path).unwrap();
    }

    fn status(&self) -> Value {
        self.site.json("maintenance status").unwrap()
    }

    /// Whether SIP is open to strangers over both transports and families, or closed over all.
    fn is_open(&self) -> bool {
        let open = [ATTACKERS[0], ATTACKERS6[0]].map(|source| self.site.reaches(source).unwrap());
        for of_family in open {
            let [udp, tcp, other_udp, other_tcp] = of_family;
            assert!(udp == tcp && other_udp && other_tcp, "{open:?}");
            assert_eq!(udp, open[0][0], "{open:?}");
        }
        open[0][0]
    }

    fn becomes(&self, open: bool) {
        assert!(until(SOON, || self.is_on() != open), "{}", self.status());
        assert_eq!(self.is_open(), open, "{}", self.status());
    }

    /// Whether it is closed; if so, it opens within 30 minutes.
    fn is_on(&self) -> bool {
        let status = self.status();
        let is_on = status["on"] == true;
        if is_on {
            let end: jiff::Timestamp = status["until"].as_str().unwrap().parse().unwrap();
            let most = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(31);
            assert!(end < most, "{status}");
        }
        is_on
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_upgrade_closes_sip_and_opens_it() {
    let wazo = Wazo::new();
    wazo.boots(true);
    wazo.becomes(true);
    wazo.hook(PRE_STOP);
    wazo.becomes(false);
    wazo.hook(POST_START);
    wazo.becomes(true);

    // Two that overlap: the first that finishes opens SIP, and the end of the other changes nothing.
    wazo.hook(PRE_STOP);
    wazo.hook(PRE_STOP);
    wazo.becomes(false);
    wazo.hook(POST_START);
    wazo.becomes(true);
    wazo.hook(POST_START);
    wazo.becomes(true);

    // One is aborted, and then tried again. Asterisk is not up at once.
    wazo.hook(PRE_STOP);
    wazo.becomes(false);
    wazo.hook(PRE_STOP);
    wazo.boots(false);
    let mut starting = Running::spawn(POST_START, &mut wazo.shell(&[], POST_START)).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    wazo.becomes(false);
    assert_eq!(starting.ended().unwrap(), None);
    wazo.boots(true);
    wazo.becomes(true);
    assert!(until(SOON, || starting.ended().unwrap().is_some_and(|status| status.success())));

    // A command that fails or hangs aborts nothing.
    for line in ["exit 1", "exec sleep 100", "exec /nonexistent", "kill -9 $$"] {
        wazo.ringfence(line);
        wazo.hook(PRE_STOP);
        wazo.hook(POST_START);
        wazo.becomes(true);
    }
    fs::remove_file(wazo.directory.path().join("usr/sbin/ringfence")).unwrap();
    wazo.hook(PRE_STOP);
    wazo.hook(POST_START);
    wazo.becomes(true);
    let Wazo { site, directory } = wazo;
    drop(directory);
    site.end().unwrap();
}

/// A systemd that is told what to do.
struct Systemd {
    #[expect(dead_code, reason = "it runs until it is dropped")]
    process: Running,
    to: PipeWriter,
    from: BufReader<PipeReader>,
}

impl Systemd {
    fn start(wazo: &Wazo) -> Self {
        let ((input, to), (from, output)) = (pipe().unwrap(), pipe().unwrap());
        let apart = ["--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let mut shell = wazo.shell(&apart, SYSTEMD);
        shell.stdin(input).stdout(output);
        let process = Running::spawn("systemd", &mut shell).unwrap();
        let mut systemd = Self { process, to, from: BufReader::new(from) };
        assert_eq!(systemd.said(), "ready");
        systemd
    }

    fn said(&mut self) -> String {
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What `systemctl` says.
    fn control(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").unwrap();
        let said = self.said();
        said.strip_prefix("done").unwrap_or_else(|| panic!("{line}: {said}")).trim().to_owned()
    }

    fn state(&mut self, unit: &str) -> String {
        self.control(&format!("show --property ActiveState --value {unit}"))
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF, systemd"]
fn sip_is_closed_while_asterisk_is_stopped() {
    let wazo = Wazo::new();
    let mut systemd = Systemd::start(&wazo);
    wazo.boots(true);
    systemd.control("enable ringfence-maintenance");
    systemd.control("start asterisk");
    wazo.becomes(true);
    for _twice in 0..2 {
        systemd.control("stop asterisk");
        wazo.becomes(false);
        wazo.boots(false);
        systemd.control("start --no-block asterisk");
        // Asterisk runs, but does not answer yet.
        let opens = || systemd.state("ringfence-maintenance") == "activating";
        assert!(until(SOON, opens), "{}", systemd.state("ringfence-maintenance"));
        assert_eq!(systemd.state("asterisk"), "active");
        wazo.becomes(false);
        wazo.boots(true);
        wazo.becomes(true);
    }
    systemd.control("restart asterisk");
    wazo.becomes(true);
    let Wazo { site, directory } = wazo;
    drop((systemd, directory));
    site.end().unwrap();
}

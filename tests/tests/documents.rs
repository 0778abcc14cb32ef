//! Runs the command blocks of the documents, each in a shell and in the order of its page, with a
//! daemon on a separate host. `ringfence`, `tar` and shell commands are real. Programs that act on the
//! whole system (`apt`, `cargo`, Asterisk's command line) are replaced, and `systemctl` starts and
//! stops the daemon. Files are written to an overlay of `/etc` and to the test's `/var/log`.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringfence_tests::child::{self, OnSignal};
use ringfence_tests::ringfence::{self, BPFFS};
use ringfence_tests::world::{Hosts, nothing_is_left};
use ringfence_tests::{fail2ban, scratch};

const LIMIT: Duration = Duration::from_mins(3);

/// Programs that would act on the whole system or on another one.
const OTHERS: [&str; 11] = [
    "apt",
    "asterisk",
    "cargo",
    "dpkg-reconfigure",
    "journalctl",
    "ringfence-fleet",
    "rustup",
    "scp",
    "ss",
    "systemd-analyze",
    "usermod",
];

/// A wrapper for `ringfence`. `run` would stay in the foreground, and the test runs the daemon itself; `top`
/// too;
/// `audit`, `doctor` and `status --check` report findings on a host that is not a PBX.
const RINGFENCE: &str = r#"#!/bin/sh
case " $* " in *" run "* | *" top "*) exit 0 ;; esac
@BINARY@ "$@"
status=$?
case "$1" in audit | doctor | status) [ $status -gt 2 ] || exit 0 ;; esac
exit $status
"#;

const SYSTEMCTL: &str = r#"#!/bin/sh
pid=@DIRECTORY@/pid
case "$*" in
    "start ringfence")
        [ ! -e $pid ] || exit 0
        @BINARY@ run >> @DIRECTORY@/log 2>&1 &
        echo $! > $pid
        for _ in $(seq 300); do
            @BINARY@ status > /dev/null 2>&1 && exit 0
            sleep 0.1
        done
        cat @DIRECTORY@/log
        exit 1 ;;
    "stop ringfence")
        [ -e $pid ] || exit 0
        kill "$(cat $pid)"
        while grep -q '^State:.[^Z]' "/proc/$(cat $pid)/status" 2> /dev/null; do sleep 0.1; done
        rm $pid ;;
    "restart ringfence") "$0" stop ringfence && "$0" start ringfence ;;
    "reload ringfence") exec ringfence reload ;;
esac
"#;

/// The state before each page: a Wazo host with Debian's fail2ban.
const BEGIN: &str = r"set -eu
directory=@DIRECTORY@
mount -t tmpfs ringfence-documents $directory/overlay
mkdir $directory/overlay/etc $directory/overlay/work
mount -t overlay ringfence-documents -o lowerdir=/etc,upperdir=$directory/overlay/etc,workdir=$directory/overlay/work /etc
mount --bind $directory/var-log /var/log
rm -rf /etc/ringfence /etc/fail2ban
mkdir -p /etc/ringfence/conf.d /etc/asterisk/manager.d /var/log/asterisk /var/log/nginx
cp -r @FAIL2BAN@/etc/fail2ban /etc/fail2ban
cp @CONFIG@ /etc/ringfence/config.yml
printf '[asterisk-wazo]\nenabled = true\nfilter = asterisk-wazo\nlogpath = /var/log/asterisk/fail2ban\n' > /etc/fail2ban/jail.d/wazo.conf
printf '[Definition]\ndbfile = %s/fail2ban.sqlite3\n' $directory > /etc/fail2ban/fail2ban.local
for log in asterisk/fail2ban nginx/error.log auth.log wazo-provd.log; do : > /var/log/$log; done
grep -q '^asterisk:' /etc/group || echo 'asterisk:x:64998:' >> /etc/group
export PATH=$directory/bin:$PATH
cd $directory/desk
end() { systemctl stop ringfence; @BINARY@ detach > /dev/null 2>&1 || true; umount -l /etc /var/log $directory/overlay; }
trap end EXIT
systemctl start ringfence
ringfence confirm > /dev/null
";

/// A page with command blocks.
struct Page {
    name: String,
    /// The line and text of each block.
    blocks: Vec<(usize, String)>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The pages with command blocks.
fn pages() -> Vec<Page> {
    let mut pages = Vec::new();
    for directory in ["", "docs"] {
        for entry in fs::read_dir(root().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "md") {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                pages.push(Page { name, blocks: blocks(&fs::read_to_string(&path).unwrap()) });
            }
        }
    }
    pages.retain(|page| !page.blocks.is_empty());
    pages.sort_by(|a, b| a.name.cmp(&b.name));
    pages
}

/// The blocks marked `sh`, with the line of the first command.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut open = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start()) {
            (None, "```sh") => open = Some((number + 2, String::new())),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some((_, block)), _) => {
                let _infallible = writeln!(block, "{line}");
            }
            (None, _) => {}
        }
    }
    assert!(open.is_none(), "a block has no end");
    blocks
}

#[test]
fn blocks_are_found_with_their_lines() {
    let text = "# a\n\n```sh\nb\nc\n```\n\n```yaml\nd\n```\n";
    assert_eq!(blocks(text), [(4, "b\nc\n".to_owned())]);
    let pages = pages();
    for page in ["README.md", "docs/first-day.md", "docs/incident.md", "docs/install.md"] {
        assert!(pages.iter().any(|found| found.name == page), "{page} has no block");
    }
}

#[test]
#[ignore = "requires root: namespaces, mounts, BPF, Debian's package fail2ban"]
fn every_block_of_commands_runs() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../lab");
    let fail2ban = fail2ban::unpacked(&cache).unwrap();
    let mut failed = Vec::new();
    for page in pages() {
        if let Err(why) = run(&page, &fail2ban) {
            failed.push(format!("{why:#}"));
        }
    }
    nothing_is_left().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Runs the blocks of a page on a separate host.
fn run(page: &Page, fail2ban: &Path) -> anyhow::Result<()> {
    let hosts = Hosts::new()?;
    let directory = scratch::directory("documents")?;
    let place = directory.path();
    for name in ["bin", "desk", "overlay", "var-log", "state"] {
        fs::create_dir(place.join(name))?;
    }
    std::os::unix::fs::symlink(
        root().join("packaging").canonicalize()?,
        place.join("desk/packaging"),
    )?;
    let config = place.join("config.yml");
    let pins = Path::new(BPFFS).join(format!("{}-lab", scratch::prefix().replace('.', "-")));
    let text = format!(
        "interfaces: [eth0]\npaths: {{state: {place}/state, runtime: {place}/run, bpffs: {pins}}}\n",
        place = place.display(),
        pins = pins.display()
    );
    fs::write(&config, text)?;
    let binary = ringfence::built()?;
    let complete = |text: &str| {
        text.replace("@BINARY@", &binary.display().to_string())
            .replace("@DIRECTORY@", &place.display().to_string())
            .replace("@FAIL2BAN@", &fail2ban.display().to_string())
            .replace("@CONFIG@", &config.display().to_string())
    };
    let program = |name: &str, text: &str| -> anyhow::Result<()> {
        let file = place.join("bin").join(name);
        fs::write(&file, text)?;
        Ok(fs::set_permissions(file, Permissions::from_mode(0o755))?)
    };
    program("ringfence", &complete(RINGFENCE))?;
    program("systemctl", &complete(SYSTEMCTL))?;
    for name in OTHERS {
        program(name, "#!/bin/sh\n")?;
    }
    let mut script = complete(BEGIN);
    for (number, (line, block)) in page.blocks.iter().enumerate() {
        let file = place.join(format!("block-{number}"));
        fs::write(&file, block)?;
        let said = format!("{}:{line}", page.name);
        let _infallible = writeln!(
            script,
            "sh -eu {0} > {0}.out 2>&1 < /dev/null || {{ echo '{said} fails:'; cat {0} {0}.out; exit 1; }}",
            file.display()
        );
    }
    let mut command = hosts.pbx.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
    let ended = child::finish(&page.name, &mut command, LIMIT, OnSignal::Stop);
    fs::remove_dir_all(&pins).ok();
    let ended = ended?;
    anyhow::ensure!(ended.status.success(), "{}: {}{}", page.name, ended.stdout, ended.stderr);
    drop((directory, hosts));
    Ok(())
}

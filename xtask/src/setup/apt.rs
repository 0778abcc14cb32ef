//! Debian packages: finds and installs missing ones.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::versions::FAIL2BAN;
use crate::privilege::Root;
use crate::step::Steps;

const LISTS: &str = "/var/lib/apt/lists";
/// After this time the mirror may have removed the versions in the lists.
const LISTS_AGE_MAX: Duration = Duration::from_hours(24);
/// How long to wait for another apt, such as the unattended upgrade of a fresh machine.
const LOCK_TIMEOUT: &str = "DPkg::Lock::Timeout=300";

/// The packages of `wanted` that are not installed.
pub(super) fn missing<'a>(wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    // It fails if a package is unknown, but lists the others first.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .output()
        .context("run dpkg-query")?;
    Ok(missing_in(&String::from_utf8_lossy(&output.stdout), wanted))
}

fn missing_in<'a>(dpkg_query: &str, wanted: &[&'a str]) -> Vec<&'a str> {
    let installed: Vec<&str> =
        dpkg_query.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    wanted.iter().copied().filter(|package| !installed.contains(package)).collect()
}

/// Installs `packages` without recommended ones. Never removes a package.
pub(super) fn install(steps: &Steps, packages: &[&str]) -> Result<()> {
    let root = Root::obtain("apt-get")?;
    let fresh = lists_are_fresh(Path::new(LISTS));
    if !fresh {
        update(steps, root)?;
    }
    let what = format!("apt-get install {}", packages.join(" "));
    let mut attempt = steps.run("apt-install", &what, &mut install_command(root, packages));
    if attempt.is_err() && fresh {
        eprintln!("setup:   failed; trying again with new package lists");
        update(steps, root)?;
        attempt = steps.run("apt-install", &what, &mut install_command(root, packages));
    }
    attempt?;
    if packages.contains(&FAIL2BAN) && Path::new("/run/systemd/system").exists() {
        // The package starts the service, which would ban on the developer's own machine.
        let mut disable = root.command("systemctl");
        disable.args(["disable", "--now", FAIL2BAN]);
        steps.run(
            "systemctl",
            "systemctl disable --now fail2ban (it is only measured)",
            &mut disable,
        )?;
    }
    Ok(())
}

fn update(steps: &Steps, root: Root) -> Result<()> {
    let mut command = apt_get(root);
    command.args(["-o", LOCK_TIMEOUT, "update"]);
    steps.run("apt-update", "apt-get update", &mut command)
}

fn install_command(root: Root, packages: &[&str]) -> Command {
    let mut command = apt_get(root);
    command
        .args(["-o", LOCK_TIMEOUT, "install", "--yes", "--no-install-recommends", "--no-remove"])
        .args(packages);
    command
}

fn apt_get(root: Root) -> Command {
    let mut command = root.command("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    command
}

/// Whether `apt-get update` was run recently. It empties `partial` each time.
fn lists_are_fresh(lists: &Path) -> bool {
    let listed = fs::read_dir(lists).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    });
    let age = fs::metadata(lists.join("partial"))
        .and_then(|metadata| metadata.modified())
        .ok()
        .and_then(|modified| modified.elapsed().ok());
    listed && age.is_some_and(|age| age < LISTS_AGE_MAX)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;

    #[test]
    fn only_installed_packages_count() {
        let output = "iproute2 installed\nnftables config-files\nlibzstd-dev installed\n";
        assert_eq!(
            missing_in(output, &["iproute2", "nftables", "libzstd-dev", "sip-tester"]),
            ["nftables", "sip-tester"]
        );
        assert_eq!(missing_in("", &["iproute2"]), ["iproute2"]);
        assert_eq!(missing_in(output, &[]), [""; 0]);
    }

    #[test]
    fn lists_are_fresh_when_there_are_any_and_they_are_new() {
        let lists = env::temp_dir().join(format!("xtask-lists-{}", process::id()));
        assert!(!lists_are_fresh(&lists));
        fs::create_dir_all(lists.join("partial")).unwrap();
        assert!(!lists_are_fresh(&lists));
        fs::write(lists.join("mirror_dists_bookworm_main_binary-amd64_Packages.lz4"), "").unwrap();
        assert!(lists_are_fresh(&lists));
        fs::remove_dir_all(&lists).unwrap();
    }
}

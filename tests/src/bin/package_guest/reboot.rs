//! A reboot. The attacker sends before the interface exists. The network starts after
//! `network-pre.target`, as Debian's does.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::system::must;

/// A copy of this program that does not need the second disk.
const PROGRAM: &str = "/usr/local/bin/package-test";
/// The message that the system will reboot.
const BEGUN: &str = "/var/lib/package-test-reboot";
/// Prevents the test's unit from switching the machine off.
const REBOOTS: &str = "/run/package-test-reboots";
const CABLE: &str = "\
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
Before=package-test-traffic.service network-pre.target ringfence.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/bin/package-test cable
";
const TRAFFIC: &str = "\
[Unit]
DefaultDependencies=no
Requires=package-test-cable.service
After=package-test-cable.service
Before=network-pre.target ringfence.service
[Service]
ExecStart=/usr/local/bin/package-test traffic
[Install]
WantedBy=sysinit.target
";
const UPLINK: &str = "\
[Unit]
DefaultDependencies=no
Wants=network-pre.target
After=package-test-cable.service network-pre.target
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/bin/package-test uplink
[Install]
WantedBy=multi-user.target
";

/// Whether the system has rebooted.
pub(crate) fn is_over() -> Result<bool> {
    Ok(Path::new(BEGUN).try_exists().context("look for the mark of the reboot")?
        && !Path::new(REBOOTS).exists())
}

/// Reboots the system.
pub(crate) fn begin() -> Result<()> {
    let own = env::current_exe().context("find this program")?;
    fs::copy(own, PROGRAM).context("copy this program")?;
    for (name, unit) in [("cable", CABLE), ("traffic", TRAFFIC), ("uplink", UPLINK)] {
        let file = format!("/etc/systemd/system/package-test-{name}.service");
        fs::write(&file, unit).with_context(|| format!("write {file}"))?;
    }
    must("systemctl", &["enable", "--quiet", "package-test-traffic", "package-test-uplink"])?;
    fs::write(BEGUN, "").context("leave a mark")?;
    fs::write(REBOOTS, "").context("leave a mark")?;
    must("systemctl", &["reboot", "--no-block"])
}

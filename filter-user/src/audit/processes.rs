//! Which process a socket belongs to, and which unit the process is in: from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use ::audit::facts::Owner;

use super::{Missing, small};

/// How long to look.
const TIME_MAX: Duration = Duration::from_secs(20);

/// The maximum number of open files of one process that are examined.
const FILES_MAX: usize = 200_000;

/// The owners of these sockets. If several processes have a socket open, it is the oldest, except PID 1,
/// which keeps sockets that it passes to services.
pub(super) fn owners(wanted: &BTreeSet<u32>, missing: &mut Missing) -> BTreeMap<u32, Owner> {
    let until = Instant::now() + TIME_MAX;
    let mut of_socket: BTreeMap<u32, u32> = BTreeMap::new();
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(why) => {
            missing.add("the processes", why);
            return BTreeMap::new();
        }
    };
    let (mut refused, mut unfinished) = (0_usize, 0_usize);
    for process in entries.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if Instant::now() > until {
            unfinished += 1;
            continue;
        }
        let files = match fs::read_dir(process.path().join("fd")) {
            Ok(files) => files,
            // It has ended.
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_refused) => {
                refused += 1;
                continue;
            }
        };
        for (number, file) in files.flatten().enumerate() {
            if number >= FILES_MAX || Instant::now() > until {
                unfinished += 1;
                break;
            }
            let Some(inode) = fs::read_link(file.path()).ok().and_then(|to| inode(&to)) else {
                continue;
            };
            if wanted.contains(&inode) {
                let known = of_socket.entry(inode).or_insert(pid);
                if *known == 1 || (pid != 1 && pid < *known) {
                    *known = pid;
                }
            }
        }
    }
    if refused > 0 {
        missing.add("the open files of some processes", format!("{refused} refused"));
    }
    if unfinished > 0 {
        let why = format!("it took too long; {unfinished} are left out");
        missing.add("the open files of some processes", why);
    }
    let pids: BTreeSet<u32> = of_socket.values().copied().collect();
    let known: BTreeMap<u32, Owner> = pids.into_iter().map(|pid| (pid, owner(pid))).collect();
    let of_pid = |(inode, pid): (u32, u32)| Some((inode, known.get(&pid)?.clone()));
    of_socket.into_iter().filter_map(of_pid).collect()
}

/// The number in `socket:[NUMBER]`.
fn inode(link: &Path) -> Option<u32> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

fn owner(pid: u32) -> Owner {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let process = String::from_utf8_lossy(&file("comm")).trim_end_matches('\n').to_owned();
    let cgroup = small(Path::new(&format!("/proc/{pid}/cgroup"))).unwrap_or_default();
    Owner { pid, process, unit: unit(&cgroup) }
}

/// The unit in `/proc/PID/cgroup`: the last part of a path that is a service or a scope.
fn unit(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let mut units = paths.filter_map(|path| {
        let parts = path.rsplit('/');
        let is_unit = |part: &&str| [".service", ".scope"].iter().any(|end| part.ends_with(end));
        parts.into_iter().find(is_unit)
    });
    units.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn units_are_read_from_cgroups() {
        for (cgroup, expected) in [
            ("0::/system.slice/nginx.service\n", Some("nginx.service")),
            (
                "0::/system.slice/system-postgresql.slice/postgresql@15-main.service\n",
                Some("postgresql@15-main.service"),
            ),
            ("0::/user.slice/user-0.slice/session-3.scope\n", Some("session-3.scope")),
            ("0::/system.slice/ssh.service/child\n", Some("ssh.service")),
            ("12:pids:/\n1:name=systemd:/system.slice/ssh.service\n", Some("ssh.service")),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(unit(cgroup).as_deref(), expected, "{cgroup}");
        }
    }

    #[test]
    fn this_process_owns_its_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = fs::read_link(format!("/proc/self/fd/{}", listener.as_raw_fd())).unwrap();
        let inode = inode(&link).unwrap();
        let mut missing = Missing::default();
        let owners = owners(&BTreeSet::from([inode, 1]), &mut missing);
        assert_eq!(owners.len(), 1);
        assert_eq!(owners.get(&inode).map(|owner| owner.pid), Some(std::process::id()));
    }
}

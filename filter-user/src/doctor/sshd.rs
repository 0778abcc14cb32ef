//! sshd's configuration: whether a ban closes the ports on which it listens.

use std::fs;
use std::path::{Path, PathBuf};

use super::Finding;
use crate::config::{Config, Scope};
use crate::register::SSHD;

/// The default port of sshd.
const USUAL: u16 = 22;

pub(super) fn examine(config: &Config, etc: &Path) -> Option<Finding> {
    let jail = config.jails.get(SSHD).filter(|jail| jail.enabled)?;
    let Scope::Ports(_) = jail.scope else { return None };
    let (_, class) = config.ports.iter().find(|(scope, _)| *scope == jail.scope)?;
    let closed = |port: &u16| class.tcp.iter().any(|range| range.contains(*port));
    let listens = ports(etc)?;
    let open: Vec<String> =
        listens.iter().filter(|port| !closed(port)).map(ToString::to_string).collect();
    let all = listens.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let name = &class.name;
    (!open.is_empty()).then(|| {
        Finding::new(
            SSHD,
            format!("sshd listens on port {}, which its bans do not close", open.join(", ")),
            format!("`ports: {{{name}: {{tcp: [{all}]}}}}`, then `systemctl restart ringfence`"),
        )
    })
}

/// The ports on which sshd listens (`sshd_config(5)`), by its files below `etc`; `None` if there is none on this
/// host.
pub(crate) fn ports(etc: &Path) -> Option<Vec<u16>> {
    let etc = etc.join("ssh");
    let main = fs::read_to_string(etc.join("sshd_config")).ok()?;
    let drop_ins = fs::read_dir(etc.join("sshd_config.d")).into_iter().flatten().flatten();
    let mut drop_ins: Vec<PathBuf> = drop_ins.map(|entry| entry.path()).collect();
    drop_ins.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
    drop_ins.sort();
    let texts = drop_ins.iter().filter_map(|path| fs::read_to_string(path).ok());
    let text = texts.chain([main]).collect::<Vec<_>>().join("\n");
    let (mut ports, mut places) = (Vec::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        let mut words =
            line.split(|c: char| c.is_whitespace() || c == '=').filter(|w| !w.is_empty());
        let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
        match &*key.to_ascii_lowercase() {
            "port" => ports.extend(value.parse::<u16>()),
            "listenaddress" => places.push(own_port(value)),
            _ => {}
        }
    }
    if ports.is_empty() {
        ports.push(USUAL);
    }
    // sshd listens on each of them for an address without a port.
    if !places.is_empty() {
        let usual = if places.contains(&None) { ports } else { Vec::new() };
        ports = usual.into_iter().chain(places.into_iter().flatten()).collect();
    }
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}

/// The port of `host:port` or `[host]:port`.
fn own_port(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    let is_alone = !host.contains(':') || host.ends_with(']');
    port.parse().ok().filter(|_| is_alone)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)], config: &str) -> Option<String> {
        let etc = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = etc.path().join("ssh").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let config = Config::parse(Path::new("x"), config.as_bytes()).unwrap().config;
        examine(&config, etc.path())
            .map(|finding| format!("{} {}", finding.problem, finding.remedy))
    }

    #[test]
    fn a_port_that_no_ban_closes_is_told() {
        let main = |text| [("sshd_config", text)];
        let text = found(&main("# Port 1\nPort 22\nport=2222\n"), "").unwrap();
        assert!(text.contains("port 2222, which"), "{text}");
        assert!(text.contains("ports: {ssh: {tcp: [22, 2222]}}"), "{text}");
        assert_eq!(found(&main("Port 2222\n"), "ports: {ssh: {tcp: [2222]}}"), None);
        assert_eq!(found(&main("Port 2222\n"), "jails: {sshd: {scope: all}}"), None);
        assert_eq!(found(&main("Port 2222\n"), "jails: {sshd: {enabled: false}}"), None);
        assert_eq!(found(&main("#Port 2222\n"), ""), None);
        assert_eq!(found(&[], ""), None);
        let drop_in = [("sshd_config", "Include x\n"), ("sshd_config.d/1.conf", "Port 2200\n")];
        assert!(found(&drop_in, "").unwrap().contains("port 2200"));
        let address = main("ListenAddress 192.0.2.1:2201\nListenAddress [2001:db8::1]:22\n");
        assert!(found(&address, "").unwrap().contains("port 2201,"));
        assert_eq!(found(&main("ListenAddress 2001:db8::2222\n"), ""), None);
    }
}

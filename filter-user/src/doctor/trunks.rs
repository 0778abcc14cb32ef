//! Finds the trunks in Asterisk's configuration of PJSIP and IAX2: the hosts at which it registers, those
//! that it identifies by address, and those to which it sends calls.
//!
//! Reads the files, or asks Wazo's wazo-confgend, which generates them. Asterisk itself is not asked: only
//! its own user may write to its control socket, the AMI actions that list registrations need a permission
//! that can also end them, and an AMI event about a registration could be forged by text in the `Key` of a
//! request over HTTP.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::conf::Conf;
use crate::config::HostName;
use crate::listener::Owner;

/// The maximum number of networks, and of names. More than these are ignored.
const TRUNKS_MAX: usize = 256;
const NAMES_MAX: usize = 64;

/// The shortest prefix lengths of a trunk. A wider network does not identify a host, and too many
/// addresses in it could not be banned.
const WIDEST_V4: u8 = 20;
const WIDEST_V6: u8 = 48;

/// The address of wazo-confgend.
const CONFGEND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8669);

/// The files that name trunks, without `.conf`, and their keys with host names. Those of PJSIP are of an
/// outbound registration, an `identify` and an `aor`, of which phones have no permanent contacts.
const FILES: [(&str, &[&str]); 3] = [
    ("pjsip", &["server_uri", "outbound_proxy", "match", "contact"]),
    (
        "pjsip_wizard",
        &[
            "remote_hosts",
            "outbound_proxy",
            "registration/server_uri",
            "registration/outbound_proxy",
            "identify/match",
            "aor/contact",
        ],
    ),
    ("iax", &["host", "register"]),
];

/// The `host` of a phone that registers over IAX2.
const DYNAMIC: &str = "dynamic";

/// How long to wait for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The maximum number of bytes of the answer.
const ANSWER_MAX: u64 = 16 << 20;

/// The trunks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trunks {
    /// Their addresses and networks.
    pub networks: BTreeSet<IpNet>,
    /// Their host names.
    pub names: BTreeSet<HostName>,
    /// Why wazo-confgend was not asked, if somebody else listens on its port.
    pub refused: Option<String>,
}

impl Trunks {
    /// Reads the configuration in a directory such as `/etc/asterisk`. Files that cannot be read are
    /// ignored.
    pub(crate) fn read(etc: &Path) -> Self {
        let mut trunks = Self::default();
        for (name, keys) in FILES {
            let conf = Conf::read(etc, name);
            trunks.take(&conf, keys);
            if !is_generated(&conf) {
                continue;
            }
            match Owner::Service.listens(CONFGEND) {
                Ok(true) => {
                    if let Some(text) = generated(name) {
                        trunks.take(&Conf::of_text(etc, &text), keys);
                    }
                }
                Ok(false) => {}
                Err(why) => trunks.refused = Some(why),
            }
        }
        trunks
    }

    fn take(&mut self, conf: &Conf, keys: &[&str]) {
        let named = conf
            .settings()
            .iter()
            .filter(|setting| keys.iter().any(|key| setting.key.eq_ignore_ascii_case(key)));
        for host in named.flat_map(|setting| setting.value.split(',')) {
            self.add(host.trim());
        }
    }

    /// Adds a host in the form of a setting: `sip:user@host:port;parameters`, an address, or a network.
    fn add(&mut self, text: &str) {
        let text = text.trim_start_matches(['"', '<']).trim_end_matches(['"', '>']);
        let uri = ["sip:", "sips:"].iter().find_map(|scheme| text.strip_prefix(scheme));
        let host = uri.unwrap_or(text);
        let host = host.split([';', '?']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        if let Some(network) = network(host) {
            let widest = if network.addr().is_ipv4() { WIDEST_V4 } else { WIDEST_V6 };
            if network.prefix_len() >= widest && self.networks.len() < TRUNKS_MAX {
                self.networks.insert(network);
            }
        } else if host != DYNAMIC
            && let Ok(name) = without_port(host).parse()
            && self.names.len() < NAMES_MAX
        {
            self.names.insert(name);
        }
    }
}

/// Parses an address, with an optional port or brackets, or a network with a prefix length or mask.
fn network(host: &str) -> Option<IpNet> {
    if let Some((address, mask)) = host.split_once('/') {
        let address: IpAddr = address.trim_matches(['[', ']']).parse().ok()?;
        let network = match mask.parse::<IpAddr>() {
            Ok(mask) => IpNet::with_netmask(address, mask).ok()?,
            Err(_length) => IpNet::new(address, mask.parse().ok()?).ok()?,
        };
        return Some(network.trunc());
    }
    let bare = host.strip_prefix('[').and_then(|host| host.split_once(']')).map(|(host, _)| host);
    let address = bare.unwrap_or(host).parse().or_else(|_| without_port(host).parse()).ok()?;
    Some(IpNet::from(IpAddr::to_canonical(&address)))
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(host, _)| host)
}

/// Whether wazo-confgend generates the configuration.
fn is_generated(conf: &Conf) -> bool {
    conf.runs().iter().any(|command| command.contains("wazo-confgen"))
}

/// The file of this name that wazo-confgend generates for Asterisk, as `wazo-confgen asterisk/NAME.conf
/// --cached` asks for it.
fn generated(name: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&CONFGEND, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(format!("asterisk/{name}.conf cached").as_bytes()).ok()?;
    let mut text = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> (Vec<String>, Vec<String>) {
        of_file("pjsip", text)
    }

    fn of_file(name: &str, text: &str) -> (Vec<String>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(format!("{name}.conf")), text).unwrap();
        let trunks = Trunks::read(directory.path());
        let networks = trunks.networks.iter().map(ToString::to_string).collect();
        (networks, trunks.names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn trunks_are_read_as_asterisk_has_them() {
        let (networks, names) = of("\
[carrier](!)
type = registration
server_uri = sip:sip.carrier.example:5080;transport=tcp
client_uri = sip:me@not.example
[other]
type=registration
server_uri=sips:user@192.0.2.40
outbound_proxy=sip:[2001:db8::40]:5061\\;lr
[other]
type=identify
match=203.0.113.0/255.255.255.0,198.51.100.7 , peer.example
match=2001:db8:5::/48
match_header=X-A: 198.51.100.99
[gateway]
type=aor
contact=sip:gw@198.51.100.8:5062,sip:gw.example
[phone]
type=aor
max_contacts=1
");
        assert_eq!(
            networks,
            [
                "192.0.2.40/32",
                "198.51.100.7/32",
                "198.51.100.8/32",
                "203.0.113.0/24",
                "2001:db8::40/128",
                "2001:db8:5::/48",
            ]
        );
        assert_eq!(names, ["gw.example", "peer.example", "sip.carrier.example"]);
    }

    #[test]
    fn trunks_of_the_wizard_and_of_iax2_are_read() {
        let (networks, names) = of_file(
            "pjsip_wizard",
            "[a]\nremote_hosts = 198.51.100.8:5062,gw.example:5060\n\
             registration/server_uri = sip:reg.example\nidentify/match = 198.51.100.9\n\
             aor/contact = sip:198.51.100.10\n",
        );
        assert_eq!(networks, ["198.51.100.8/32", "198.51.100.9/32", "198.51.100.10/32"]);
        assert_eq!(names, ["gw.example", "reg.example"]);
        let (networks, names) = of_file(
            "iax",
            "[general]\nregister => me:secret@iax.example:4569\nregister => me@198.51.100.7\n\
             [peer]\nhost=198.51.100.8\n[phone]\nhost=dynamic\n",
        );
        assert_eq!(networks, ["198.51.100.7/32", "198.51.100.8/32"]);
        assert_eq!(names, ["iax.example"]);
    }

    #[test]
    fn what_names_nobody_is_left_out() {
        for value in [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "::/0",
            "2001:db8::/32",
            "",
            "sip:",
            "192.0.2.1/x",
            "bad name",
            "[",
        ] {
            let (networks, names) = of(&format!("[a]\nmatch={value}\n"));
            assert!(networks.is_empty() && names.is_empty(), "{value}: {networks:?} {names:?}");
        }
    }

    #[test]
    fn there_is_a_bound() {
        let lines = |host: fn(usize) -> String| -> String {
            let hosts: Vec<String> = (0..2000).map(host).collect();
            format!("match={}\n", hosts.join("\nmatch="))
        };
        let (networks, _) = of(&lines(|n| format!("192.0.{}.{}", n / 250, n % 250)));
        assert_eq!(networks.len(), TRUNKS_MAX);
        let (_, names) = of(&lines(|n| format!("host{n}.example")));
        assert_eq!(names.len(), NAMES_MAX);
    }

    #[test]
    fn a_generated_configuration_is_recognised() {
        let conf = |text| Conf::of_text(Path::new("/nonexistent"), text);
        assert!(is_generated(&conf("#exec /usr/bin/wazo-confgen asterisk/pjsip.conf --cached\n")));
        assert!(!is_generated(&conf("[a]\n; wazo-confgen\nmatch=192.0.2.1\n")));
    }
}

//! The table of services: those that listen on a Wazo host according to its documentation, and those of
//! other hosts.

use api::{Severity, Transport};

use self::Bind::{Any, Local};
use self::Remedy::{Conf, Paste, Words};
use api::Severity::{Critical, Note, Warning};
use api::Transport::{Tcp, Udp};

/// Wazo's page that lists the ports.
pub const NETWORK: &str = "https://wazo-platform.org/uc-doc/contributors/network";

/// Wazo's page about security.
pub const SECURITY: &str = "https://wazo-platform.org/uc-doc/administration/security#open-ports";

/// Wazo's page about the authentication of phones that fetch their configuration.
pub const PROVISIONING: &str =
    "https://wazo-platform.org/uc-doc/administration/provisioning/http-auth-strategy";

/// Where a service listens according to the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bind {
    /// On loopback alone.
    Local,
    /// On every address.
    Any,
}

/// The solution of an exposure, preferably in the configuration of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A file in `conf.d` of a daemon of Wazo with this text; the daemon is the service's.
    Conf(&'static str),
    /// What to do, and the line that does it.
    Paste(&'static str, &'static str),
    /// What to do.
    Words(&'static str),
}

/// A service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its name.
    pub name: &'static str,
    /// The port.
    pub port: u16,
    /// Its transports.
    pub transports: &'static [Transport],
    /// Where it listens by the documentation.
    pub bind: Bind,
    /// The severity if strangers can reach it.
    pub severity: Severity,
    /// Why.
    pub reason: &'static str,
    /// What to do about it.
    pub remedy: Remedy,
    /// Whether the port is this service's on every host, not only on one of Wazo.
    pub everywhere: bool,
    /// The page of Wazo; `None`: Wazo does not document it.
    pub page: Option<&'static str>,
}

impl Service {
    /// Whether this process or unit has its name.
    pub fn is_called(&self, name: &str) -> bool {
        name.starts_with(self.name.trim_end_matches("-https"))
    }
}

const REST: &str = "its REST API takes requests with a token, and nginx passes them on from port 443: nobody needs this port";
const REST_CONF: Remedy = Conf("rest_api: {listen: 127.0.0.1}");
const OPEN_REST: &str = "it asks for no password";
const NO_BIND: &str =
    "admit only the networks of the phones to this port: list them under `trusted`";

/// A daemon of Wazo whose REST API nginx passes on.
const fn rest(name: &'static str, port: u16) -> Service {
    local(name, port, Warning, REST, REST_CONF)
}

/// A service of a Wazo host that should listen on loopback.
const fn local(
    name: &'static str,
    port: u16,
    severity: Severity,
    reason: &'static str,
    remedy: Remedy,
) -> Service {
    Service {
        name,
        port,
        transports: &[Tcp],
        bind: Local,
        severity,
        reason,
        remedy,
        everywhere: false,
        page: Some(NETWORK),
    }
}

/// A service of a Wazo host that should listen on every address.
const fn open(
    name: &'static str,
    port: u16,
    transports: &'static [Transport],
    severity: Severity,
    reason: &'static str,
    remedy: Remedy,
) -> Service {
    let service = local(name, port, severity, reason, remedy);
    Service { transports, bind: Any, everywhere: true, ..service }
}

const fn everywhere(service: Service) -> Service {
    Service { everywhere: true, ..service }
}

const fn both(service: Service) -> Service {
    Service { transports: &[Tcp, Udp], ..service }
}

/// A service that Wazo does not document.
const fn other(
    name: &'static str,
    port: u16,
    transports: &'static [Transport],
    severity: Severity,
    reason: &'static str,
    remedy: Remedy,
) -> Service {
    let service = local(name, port, severity, reason, remedy);
    Service { transports, everywhere: true, page: None, ..service }
}

const CONSUL: Remedy = Words(
    "in Consul's configuration: `\"bind_addr\": \"127.0.0.1\", \"client_addr\": \"127.0.0.1\"`; then `systemctl restart consul`",
);
const CONSUL_OPEN: &str =
    "Consul shows strangers every service, and takes changes without a password";
const PHONED: Remedy = Paste(
    "let wazo-phoned answer only the networks of the phones; put your own in place of 192.168.0.0/16",
    "printf 'rest_api: {authorized_subnets: [192.168.0.0/16]}\\n' > /etc/wazo-phoned/conf.d/00-subnets.yml; systemctl restart wazo-phoned",
);
const PROVD: Remedy = Paste(
    "require a key in the address by which phones fetch their configuration",
    "printf 'general: {http_auth_strategy: url_key}\\n' > /etc/wazo-provd/conf.d/00-http-auth-strategy.yml; systemctl restart wazo-provd",
);

/// All known services, those that Wazo documents first.
pub const SERVICES: &[Service] = &[
    open(
        "sip",
        5060,
        &[Tcp, Udp],
        Note,
        "SIP is meant to be reached, but anybody who reaches it can guess passwords, so the filter should protect it",
        Words("nothing, if the filter protects the interface and `sip` has the port"),
    ),
    open(
        "sshd",
        22,
        &[Tcp],
        Note,
        "anybody who reaches it can guess passwords; the jail `sshd` bans those who do",
        Paste(
            "admit keys alone, once your own key works",
            "printf 'PasswordAuthentication no\\n' > /etc/ssh/sshd_config.d/00-keys.conf; systemctl reload ssh",
        ),
    ),
    open(
        "http",
        80,
        &[Tcp],
        Note,
        "nginx is meant to be reached: it leads to HTTPS",
        Words("nothing, if users outside your networks need it"),
    ),
    open(
        "https",
        443,
        &[Tcp],
        Note,
        "nginx is meant to be reached: it has the web interface and every REST API",
        Words("nothing, if users outside your networks need it"),
    ),
    open(
        "tftp",
        69,
        &[Udp],
        Warning,
        "TFTP asks for no password: anybody who guesses a name fetches the configuration of a phone, with its SIP password",
        Words(NO_BIND),
    ),
    Service {
        page: Some(PROVISIONING),
        everywhere: false,
        ..open(
            "provisioning",
            8667,
            &[Tcp],
            Warning,
            "it asks for no password: anybody who guesses a name fetches the configuration of a phone, with its SIP password",
            PROVD,
        )
    },
    open(
        "smtp",
        25,
        &[Tcp],
        Warning,
        "a PBX sends mail, and hardly ever receives any",
        Paste(
            "let postfix take mail from this host alone",
            "postconf -e 'inet_interfaces = loopback-only'; systemctl restart postfix",
        ),
    ),
    open(
        "dhcp",
        67,
        &[Udp],
        Warning,
        "DHCP is for the network of the phones",
        Paste(
            "serve only the interface of the phones; put it in place of eth1",
            "sed -i 's/^INTERFACESv4=.*/INTERFACESv4=\"eth1\"/' /etc/default/isc-dhcp-server; systemctl restart isc-dhcp-server",
        ),
    ),
    open("dhcp-client", 68, &[Udp], Note, "the host gets its address by DHCP", Words("nothing")),
    open(
        "ntp",
        123,
        &[Udp],
        Note,
        "it gives the phones the time; an old one can be made to send much to a forged source",
        Words(
            "check that /etc/ntpsec/ntp.conf has `restrict default kod nomodify nopeer noquery limited`",
        ),
    ),
    open(
        "iax",
        4569,
        &[Udp],
        Warning,
        "IAX2 takes calls and passwords past the filter, which judges SIP",
        Paste(
            "unless a trunk uses IAX2, do not load it: at the end of /etc/asterisk/modules.conf, then `asterisk -rx 'module unload chan_iax2.so'`",
            "noload = chan_iax2.so",
        ),
    ),
    open(
        "sccp",
        2000,
        &[Tcp],
        Warning,
        "SCCP asks phones for no password and the filter judges SIP",
        Paste(
            "unless phones use SCCP, do not load it: at the end of /etc/asterisk/modules.conf, then `asterisk -rx 'module unload chan_sccp.so'`",
            "noload = chan_sccp.so",
        ),
    ),
    open(
        "rabbitmq",
        5672,
        &[Tcp],
        Critical,
        "the message bus has every call and token, and its user is `guest` with the password `guest`",
        Paste(
            "listen on loopback",
            "printf 'listeners.tcp.1 = 127.0.0.1:5672\\n' >> /etc/rabbitmq/rabbitmq.conf; systemctl restart rabbitmq-server",
        ),
    ),
    Service {
        everywhere: false,
        ..open(
            "wazo-phoned",
            9498,
            &[Tcp],
            Warning,
            "it gives the directory to phones without a password, by their address alone",
            PHONED,
        )
    },
    Service {
        everywhere: false,
        ..open(
            "wazo-phoned-https",
            9499,
            &[Tcp],
            Warning,
            "it gives the directory to phones without a password, by their address alone",
            PHONED,
        )
    },
    everywhere(local(
        "postgresql",
        5432,
        Critical,
        "the database has every password of every phone and user",
        Paste(
            "listen on loopback; on a pair of hosts for high availability, admit only the other host in the firewall instead",
            "runuser -u postgres -- psql -c \"ALTER SYSTEM SET listen_addresses = 'localhost'\"; systemctl restart postgresql",
        ),
    )),
    everywhere(local(
        "ami",
        5038,
        Critical,
        "anybody who has a password of AMI places calls and runs commands, and AMI is not encrypted",
        Paste(
            "in /etc/asterisk/manager.conf, under [general]; then `asterisk -rx 'manager reload'`",
            "bindaddr = 127.0.0.1",
        ),
    )),
    local(
        "asterisk-http",
        5039,
        Critical,
        "Asterisk's web server has ARI and AMI; nginx passes WebSockets on to it",
        Paste(
            "in /etc/asterisk/http.conf, under [general]; then `asterisk -rx 'module reload http'`",
            "bindaddr = 127.0.0.1",
        ),
    ),
    local(
        "asterisk-https",
        5040,
        Critical,
        "Asterisk's web server has ARI and AMI; nginx passes WebSockets on to it",
        Paste(
            "in /etc/asterisk/http.conf, under [general]; then `asterisk -rx 'module reload http'`",
            "tlsbindaddr = 127.0.0.1:5040",
        ),
    ),
    everywhere(local(
        "monit",
        2812,
        Warning,
        "monit stops and starts services",
        Paste(
            "in /etc/monit/monitrc; then `systemctl reload monit`",
            "set httpd port 2812 and use address 127.0.0.1 allow 127.0.0.1",
        ),
    )),
    everywhere(local(
        "munin",
        4949,
        Warning,
        "it shows strangers what the host does, without a password",
        Paste(
            "in /etc/munin/munin-node.conf, in place of the line `host`; then `systemctl restart munin-node`",
            "host 127.0.0.1",
        ),
    )),
    everywhere(local("consul-rpc", 8300, Critical, CONSUL_OPEN, CONSUL)),
    everywhere(both(local("consul-serf-lan", 8301, Critical, CONSUL_OPEN, CONSUL))),
    everywhere(both(local("consul-serf-wan", 8302, Critical, CONSUL_OPEN, CONSUL))),
    everywhere(local("consul-http", 8500, Critical, CONSUL_OPEN, CONSUL)),
    everywhere(local("consul-https", 8501, Critical, CONSUL_OPEN, CONSUL)),
    local(
        "wazo-provd",
        8666,
        Critical,
        "its REST API has the passwords of every phone",
        Conf("rest_api: {ip: 127.0.0.1}"),
    ),
    local(
        "wazo-confgend",
        8669,
        Critical,
        "it hands out Asterisk's configuration, with every SIP password, and asks for none",
        Conf("listen_address: 127.0.0.1"),
    ),
    local(
        "wazo-sysconfd",
        8668,
        Critical,
        "it changes the system as root, and asks for no password",
        Conf("listen_addr: 127.0.0.1"),
    ),
    local("wazo-agid", 4573, Critical, OPEN_REST, Conf("listen_address: 127.0.0.1")),
    rest("wazo-auth", 9497),
    rest("wazo-call-logd", 9298),
    rest("wazo-dird", 9489),
    rest("wazo-webhookd", 9300),
    rest("wazo-setupd", 9302),
    rest("wazo-chatd", 9304),
    rest("wazo-confd", 9486),
    rest("wazo-amid", 9491),
    rest("wazo-agentd", 9493),
    rest("wazo-calld", 9500),
    local("wazo-websocketd", 9502, Warning, REST, Conf("websocket: {listen: 127.0.0.1}")),
    rest("wazo-plugind", 9503),
    other(
        "rabbitmq-distribution",
        25_672,
        &[Tcp],
        Critical,
        "it joins RabbitMQ to a cluster: anybody who has its cookie runs commands",
        Paste(
            "listen on loopback",
            "printf 'RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=\"-kernel inet_dist_use_interface {127,0,0,1}\"\\n' >> /etc/rabbitmq/rabbitmq-env.conf; systemctl restart rabbitmq-server",
        ),
    ),
    other(
        "rabbitmq-management",
        15_672,
        &[Tcp],
        Critical,
        "its user is `guest` with the password `guest`, unless somebody changed it",
        Paste(
            "listen on loopback",
            "printf 'management.tcp.ip = 127.0.0.1\\n' >> /etc/rabbitmq/rabbitmq.conf; systemctl restart rabbitmq-server",
        ),
    ),
    other(
        "epmd",
        4369,
        &[Tcp],
        Warning,
        "it shows strangers which programs of Erlang run, without a password",
        Paste(
            "listen on loopback",
            "systemctl edit --full epmd.socket  # ListenStream=127.0.0.1:4369",
        ),
    ),
    other(
        "asterisk-http",
        8088,
        &[Tcp],
        Warning,
        "Asterisk's web server has ARI and AMI",
        Paste(
            "in /etc/asterisk/http.conf, under [general]; then `asterisk -rx 'module reload http'`",
            "bindaddr = 127.0.0.1",
        ),
    ),
    other(
        "mysql",
        3306,
        &[Tcp],
        Critical,
        "a database",
        Words("`bind-address = 127.0.0.1` in /etc/mysql/my.cnf; then `systemctl restart mysql`"),
    ),
    other(
        "redis",
        6379,
        &[Tcp],
        Critical,
        "a database that asks for no password unless it is configured to",
        Words(
            "`bind 127.0.0.1 ::1` in /etc/redis/redis.conf; then `systemctl restart redis-server`",
        ),
    ),
    other(
        "memcached",
        11_211,
        &[Tcp, Udp],
        Critical,
        "it asks for no password, and can be made to send much to a forged source",
        Words("`-l 127.0.0.1` in /etc/memcached.conf; then `systemctl restart memcached`"),
    ),
    other(
        "rpcbind",
        111,
        &[Tcp, Udp],
        Warning,
        "it shows strangers which services run, and can be made to send much to a forged source",
        Paste(
            "unless the host serves NFS, stop it",
            "systemctl disable --now rpcbind.socket rpcbind.service",
        ),
    ),
    other(
        "docker",
        2375,
        &[Tcp],
        Critical,
        "anybody who reaches it is root on this host",
        Words("remove `-H tcp://` from Docker's options; then `systemctl restart docker`"),
    ),
];

/// Identifies a listener by its port if only this service uses it on such a host, otherwise by its port
/// and name.
pub fn find<'a>(
    transport: Transport,
    port: u16,
    mut names: impl Iterator<Item = &'a str>,
    is_wazo: bool,
) -> Option<&'static Service> {
    let of_port = SERVICES
        .iter()
        .find(|service| service.port == port && service.transports.contains(&transport))?;
    let is_it = of_port.everywhere || is_wazo || names.any(|name| of_port.is_called(name));
    is_it.then_some(of_port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_port_is_of_one_service() {
        let mut seen = BTreeSet::new();
        for service in SERVICES {
            assert!(!service.transports.is_empty() && !service.reason.is_empty());
            for transport in service.transports {
                assert!(seen.insert((service.port, *transport)), "{}", service.port);
            }
        }
    }

    /// The ports of Wazo's page `Network`, and where they listen by it.
    #[test]
    fn every_port_that_wazo_documents_is_there() {
        let any = "25/tcp 67/udp 68/udp 69/udp 123/udp 5060/udp 4569/udp 2000/tcp 22/tcp 80/tcp 443/tcp 5672/tcp 9498/tcp \
                   9499/tcp 8667/tcp";
        let local = "2812/tcp 5038/tcp 5039/tcp 5040/tcp 4949/tcp 5432/tcp 8300/tcp 8301/tcp 8301/udp 8302/tcp 8302/udp \
                     8500/tcp 8501/tcp 8666/tcp 8669/tcp 8668/tcp 9497/tcp 9298/tcp 9489/tcp 9300/tcp 9302/tcp 9304/tcp \
                     9486/tcp 9491/tcp 9493/tcp 9500/tcp 9502/tcp 9503/tcp";
        for (list, bind) in [(any, Any), (local, Local)] {
            for one in list.split_whitespace() {
                let (port, transport) = one.split_once('/').unwrap();
                let transport = if transport == "tcp" { Tcp } else { Udp };
                let found = find(transport, port.parse().unwrap(), std::iter::empty(), true);
                let found = found.unwrap_or_else(|| panic!("{one}"));
                assert_eq!(found.bind, bind, "{one}");
                assert!(found.page.is_some(), "{one}");
            }
        }
    }

    #[test]
    fn on_other_hosts_wazos_ports_need_its_names() {
        let find = |names: &[&str], is_wazo| {
            find(Tcp, 9486, names.iter().copied(), is_wazo).map(|service| service.name)
        };
        assert_eq!(find(&[], true), Some("wazo-confd"));
        assert_eq!(find(&["java"], false), None);
        assert_eq!(find(&["python3", "wazo-confd.service"], false), Some("wazo-confd"));
    }
}

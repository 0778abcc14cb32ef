//! Reads the settings of each jail from fail2ban's configuration: `jail.conf` and its overrides.

use std::path::Path;
use std::time::Duration;

use super::error::Error;
use super::layers::{Layers, Variables};
use super::{options, seconds};
use detection::duration;

/// The effect of a jail's actions on an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Effect {
    /// They close ports to it, as far as is known.
    #[default]
    Bans,
    /// They only send messages.
    Tells,
    /// They grant it access.
    Allows,
}

/// A fail2ban jail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Jail {
    pub(super) name: String,
    pub(super) enabled: bool,
    /// The name in `filter`, without the options in brackets.
    pub(super) filter: String,
    /// The complete value of `filter`.
    pub(super) filter_with_options: String,
    pub(super) maxretry: Option<u32>,
    pub(super) findtime: Option<Duration>,
    /// A permanent ban becomes the longest ban of a jail.
    pub(super) bantime: Option<Duration>,
    /// The settings of `bantime.*`, by the name after the dot, as written.
    pub(super) increment: Vec<(&'static str, String)>,
    pub(super) ignoreip: Vec<String>,
    /// Files, possibly with wildcards.
    pub(super) logs: Vec<String>,
    /// Whether it reads systemd's journal instead.
    pub(super) journal: bool,
    /// The journal matches, if the jail has its own.
    pub(super) journal_match: Vec<String>,
    /// The ports that its usual action closes, as written: `ssh`, `http,https`, `0:65535`.
    pub(super) ports: String,
    /// The effect of its actions.
    pub(super) effect: Effect,
    /// Whether its action closes all ports, whatever `port` says.
    pub(super) all_ports: bool,
    /// The settings that could not be read or have no equivalent, each with the reason.
    pub(super) left_out: Vec<String>,
}

/// The settings of `bantime.*` that have the same name and meaning in Ringfence.
const INCREMENT: [&str; 6] =
    ["increment", "factor", "maxtime", "rndtime", "multipliers", "overalljails"];

/// Settings of a jail without an equivalent, each with advice.
const LEFT_OUT: [(&str, &str); 11] = [
    ("failregex", "lines that only the jail's own expressions match are not counted"),
    ("ignoreregex", "lines that the jail's own expressions exclude are counted"),
    ("prefregex", "lines that only the jail's own expression matches are not counted"),
    ("datepattern", "the jail's own date pattern is not used"),
    ("logencoding", "logs are read as bytes, whatever their encoding"),
    ("skip_if_nologs", "the daemon waits for a log that does not exist"),
    ("ignorecommand", "no program is run to decide about an address; list addresses in `ignoreip`"),
    ("bantime.formula", "no formula is evaluated; `bantime.multipliers` can approximate it"),
    ("logtimezone", "dates without a time zone are in the host's zone"),
    ("usedns", "host names in logs are never resolved"),
    ("maxlines", "expressions over several lines are not supported"),
];

/// The prefixes of the names of actions that only report an address and block nothing.
const REPORTERS: [&str; 12] = [
    "sendmail",
    "mail",
    "mynetwatchman",
    "dshield",
    "complain",
    "xarf",
    "abuseipdb",
    "blocklist_de",
    "badips",
    "dummy",
    "smtp.py",
    "helpers",
];

/// Expressions that can be in the filter instead.
const IN_FILTER: [&str; 4] = ["failregex", "ignoreregex", "prefregex", "datepattern"];

/// Other settings of a jail: those that are read, and those that do not affect bans.
const KNOWN: [&str; 30] = [
    "enabled",
    "filter",
    "mode",
    "port",
    "protocol",
    "chain",
    "banaction",
    "banaction_allports",
    "action",
    "logpath",
    "backend",
    "maxretry",
    "findtime",
    "bantime",
    "ignoreip",
    "ignoreself",
    "ignorecache",
    "maxmatches",
    "journalmatch",
    "destemail",
    "sender",
    "sendername",
    "mta",
    "fail2ban_agent",
    "systemd_if_nologs",
    "known",
    "name",
    "__name__",
    "blocktype",
    "returntype",
];

/// Reads the jails in a directory such as `/etc/fail2ban`.
pub(super) fn read(directory: &Path) -> Result<Vec<Jail>, Error> {
    let base = directory.join("jail");
    let Some(layers) = Layers::read(&base)? else {
        let text = "does not exist; give fail2ban's configuration directory with `--from`";
        return Err(Error::of_file(&base.with_extension("conf"), text));
    };
    Ok(layers.sections().map(|name| jail(&layers, name, directory)).collect())
}

fn jail(layers: &Layers, name: &str, directory: &Path) -> Jail {
    let mut jail = Jail { name: name.to_owned(), ..Jail::default() };
    let path = directory.display().to_string();
    let variables = Variables::from([("fail2ban_confpath".to_owned(), path)]);
    let mut reader = Reader { layers, name, variables, left_out: Vec::new() };
    jail.enabled = reader.flag("enabled");
    if !jail.enabled {
        return jail;
    }
    jail.filter_with_options = reader.text("filter").unwrap_or_default();
    match options::parse(&jail.filter_with_options) {
        Ok((filter, _)) => filter.clone_into(&mut jail.filter),
        Err(why) => reader.left_out.push(format!("filter: {why}")),
    }
    jail.maxretry =
        reader.parsed("maxretry", |text| text.trim().parse().map_err(|_e| not_a_number(text)));
    jail.findtime = reader.parsed("findtime", |text| {
        seconds::parse(text)?.ok_or_else(|| "`-1` is not a valid time for `findtime`".to_owned())
    });
    jail.bantime =
        reader.parsed("bantime", |text| Ok(seconds::parse(text)?.unwrap_or(duration::MAX)));
    for option in INCREMENT {
        if let Some(text) = reader.text(&format!("bantime.{option}")) {
            jail.increment.push((option, text.trim().to_owned()));
        }
    }
    let words = |text: String| -> Vec<String> {
        let words = text.split([' ', ',', '\n']).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    jail.ignoreip = reader.text("ignoreip").map(words).unwrap_or_default();
    jail.journal = reader.text("backend").is_some_and(|backend| backend.starts_with("systemd"));
    let lines = |text: String| -> Vec<String> {
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    if jail.journal {
        jail.journal_match = reader.text("journalmatch").map(lines).unwrap_or_default();
    } else {
        jail.logs = reader.text("logpath").map(lines).unwrap_or_default();
        for log in &mut jail.logs {
            // fail2ban's option for the start position; Ringfence always continues at its last position.
            for place in [" head", " tail"] {
                let shorter = log.strip_suffix(place).map(str::trim_end).map(str::to_owned);
                *log = shorter.unwrap_or_else(|| log.clone());
            }
        }
    }
    jail.ports = reader.text("port").unwrap_or_default();
    reader.action(&mut jail);
    if layers.own(name).any(|(own, _)| own == "ignoreself") && !reader.flag("ignoreself") {
        let text = "ignoreself: the host's own addresses are never banned here";
        reader.left_out.push(text.to_owned());
    }
    reader.unknown();
    let set_by_default =
        |option: &str| ["usedns", "maxlines", "logencoding", "skip_if_nologs"].contains(&option);
    for (option, why) in LEFT_OUT {
        let own = layers.own(name).any(|(own, _)| own == option);
        if own
            || (!set_by_default(option) && reader.text(option).is_some_and(|text| !text.is_empty()))
        {
            let filter =
                directory.join("filter.d").join(&jail.filter).with_added_extension("local");
            reader.left_out.push(if IN_FILTER.contains(&option) {
                format!(
                    "{option}: {why}; to use it, put it under [Definition] in {} and import again",
                    filter.display()
                )
            } else {
                format!("{option}: {why}")
            });
        }
    }
    jail.left_out = reader.left_out;
    jail
}

/// The options of one jail.
struct Reader<'a> {
    layers: &'a Layers,
    name: &'a str,
    variables: Variables,
    left_out: Vec<String>,
}

impl Reader<'_> {
    fn text(&mut self, option: &str) -> Option<String> {
        match self.layers.get(self.name, option, &self.variables) {
            Ok(value) => value.map(|value| value.text),
            Err(why) => {
                self.left_out.push(why.to_string());
                None
            }
        }
    }

    fn flag(&mut self, option: &str) -> bool {
        let text = self.text(option).unwrap_or_default().trim().to_lowercase();
        ["1", "on", "true", "yes"].contains(&text.as_str())
    }

    fn parsed<T>(&mut self, option: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(option)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.left_out.push(format!("{option}: {why}"));
                None
            }
        }
    }

    /// Lists options that have no meaning here and that no other value in the section refers to.
    fn unknown(&mut self) {
        let is_known = |option: &str| {
            KNOWN.contains(&option)
                || LEFT_OUT.iter().any(|(known, _)| *known == option)
                || INCREMENT.iter().any(|known| option == format!("bantime.{known}"))
                || ["action", "bantime."].iter().any(|begin| option.starts_with(begin))
        };
        let is_used = |option: &str| {
            let reference = format!("%({option})s");
            self.layers
                .own(self.name)
                .any(|(_, value)| value.text.to_lowercase().contains(&reference))
        };
        let unknown: Vec<String> = self
            .layers
            .own(self.name)
            .map(|(option, _)| option)
            .filter(|option| !is_known(option) && !is_used(option))
            .map(|option| format!("{option}: Ringfence has no such setting"))
            .collect();
        self.left_out.extend(unknown);
    }

    /// Reads what its actions close; other effects of actions have no equivalent.
    fn action(&mut self, jail: &mut Jail) {
        let (mut others, mut ports) = (Vec::new(), Vec::new());
        let (mut reports, mut bans) = (0, 0);
        for line in one_a_line(&self.text("action").unwrap_or_default()) {
            let Ok((name, set)) = options::parse(&line) else {
                bans += 1;
                others.push(line);
                continue;
            };
            if REPORTERS.iter().any(|reporter| name.starts_with(reporter)) {
                reports += 1;
            } else {
                bans += 1;
            }
            let blocktype = set.get("blocktype").map(|kind| kind.to_uppercase());
            if matches!(blocktype.as_deref(), Some("RETURN" | "ACCEPT")) {
                jail.effect = Effect::Allows;
            }
            let closes =
                ["iptables", "nftables", "firewallcmd", "ufw", "shorewall", "pf", "ipfw", "route"];
            if !closes.iter().any(|tool| name.starts_with(tool)) {
                others.push(name.to_owned());
                continue;
            }
            jail.all_ports |= name.contains("allports")
                || ["route", "shorewall"].contains(&name)
                || set.get("type").is_some_and(|kind| kind == "allports");
            match set.get("port").map(|port| port.trim().to_owned()) {
                Some(port) if !port.is_empty() && !ports.contains(&port) => ports.push(port),
                Some(_) | None => {}
            }
        }
        if bans == 0 && reports > 0 {
            jail.effect = Effect::Tells;
        }
        if !ports.is_empty() {
            jail.ports = ports.join(",");
        }
        if !others.is_empty() {
            let others = others.join(", ");
            self.left_out.push(format!("action {others}: bans only close ports"));
        }
    }
}

/// Actions, one on each line; brackets may span several lines.
fn one_a_line(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let is_open = |line: &String| line.matches('[').count() > line.matches(']').count();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match lines.last_mut().filter(|last| is_open(last)) {
            Some(last) => *last = format!("{last} {line}"),
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

fn not_a_number(text: &str) -> String {
    format!("`{}` is not a number", text.trim())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn jails(files: &[(&str, &str)]) -> Vec<Jail> {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        read(directory.path()).unwrap()
    }

    const BASE: &str = "[DEFAULT]\nenabled = false\nmaxretry = 5\nfindtime = 10m\nbantime = 10m\n\
        mode = normal\nfilter = %(__name__)s[mode=%(mode)s]\nbackend = auto\nport = 0:65535\n\
        action = %(banaction)s[port=\"%(port)s\"]\nbanaction = iptables-multiport\n\
        [sshd]\nport = ssh\nlogpath = /var/log/auth.log\n[web]\nport = http,https\n";

    #[test]
    fn a_jail_has_what_its_files_say() {
        let local = "[DEFAULT]\nignoreip = 127.0.0.1/8 ::1, 203.0.113.0/24\n  office.example.org\n\
            bantime.increment = true\nbantime.maxtime = 1w\n[sshd]\nenabled = yes\nmode = aggressive\n\
            bantime = 1d12h\nlogpath = /a.log tail\n /b*.log\n";
        let jails = jails(&[("jail.conf", BASE), ("jail.local", local)]);
        let [sshd, web] = &jails[..] else { panic!("{jails:?}") };
        assert!(sshd.enabled && !web.enabled);
        assert_eq!(
            (sshd.filter.as_str(), sshd.filter_with_options.as_str()),
            ("sshd", "sshd[mode=aggressive]")
        );
        assert_eq!((sshd.maxretry, sshd.findtime), (Some(5), Some(Duration::from_mins(10))));
        assert_eq!(sshd.bantime, Some(Duration::from_hours(36)));
        assert_eq!(sshd.ignoreip, ["127.0.0.1/8", "::1", "203.0.113.0/24", "office.example.org"]);
        assert_eq!(sshd.logs, ["/a.log", "/b*.log"]);
        assert_eq!((sshd.ports.as_str(), sshd.all_ports), ("ssh", false));
        let increment = [("increment", "true"), ("maxtime", "1w")];
        assert_eq!(sshd.increment, increment.map(|(name, text)| (name, text.to_owned())));
        assert_eq!(sshd.left_out, [""; 0]);
    }

    #[test]
    fn what_means_nothing_here_is_named() {
        let local = "[web]\nenabled = true\nbackend = systemd[journalflags=1]\nbantime = -1\nmaxretry = many\n\
            findtime = 1 moon\nfailregex = ^x <HOST>\nignorecommand = /bin/true <ip>\n\
            action = %(banaction)s-allports[name=x]\n  sendmail-whois[name=x, dest=root]\n\
            datepattern = %(nobody)s\njournalmatch = _COMM=web\n";
        let jails = jails(&[("jail.conf", BASE), ("jail.d/web.local", local)]);
        let web = jails.iter().find(|jail| jail.name == "web").unwrap();
        assert!(web.journal && web.all_ports && web.bantime == Some(duration::MAX));
        assert_eq!((web.maxretry, web.findtime), (None, None));
        assert_eq!(web.journal_match, ["_COMM=web"]);
        let text = web.left_out.join("\n");
        for expected in [
            "maxretry: `many`",
            "findtime: `1 moon`",
            "failregex: ",
            "ignorecommand: ",
            "action sendmail-whois",
            "datepattern: ",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }

    #[test]
    fn what_actions_do_is_known() {
        for (action, effect) in [
            ("iptables[port=1]", Effect::Bans),
            ("iptables[port=1]\n  sendmail[x=y]", Effect::Bans),
            ("my-own[port=1]", Effect::Bans),
            ("sendmail-whois[name=x]\n  abuseipdb[key=y]", Effect::Tells),
            (
                "iptables[blocktype=RETURN, returntype=DROP,\n    actionrepair_on_unban=true]",
                Effect::Allows,
            ),
            ("iptables[blocktype=DROP]", Effect::Bans),
        ] {
            let local = format!("[web]\nenabled = true\naction = {action}\n");
            let jails = jails(&[("jail.conf", BASE), ("jail.local", &local)]);
            let web = jails.iter().find(|jail| jail.name == "web").unwrap();
            assert_eq!(web.effect, effect, "{action}");
        }
    }

    #[test]
    fn without_a_configuration_it_says_where_it_looked() {
        let error = read(Path::new("/nonexistent")).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/jail.conf: "), "{error}");
    }
}

//! Settings that are valid by themselves, but not together.

use std::path::Path;

use ::feeds::Form;

use super::{Config, Escalation, Geo, Service};

/// `sun_path` of `unix(7)`, without the final NUL.
const SOCKET_PATH_MAX: usize = 107;

/// Alerts and actions that do not have exactly one way, and settings of another way.
fn alerts(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut check = |section: &str, name: &str, (ways, all): (Vec<&str>, &str), has_key: bool| {
        let at = |key: &str| format!("{section}.{name}.{key}");
        match ways[..] {
            [_] => {}
            [] => {
                let text = format!("`{section}.{name}` says not how it is sent; set one of {all}");
                found.push((at("events"), text));
            }
            [first, second, ..] => {
                let text = format!(
                    "`{section}.{name}` has both `{first}` and `{second}`; write one of its own for each"
                );
                found.push((at(second), text));
            }
        }
        if has_key && !ways.contains(&"webhook") {
            let text = format!(
                "`{section}.{name}.key_file` signs what a `webhook` gets, but there is none"
            );
            found.push((at("key_file"), text));
        }
    };
    for (name, alert) in &config.alerts {
        let all = "`command`, `webhook`, `mail` and `syslog`";
        check("alerts", name, (alert.ways(), all), alert.hook.key_file.is_some());
    }
    for (name, action) in &config.actions {
        let all = "`command`, `webhook` and `crowdsec`";
        check("actions", name, (action.ways(), all), action.hook.key_file.is_some());
    }
    for (name, action) in &config.actions {
        let is_there = |jail: &str| {
            config.jails.contains_key(jail) || ["manual", "escalation", "flood"].contains(&jail)
        };
        for jail in action.jails.iter().map(super::JailName::as_str).filter(|jail| !is_there(jail))
        {
            let names: Vec<&str> = config.jails.keys().copied().collect();
            let text = format!(
                "`actions.{name}.jails`: there is no jail `{jail}`; there are {}, `manual`, `escalation` and `flood`",
                names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
            );
            found.push((format!("actions.{name}.jails"), text));
        }
    }
    let hooks = config.alerts.iter().map(|(name, alert)| ("alerts", name, &alert.hook));
    let of_actions = config.actions.iter().map(|(name, action)| ("actions", name, &action.hook));
    found.extend(
        hooks
            .chain(of_actions)
            .filter_map(|(section, name, hook)| wrong_program(section, name, hook)),
    );
    found
}

/// A command that is not named by its path.
fn wrong_program(section: &str, name: &str, hook: &super::Hook) -> Option<(String, String)> {
    let path = hook.command.first()?.as_str();
    if path.starts_with('/') {
        return None;
    }
    let text = format!(
        "`{section}.{name}.command` begins with `{}`; write the path of the program, such as \
         `[/usr/local/bin/notify]`",
        detection::duration::snippet(path)
    );
    Some((format!("{section}.{name}.command"), text))
}

/// The errors of valid settings taken together: the path to blame and the reason.
pub(super) fn contradictions(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    if config.sip.udp.is_empty() && config.sip.tcp.is_empty() {
        let text = "`sip.udp` and `sip.tcp` are both empty, so there is nothing to protect; \
                    name the ports that Asterisk listens on";
        found.push(("sip.udp".to_owned(), text.to_owned()));
    }
    found.extend(closed_to_all(config));
    for (name, jail) in &config.jails {
        for (key, scope) in [("scope", Some(jail.scope)), ("unproven_scope", jail.unproven_scope)] {
            if let Some(Err(why)) = scope.map(|scope| config.ports.scope(config.ports.name(scope)))
            {
                found.push((format!("jails.{name}.{key}"), why));
            }
        }
    }
    for (name, feed) in &config.feeds {
        let at = |key: &str| format!("feeds.{name}.{key}");
        if let Err(why) = config.ports.scope(config.ports.name(feed.scope)) {
            found.push((at("scope"), why));
        }
        if feed.url.is_none() {
            found.push((at("url"), format!("the feed `{name}` has no list; set its `url`")));
        }
        let has_key = feed.key_file.is_some();
        if matches!(feed.format, Form::Apiban | Form::Crowdsec) && !has_key {
            let text = format!("the feed `{name}` needs a key; set its `key_file`");
            found.push((at("format"), text));
        }
    }
    let Geo { databases, ban, admit, .. } = &config.geo;
    if !ban.is_empty() && !admit.is_empty() {
        let text =
            "`geo.ban` and `geo.admit` exclude each other: `admit` lets in only what it names";
        found.push(("geo.ban".to_owned(), text.to_owned()));
    }
    if databases.is_empty() && (!ban.is_empty() || !admit.is_empty()) {
        let key = if ban.is_empty() { "geo.admit" } else { "geo.ban" };
        let text = format!("`{key}` needs a database; set `geo.databases`");
        found.push((key.to_owned(), text));
    }
    found.extend(alerts(config));
    if let Err(why) = config.ports.scope(config.ports.name(config.fleet.accept.scope)) {
        found.push(("fleet.accept.scope".to_owned(), why));
    }
    let of_fleet = super::fleet::contradictions(&config.fleet).into_iter();
    found.extend(of_fleet.map(|(path, why)| (path.to_owned(), why)));
    let Escalation { enabled, scope, ipv4, ipv6, .. } = &config.escalation;
    if let Err(why) = config.ports.scope(config.ports.name(*scope)) {
        found.push(("escalation.scope".to_owned(), why));
    }
    for (family, of) in [("ipv4", ipv4), ("ipv6", ipv6)] {
        if of.wide_prefix >= of.prefix {
            let text = format!(
                "`escalation.{family}.wide_prefix` is {}; it must be less than `prefix`, which is \
                 {}, because a wider network has a shorter prefix",
                of.wide_prefix, of.prefix
            );
            found.push((format!("escalation.{family}.wide_prefix"), text));
        }
    }
    let never = *enabled && ipv6.offenders > 1 && config.ipv6_prefix < 128;
    if never && ipv6.prefix >= config.ipv6_prefix {
        let text = format!(
            "`escalation.ipv6.prefix` is {}; it must be less than `ipv6_prefix`, which is {}, because \
             such a network is one offender",
            ipv6.prefix, config.ipv6_prefix
        );
        found.push(("escalation.ipv6.prefix".to_owned(), text));
    }
    for (name, jail) in &config.jails {
        let Some(own) = &jail.own else { continue };
        let text = if jail.filter.is_none() {
            "has no filter; set one, or remove the jail"
        } else if own.log.is_empty() && own.journal.is_empty() {
            "has nothing to read; set its `log` or its `journal`"
        } else {
            continue;
        };
        found.push((format!("jails.{name}.filter"), format!("the jail `{name}` {text}")));
    }
    let socket = config.paths.control_socket();
    let length = byte_length(&socket);
    if length > SOCKET_PATH_MAX {
        let text = format!(
            "`paths.runtime` makes the socket's path {length} bytes long; Linux allows \
             {SOCKET_PATH_MAX}"
        );
        found.push(("paths.runtime".to_owned(), text));
    }
    found
}

/// Services that must not be closed to the sources that need them.
fn closed_to_all(config: &Config) -> Vec<(String, String)> {
    let Config { exposure, sip, .. } = config;
    let is_sip = |tcp: bool, port: u16| {
        let of_sip = if tcp { &sip.tcp } else { &sip.udp };
        of_sip.iter().any(|range| range.contains(port))
    };
    let has_ssh = |service: &&Service| {
        service.ports(sip).iter().any(|(tcp, range)| *tcp && range.contains(SSH))
    };
    let mut found = Vec::new();
    for service in &exposure.closed {
        let mut ports = service.ports(sip).into_iter();
        if ports.any(|(tcp, range)| range.ports().any(|port| is_sip(tcp, port))) {
            let text = format!(
                "`exposure.closed` contains `{service}`, which carries SIP; to close SIP for a while, type \
                 `ringfence maintenance on`"
            );
            found.push(("exposure.closed".to_owned(), text));
        }
    }
    if let Some(service) = exposure.closed.iter().find(has_ssh) {
        let text = format!(
            "`exposure.closed` contains `{service}`, so nobody could log in over SSH; list it under \
             `exposure.trusted`"
        );
        found.push(("exposure.closed".to_owned(), text));
    }
    if let Some(service) = exposure.trusted.iter().find(has_ssh)
        && config.trusted.is_empty()
        && config.trusted_names.is_empty()
    {
        let text = format!(
            "`exposure.trusted` contains `{service}`, but `trusted` is empty, so nobody could log in over \
             SSH; list your own network under `trusted`"
        );
        found.push(("exposure.trusted".to_owned(), text));
    }
    found
}

/// The port of sshd, unless it is configured otherwise.
const SSH: u16 = 22;

fn byte_length(path: &Path) -> usize {
    path.as_os_str().len()
}

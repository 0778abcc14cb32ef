//! The method and path of each request: one table for the client, the daemon and the description of the
//! API.
//!
//! A request is an object with a key for each parameter. A route says which of its keys are in the path and
//! which in the query; the others are the body.

use std::fmt;

use ipnet::IpNet;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::{BanPlace, ErrorId, Maintenance, Refusal, Request, Unban};

/// What is written as it is into a path or a query: what never has a meaning there.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b',');

/// The same, and what separates the parts of a path.
const PLAIN_PATH: &AsciiSet = &PLAIN.remove(b'/');

/// What a client asks for in the header `Prefer` that wants interim replies (102) while the daemon works.
pub const WANTS_SIGNS: &str = "processing";

/// The most parameters that a request may have in its query.
const PARAMETERS_MAX: usize = 32;

/// What a request does to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// Reads.
    Get,
    /// Makes something.
    Post,
    /// Sets something.
    Put,
    /// Ends something.
    Delete,
}

impl Method {
    /// Its name in HTTP.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }

    /// Whether its requests have a body.
    pub fn has_body(self) -> bool {
        matches!(self, Self::Post | Self::Put)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a parameter is written in a path or a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As it is.
    Text,
    /// An address, or a network in CIDR notation. At the end of a path its slash need not be escaped.
    Network,
    /// Several of these, between commas.
    Networks,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Switch,
    /// A place in the list of bans, as three values between commas.
    Place,
}

/// A parameter in a path or a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Its key in the request.
    pub name: &'static str,
    /// How it is written.
    pub kind: Kind,
}

const fn parameter(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind }
}

/// The method and path of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with the names of its parameters in braces.
    pub path: &'static str,
    /// The request, by its name in [`Request`].
    pub command: &'static str,
    /// The name of the schema of the answer, in `docs/api`.
    pub answer: &'static str,
    /// Further keys of the request that follow from method and path.
    pub implied: &'static [(&'static str, &'static str)],
    /// The parameters in the path.
    pub in_path: &'static [Parameter],
    /// The parameters that may be in the query.
    pub in_query: &'static [Parameter],
    /// What a token of wazo-auth must allow for it over TCP, as an ACL. A name in a path is no part of it, because
    /// addresses contain dots.
    pub acl: &'static str,
    /// A parameter that must be `true` in the query, so that a path without a network by mistake does nothing.
    pub assured_by: Option<&'static str>,
}

impl Route {
    const fn new(
        method: Method,
        path: &'static str,
        command: &'static str,
        answer: &'static str,
        acl: &'static str,
    ) -> Self {
        Self {
            method,
            path,
            command,
            answer,
            implied: &[],
            in_path: &[],
            in_query: &[],
            acl,
            assured_by: None,
        }
    }
}

const NETWORK: &[Parameter] = &[parameter("network", Kind::Network)];

static STATUS: Route =
    Route::new(Method::Get, "/1.0/status", "status", "status", "ringfence.status.read");
static BANS: Route = Route {
    in_query: &[
        parameter("jail", Kind::Text),
        parameter("scope", Kind::Text),
        parameter("inside", Kind::Network),
        parameter("since_seconds", Kind::Number),
        parameter("first", Kind::Text),
        parameter("limit", Kind::Number),
        parameter("after", Kind::Place),
    ],
    ..Route::new(Method::Get, "/1.0/bans", "bans", "bans", "ringfence.bans.read")
};
static ACTIVE: Route = Route {
    in_query: &[parameter("limit", Kind::Number), parameter("packets", Kind::Networks)],
    ..Route::new(Method::Get, "/1.0/attackers", "active", "active", "ringfence.attackers.read")
};
static BAN: Route = Route::new(Method::Post, "/1.0/bans", "ban", "ban", "ringfence.bans.create");
static BAN_MANY: Route =
    Route::new(Method::Post, "/1.0/bans/batch", "ban-many", "ban-many", "ringfence.bans.create");
static TAKE_OVER: Route =
    Route::new(Method::Post, "/1.0/bans/import", "take-over", "take-over", "ringfence.bans.create");
static UNBAN: Route = Route {
    implied: &[("which", "network")],
    in_path: NETWORK,
    in_query: &[parameter("inside", Kind::Switch)],
    ..Route::new(Method::Delete, "/1.0/bans/{network}", "unban", "unban", "ringfence.bans.delete")
};
static UNBAN_MANY: Route = Route {
    implied: &[("which", "networks")],
    ..Route::new(Method::Post, "/1.0/bans/lift", "unban", "unban", "ringfence.bans.delete")
};
static UNBAN_MANUAL: Route = Route {
    implied: &[("which", "manual")],
    ..Route::new(Method::Post, "/1.0/bans/lift/manual", "unban", "unban", "ringfence.bans.delete")
};
static UNBAN_JAIL: Route = Route {
    implied: &[("which", "jail")],
    in_path: &[parameter("jail", Kind::Text)],
    ..Route::new(
        Method::Delete,
        "/1.0/jails/{jail}/bans",
        "unban",
        "unban",
        "ringfence.bans.delete",
    )
};
static UNBAN_ALL: Route = Route {
    implied: &[("which", "all")],
    assured_by: Some("all"),
    ..Route::new(Method::Delete, "/1.0/bans", "unban", "unban", "ringfence.bans.delete")
};
static WHY: Route = Route {
    in_path: &[parameter("address", Kind::Text)],
    ..Route::new(Method::Get, "/1.0/sources/{address}", "why", "why", "ringfence.sources.read")
};
static JAILS: Route =
    Route::new(Method::Get, "/1.0/jails", "jails", "jails", "ringfence.jails.read");
static SET: Route = Route {
    in_path: &[parameter("jail", Kind::Text), parameter("setting", Kind::Text)],
    ..Route::new(
        Method::Put,
        "/1.0/jails/{jail}/settings/{setting}",
        "set",
        "set",
        "ringfence.jails.update",
    )
};
static FEEDS: Route =
    Route::new(Method::Get, "/1.0/feeds", "feeds", "feeds", "ringfence.feeds.read");
static FEEDS_CONFIRM: Route = Route {
    in_path: &[parameter("name", Kind::Text)],
    ..Route::new(
        Method::Post,
        "/1.0/feeds/{name}/confirm",
        "feeds-confirm",
        "feeds-confirm",
        "ringfence.feeds.update",
    )
};
static ALERTS: Route =
    Route::new(Method::Get, "/1.0/alerts", "alerts", "alerts", "ringfence.alerts.read");
static ALERTS_TEST: Route = Route::new(
    Method::Post,
    "/1.0/alerts/test",
    "alerts-test",
    "alerts-test",
    "ringfence.alerts.create",
);
static FLEET: Route =
    Route::new(Method::Get, "/1.0/fleet", "fleet", "fleet", "ringfence.fleet.read");
static FLEET_REPORT: Route = Route::new(
    Method::Post,
    "/1.0/fleet/report",
    "fleet-report",
    "fleet-settings",
    "ringfence.fleet.agent",
);
static FLEET_BANS: Route = Route::new(
    Method::Post,
    "/1.0/fleet/bans",
    "fleet-bans",
    "fleet-bans",
    "ringfence.fleet.agent",
);
static FLEET_ALLOWS: Route =
    Route::new(Method::Put, "/1.0/fleet/allows", "fleet-allows", "allows", "ringfence.fleet.agent");
static FLEET_CUT: Route = Route {
    in_path: &[parameter("host", Kind::Text)],
    ..Route::new(
        Method::Put,
        "/1.0/fleet/cuts/{host}",
        "fleet-cut",
        "fleet-cut",
        "ringfence.fleet.update",
    )
};
static FLEET_JOIN: Route = Route {
    in_path: &[parameter("host", Kind::Text)],
    ..Route::new(
        Method::Delete,
        "/1.0/fleet/cuts/{host}",
        "fleet-join",
        "fleet-cut",
        "ringfence.fleet.update",
    )
};
static PEERS: Route = Route {
    in_query: &[parameter("inside", Kind::Network), parameter("after", Kind::Text)],
    ..Route::new(Method::Get, "/1.0/peers", "peers", "peers", "ringfence.peers.read")
};
static HISTORY: Route = Route {
    in_query: &[
        parameter("network", Kind::Network),
        parameter("since_seconds", Kind::Number),
        parameter("before", Kind::Number),
    ],
    ..Route::new(Method::Get, "/1.0/history", "history", "history", "ringfence.history.read")
};
static MAINTENANCE: Route = Route {
    implied: &[("maintenance", "status")],
    ..Route::new(
        Method::Get,
        "/1.0/maintenance",
        "maintenance",
        "maintenance",
        "ringfence.maintenance.read",
    )
};
static MAINTENANCE_ON: Route = Route {
    implied: &[("maintenance", "on")],
    ..Route::new(
        Method::Put,
        "/1.0/maintenance",
        "maintenance",
        "maintenance",
        "ringfence.maintenance.update",
    )
};
static MAINTENANCE_OFF: Route = Route {
    implied: &[("maintenance", "off")],
    ..Route::new(
        Method::Delete,
        "/1.0/maintenance",
        "maintenance",
        "maintenance",
        "ringfence.maintenance.update",
    )
};
static ALLOWS: Route =
    Route::new(Method::Get, "/1.0/allows", "allows", "allows", "ringfence.allows.read");
static ALLOW: Route = Route {
    in_path: NETWORK,
    ..Route::new(Method::Put, "/1.0/allows/{network}", "allow", "allow", "ringfence.allows.update")
};
static DISALLOW: Route = Route {
    in_path: NETWORK,
    ..Route::new(
        Method::Delete,
        "/1.0/allows/{network}",
        "disallow",
        "allow",
        "ringfence.allows.delete",
    )
};
static CONFIRM: Route =
    Route::new(Method::Post, "/1.0/confirm", "confirm", "confirm", "ringfence.confirm.create");
static TRAFFIC: Route = Route {
    in_query: &[parameter("step", Kind::Text), parameter("since_seconds", Kind::Number)],
    ..Route::new(Method::Get, "/1.0/traffic", "traffic", "traffic", "ringfence.traffic.read")
};
static PAGE_LINK: Route =
    Route::new(Method::Post, "/1.0/page", "page-link", "page-link", "ringfence.page.create");
static RELOAD: Route =
    Route::new(Method::Post, "/1.0/reload", "reload", "reload", "ringfence.reload.create");

/// All routes, by path.
pub static ROUTES: [&Route; 36] = [
    &STATUS,
    &ACTIVE,
    &BANS,
    &BAN,
    &UNBAN_ALL,
    &BAN_MANY,
    &TAKE_OVER,
    &UNBAN_MANY,
    &UNBAN_MANUAL,
    &UNBAN,
    &WHY,
    &JAILS,
    &UNBAN_JAIL,
    &SET,
    &FEEDS,
    &FEEDS_CONFIRM,
    &ALERTS,
    &ALERTS_TEST,
    &FLEET,
    &FLEET_REPORT,
    &FLEET_BANS,
    &FLEET_ALLOWS,
    &FLEET_CUT,
    &FLEET_JOIN,
    &PEERS,
    &HISTORY,
    &TRAFFIC,
    &MAINTENANCE,
    &MAINTENANCE_ON,
    &MAINTENANCE_OFF,
    &ALLOWS,
    &ALLOW,
    &DISALLOW,
    &CONFIRM,
    &PAGE_LINK,
    &RELOAD,
];

impl Request {
    /// Its method and path.
    pub fn route(&self) -> &'static Route {
        match self {
            Self::Status => &STATUS,
            Self::Bans(_) => &BANS,
            Self::Active(_) => &ACTIVE,
            Self::Jails => &JAILS,
            Self::Why { .. } => &WHY,
            Self::Ban { .. } => &BAN,
            Self::BanMany { .. } => &BAN_MANY,
            Self::TakeOver { .. } => &TAKE_OVER,
            Self::Maintenance(Maintenance::Status) => &MAINTENANCE,
            Self::Maintenance(Maintenance::On { .. }) => &MAINTENANCE_ON,
            Self::Maintenance(Maintenance::Off) => &MAINTENANCE_OFF,
            Self::Unban(Unban::Network { .. }) => &UNBAN,
            Self::Unban(Unban::Networks { .. }) => &UNBAN_MANY,
            Self::Unban(Unban::Manual { .. }) => &UNBAN_MANUAL,
            Self::Unban(Unban::Jail { .. }) => &UNBAN_JAIL,
            Self::Unban(Unban::All) => &UNBAN_ALL,
            Self::Confirm => &CONFIRM,
            Self::PageLink => &PAGE_LINK,
            Self::Allow { .. } => &ALLOW,
            Self::Disallow { .. } => &DISALLOW,
            Self::Allows => &ALLOWS,
            Self::Set { .. } => &SET,
            Self::Feeds => &FEEDS,
            Self::FeedsConfirm { .. } => &FEEDS_CONFIRM,
            Self::Alerts => &ALERTS,
            Self::AlertsTest { .. } => &ALERTS_TEST,
            Self::Fleet => &FLEET,
            Self::FleetReport(_) => &FLEET_REPORT,
            Self::FleetBans(_) => &FLEET_BANS,
            Self::FleetAllows { .. } => &FLEET_ALLOWS,
            Self::FleetCut { .. } => &FLEET_CUT,
            Self::FleetJoin { .. } => &FLEET_JOIN,
            Self::Peers { .. } => &PEERS,
            Self::History(_) => &HISTORY,
            Self::Traffic(_) => &TRAFFIC,
            Self::Reload { .. } => &RELOAD,
        }
    }
}

/// A request as HTTP has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// The path, with the query.
    pub target: String,
    /// The body, in JSON.
    pub body: Option<String>,
}

impl Call {
    /// The call of a request.
    ///
    /// # Errors
    ///
    /// If the request cannot be written as JSON.
    pub fn of(request: &Request) -> serde_json::Result<Self> {
        let route = request.route();
        let Value::Object(mut keys) = serde_json::to_value(request)? else {
            return Err(serde::ser::Error::custom("a request is an object"));
        };
        keys.remove("command");
        for (key, _) in route.implied {
            keys.remove(*key);
        }
        let mut target = String::new();
        for part in route.path.split('/').skip(1) {
            target.push('/');
            match named(part).and_then(|name| route.in_path.iter().find(|one| one.name == name)) {
                Some(Parameter { name, kind }) => {
                    let text = keys.remove(*name).map(|value| text(&value)).unwrap_or_default();
                    let plain = if *kind == Kind::Network { PLAIN_PATH } else { PLAIN };
                    target.extend(utf8_percent_encode(&text, plain));
                }
                None => target.push_str(part),
            }
        }
        let assured = route.assured_by.map(|name| (name, "true".to_owned()));
        let in_query = route.in_query.iter().filter_map(|parameter| {
            let value = keys.remove(parameter.name).filter(|value| !value.is_null())?;
            Some((parameter.name, text(&value)))
        });
        let in_query: Vec<_> = assured.into_iter().chain(in_query).collect();
        for (place, (name, value)) in in_query.iter().enumerate() {
            target.push(if place == 0 { '?' } else { '&' });
            target.push_str(name);
            target.push('=');
            target.extend(utf8_percent_encode(value, PLAIN));
        }
        let body = route.method.has_body().then(|| Value::Object(keys).to_string());
        Ok(Self { method: route.method, target, body })
    }
}

/// A value as it is written in a path or a query.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(place) => {
            let part = |key: &str| place.get(key).map(text).unwrap_or_default();
            [part("network"), part("origin"), part("scope")].join(",")
        }
        Value::Array(several) => several.iter().map(text).collect::<Vec<_>>().join(","),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// The name of a parameter in a part of a route's path.
fn named(part: &str) -> Option<&str> {
    part.strip_prefix('{')?.strip_suffix('}')
}

/// Finds the route of a call, and reads its request.
///
/// # Errors
///
/// If there is no such route, or the call is not complete or has something unknown.
pub fn find(method: &str, target: &str, body: &[u8]) -> Result<(&'static Route, Request), Refusal> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let there: Vec<_> =
        ROUTES.iter().filter_map(|route| Some((*route, in_path(route, path)?))).collect();
    if there.is_empty() {
        let why = "there is nothing at this path; `/1.0/api/api.yml` lists what there is";
        return Err(Refusal::new(ErrorId::NoSuchEndpoint, why));
    }
    let Some((route, texts)) = there.iter().find(|(route, _)| route.method.as_str() == method)
    else {
        let why = format!("this path has only {}", methods(path).join(", "));
        return Err(Refusal::new(ErrorId::MethodNotAllowed, why));
    };
    let mut keys = if route.method.has_body() { object(body)? } else { Map::new() };
    for (parameter, text) in route.in_path.iter().zip(texts) {
        put(&mut keys, parameter.name, value(*parameter, text)?)?;
    }
    let mut is_assured = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()).take(PARAMETERS_MAX + 1) {
        let (name, text) = pair.split_once('=').unwrap_or((pair, ""));
        let text = decoded(&text.replace('+', " "))?;
        if route.assured_by == Some(name) {
            is_assured = text == "true";
            continue;
        }
        let Some(parameter) = route.in_query.iter().find(|one| one.name == name) else {
            return Err(unknown(route, name));
        };
        put(&mut keys, name, value(*parameter, &text)?)?;
    }
    if let Some(name) = route.assured_by
        && !is_assured
    {
        return Err(invalid(format!("this applies to everything, so it needs `?{name}=true`")));
    }
    for (name, value) in route.implied.iter().chain([&("command", route.command)]) {
        put(&mut keys, name, Value::from(*value))?;
    }
    let request = serde_json::from_value(Value::Object(keys));
    request.map(|request| (*route, request)).map_err(|why| invalid(why.to_string()))
}

/// The methods that a path has.
pub fn methods(path: &str) -> Vec<&'static str> {
    let path = path.split('?').next().unwrap_or_default();
    let there = ROUTES.iter().filter(|route| in_path(route, path).is_some());
    let mut methods: Vec<_> = there.map(|route| route.method.as_str()).collect();
    methods.dedup();
    methods
}

/// The part of the API that a path is about, such as `bans`, and what it names there.
pub fn resource(target: &str) -> (Option<String>, Option<String>) {
    let path = target.split('?').next().unwrap_or_default();
    let Some(rest) = path.strip_prefix("/1.0/") else { return (None, None) };
    let (kind, id) = rest.split_once('/').unwrap_or((rest, ""));
    let known = ROUTES.iter().find(|route| route.path.split('/').nth(2) == Some(kind));
    let id = decoded(id).ok().filter(|id| !id.is_empty());
    (known.map(|_| kind.to_owned()), id)
}

/// The parameters in a path, if it is that of a route.
fn in_path(route: &Route, path: &str) -> Option<Vec<String>> {
    let mut rest = path.strip_prefix('/')?;
    let mut texts = Vec::new();
    let mut parts = route.path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let kind = route.in_path.get(texts.len()).map(|parameter| parameter.kind);
        let takes_all = named(part).is_some() && is_last && kind == Some(Kind::Network);
        let (this, behind) = match rest.split_once('/') {
            Some(split) if !takes_all => (split.0, Some(split.1)),
            Some(_) | None => (rest, None),
        };
        match named(part) {
            Some(_) if !this.is_empty() => texts.push(decoded(this).ok()?),
            None if this == part => {}
            Some(_) | None => return None,
        }
        match behind {
            Some(behind) if !is_last => rest = behind,
            None if is_last => {}
            Some(_) | None => return None,
        }
    }
    Some(texts)
}

/// The value of a parameter.
fn value(parameter: Parameter, text: &str) -> Result<Value, Refusal> {
    let name = parameter.name;
    let wrong = |what: &str| invalid(format!("`{name}` must be {what}"));
    Ok(match parameter.kind {
        Kind::Text => Value::from(text),
        Kind::Network => Value::from(network(text).ok_or_else(|| {
            wrong("an address or a network, such as 192.0.2.66 or 2001:db8::/64")
        })?),
        Kind::Networks => {
            let several: Option<Vec<String>> = text.split(',').map(network).collect();
            Value::from(several.ok_or_else(|| wrong("addresses and networks, between commas"))?)
        }
        Kind::Number => match (text.parse::<u64>(), text.parse::<i64>()) {
            (Ok(number), _) => Value::from(number),
            (_, Ok(number)) => Value::from(number),
            _ => return Err(wrong("a whole number")),
        },
        Kind::Switch => {
            Value::from(text.parse::<bool>().ok().ok_or_else(|| wrong("true or false"))?)
        }
        Kind::Place => {
            let place = || -> Option<BanPlace> {
                let mut parts = text.split(',');
                let mut part = || parts.next();
                Some(BanPlace {
                    network: part()?.parse().ok()?,
                    origin: part()?.parse().ok()?,
                    scope: part()?.parse().ok()?,
                })
            };
            let place = place().ok_or_else(|| wrong("the values of `next`, between commas"))?;
            serde_json::to_value(place).map_err(|why| invalid(why.to_string()))?
        }
    })
}

/// A network, with its prefix length.
fn network(text: &str) -> Option<String> {
    let network = text.parse::<std::net::IpAddr>().map(IpNet::from);
    network.or_else(|_| text.parse()).ok().map(|network| network.to_string())
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let text = percent_decode_str(text).decode_utf8();
    let text = text.map(Into::into);
    text.map_err(|why| invalid(format!("the path or the query is not UTF-8: {why}")))
}

/// The keys in a body.
fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(keys)) => Ok(keys),
        Ok(_) => Err(invalid("the body must be a JSON object".to_owned())),
        Err(why) => Err(invalid(format!("the body is not JSON: {why}"))),
    }
}

/// Adds a key that must not be there yet.
fn put(keys: &mut Map<String, Value>, name: &str, value: Value) -> Result<(), Refusal> {
    match keys.insert(name.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(invalid(format!("`{name}` is given twice, or has no place in the body"))),
    }
}

fn unknown(route: &Route, name: &str) -> Refusal {
    let known = route.in_query.iter().map(|parameter| parameter.name).chain(route.assured_by);
    let known: Vec<_> = known.collect();
    let name: String = name.chars().filter(char::is_ascii_graphic).take(40).collect();
    invalid(match &known[..] {
        [] => format!("`{name}`: this path has no parameters in its query"),
        known => format!("`{name}` is no parameter of this path; there are {}", known.join(", ")),
    })
}

fn invalid(why: String) -> Refusal {
    Refusal::new(ErrorId::InvalidRequest, why)
}

#[cfg(test)]
mod tests;

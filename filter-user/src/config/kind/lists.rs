//! Lists, except for those of hosts.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::str::FromStr;

use ::geo::{SELECTORS_MAX, Selector};
use serde_json::{Value as Json, json};

use super::numbers::decimal;
use super::texts::absolute_path;
use super::{Kind, Read, Wrong, at_most, is_invisible, many};
use crate::config::yaml::Node;
use crate::config::{MULTIPLIERS_MAX, PortRange, Service, USER_AGENTS_MAX, UserAgent};
use crate::duration::snippet;

/// The longest interface name in bytes: Linux's `IFNAMSIZ` without the final NUL.
const INTERFACE_NAME_MAX: usize = 15;

/// Whole numbers above 0.
pub(crate) struct Multipliers<'a>(pub(crate) &'a mut Vec<u32>);

impl Kind for Multipliers<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = at_most(node, MULTIPLIERS_MAX, many(node, |scalar| multiplier(&scalar.text))?)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().copied().map(Json::from).collect()
    }

    fn expected(&self) -> String {
        "a list of whole numbers such as `[1, 2, 4, 8, 16]`".into()
    }

    fn example(&self) -> Json {
        json!([1, 2, 4, 8, 16])
    }
}

/// Texts with a rule, at most so many; with a description and an example.
pub(crate) struct Items<'a, T>(
    pub(crate) &'a mut Vec<T>,
    pub(crate) usize,
    pub(crate) &'static str,
    pub(crate) &'static [&'static str],
);

impl<T: FromStr<Err = String> + ToString> Kind for Items<'_, T> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = at_most(node, self.1, many(node, |scalar| scalar.text.parse())?)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|item| Json::from(item.to_string())).collect()
    }

    fn expected(&self) -> String {
        self.2.into()
    }

    fn example(&self) -> Json {
        self.3.iter().copied().map(Json::from).collect()
    }
}

/// The names of interfaces.
pub(crate) struct Interfaces<'a>(pub(crate) &'a mut Vec<String>);

impl Kind for Interfaces<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let names = many(node, |scalar| interface(&scalar.text))?;
        *self.0 = once(node, names, Clone::clone)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|name| Json::from(&**name)).collect()
    }

    fn expected(&self) -> String {
        "a list of interface names such as `[eth0]`".into()
    }

    fn example(&self) -> Json {
        json!(["eth0"])
    }
}

/// Ports and ranges of them.
pub(crate) struct Ports<'a>(pub(crate) &'a mut Vec<PortRange>);

impl Kind for Ports<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = many(node, |scalar| ports(&scalar.text))?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|range| port_json(*range)).collect()
    }

    fn expected(&self) -> String {
        "a list of ports such as `[5060, \"5070-5080\"]`".into()
    }

    fn example(&self) -> Json {
        json!([5060, "5070-5080"])
    }

    fn unit(&self) -> &'static str {
        "port numbers"
    }
}

/// Services, by name or ports.
pub(crate) struct Services<'a>(pub(crate) &'a mut Vec<Service>);

impl Kind for Services<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let services = many(node, |scalar| scalar.text.parse::<Service>())?;
        *self.0 = once(node, services, ToString::to_string)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|service| Json::from(service.to_string())).collect()
    }

    fn expected(&self) -> String {
        "a list of services such as `[postgresql, 8080/tcp]`".into()
    }

    fn example(&self) -> Json {
        json!(["postgresql", "8080/tcp"])
    }
}

/// Absolute paths, at most so many.
pub(crate) struct Files<'a>(pub(crate) &'a mut Vec<PathBuf>, pub(crate) usize);

impl Kind for Files<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let path = |scalar: &_| match absolute_path(scalar) {
            Ok(path) => Ok(path),
            Err(Wrong::Mismatch(why)) => Err(format!("{why} is no absolute path")),
            Err(Wrong::Value(why) | Wrong::Item(why)) => Err(why),
        };
        *self.0 = at_most(node, self.1, many(node, path)?)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|path| Json::from(path.display().to_string())).collect()
    }

    fn expected(&self) -> String {
        "a list of absolute paths such as `[/usr/share/GeoIP/GeoLite2-Country.mmdb]`".into()
    }

    fn example(&self) -> Json {
        json!(["/usr/share/GeoIP/GeoLite2-Country.mmdb"])
    }
}

/// Countries and AS numbers.
pub(crate) struct Places<'a>(pub(crate) &'a mut Vec<Selector>);

impl Kind for Places<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let places = many(node, |scalar| scalar.text.parse::<Selector>())?;
        *self.0 = at_most(node, SELECTORS_MAX, once(node, places, ToString::to_string)?)?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|place| Json::from(place.to_string())).collect()
    }

    fn expected(&self) -> String {
        "a list of countries and AS numbers such as `[DE, AS3320]`".into()
    }

    fn example(&self) -> Json {
        json!(["DE", "AS3320"])
    }
}

/// User-Agents.
pub(crate) struct UserAgents<'a>(pub(crate) &'a mut Vec<UserAgent>);

impl Kind for UserAgents<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let names = many(node, |scalar| scalar.text.parse::<UserAgent>())?;
        let names = at_most(node, USER_AGENTS_MAX, names)?;
        *self.0 = once(node, names, |name| name.to_string().to_ascii_lowercase())?;
        Ok(())
    }

    fn value(&self) -> Json {
        self.0.iter().map(|name| Json::from(name.to_string())).collect()
    }

    fn expected(&self) -> String {
        "a list of User-Agents such as `[sipcli*, iWar]`".into()
    }

    fn example(&self) -> Json {
        json!(["sipcli*", "iWar"])
    }
}

fn multiplier(text: &str) -> Result<u32, String> {
    decimal(text).filter(|value| *value > 0).ok_or_else(|| {
        format!("`{}` is not a multiplier; write a whole number above 0", snippet(text))
    })
}

/// `values`, if no two of them have the same key.
fn once<T: ToString>(node: &Node, values: Vec<T>, key: impl Fn(&T) -> String) -> Read<Vec<T>> {
    let mut seen = BTreeSet::new();
    match values.iter().find(|value| !seen.insert(key(value))) {
        Some(twice) => {
            let reason = format!("`{}` is listed twice", snippet(&twice.to_string()));
            Err(vec![(node.at, Wrong::Value(reason))])
        }
        None => Ok(values),
    }
}

/// Accepts what Linux's `dev_valid_name` does.
fn interface(name: &str) -> Result<String, String> {
    let shown = snippet(name);
    if name.len() > INTERFACE_NAME_MAX {
        return Err(format!(
            "`{shown}` is too long; Linux's interface names have at most {INTERFACE_NAME_MAX} bytes"
        ));
    }
    let strange = |c: char| c == '/' || c == ':' || c.is_whitespace() || is_invisible(c);
    if name.is_empty() || name == "." || name == ".." || name.contains(strange) {
        return Err(format!("`{shown}` is not an interface name; write one such as `eth0`"));
    }
    Ok(name.to_owned())
}

fn ports(text: &str) -> Result<PortRange, String> {
    let shown = snippet(text);
    let port = |text: &str| {
        decimal(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(format!(
            "`{shown}` is not a port; write a number from 1 to 65535 or a range such as \
             `\"5060-5070\"`"
        ));
    };
    if first > last {
        return Err(format!("write `{shown}` with the lower port first: `\"{last}-{first}\"`"));
    }
    Ok(PortRange { first, last })
}

fn port_json(range: PortRange) -> Json {
    if range.first == range.last { Json::from(range.first) } else { Json::from(range.to_string()) }
}

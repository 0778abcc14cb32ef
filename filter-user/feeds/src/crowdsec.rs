//! The decisions of CrowdSec's local API: those that are new and those that are deleted.

use std::borrow::Cow;

use serde::Deserialize;

use crate::list::Listed;
use crate::text::network;
use crate::{Parsed, push};

/// The path of its stream of decisions.
pub const STREAM: &str = "/v1/decisions/stream";

/// The origin of decisions that a Ringfence has told it of.
pub const ORIGIN: &str = "ringfence";

#[derive(Deserialize)]
struct Stream<'a> {
    #[serde(borrow, default)]
    new: Option<Vec<Decision<'a>>>,
    #[serde(borrow, default)]
    deleted: Option<Vec<Decision<'a>>>,
}

#[derive(Deserialize)]
struct Decision<'a> {
    #[serde(borrow, default)]
    origin: Cow<'a, str>,
    #[serde(borrow)]
    duration: Cow<'a, str>,
    #[serde(borrow)]
    scope: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

impl Decision<'_> {
    /// Whether it bans an address or a network. Others show a captcha, or are about countries and users. What comes
    /// from Ringfence is banned by it already, and must not come back as the ban of somebody else.
    fn bans(&self) -> bool {
        let is = |name: &str| self.scope.eq_ignore_ascii_case(name);
        self.origin != ORIGIN && self.kind.eq_ignore_ascii_case("ban") && (is("ip") || is("range"))
    }
}

/// Reads a part of the stream that was fetched at `now`.
pub(crate) fn decisions(bytes: &[u8], now: u64) -> Result<Parsed, String> {
    let Ok(stream) = serde_json::from_slice::<Stream<'_>>(bytes) else {
        return Err("it is not the stream of decisions of CrowdSec's local API".to_owned());
    };
    let mut parsed = Parsed::default();
    let deleted = stream.deleted.unwrap_or_default();
    parsed.deleted =
        deleted.iter().filter(|d| d.bans()).filter_map(|d| network(&d.value)).collect();
    for (place, decision) in (1..).zip(stream.new.unwrap_or_default()) {
        if !decision.bans() {
            continue;
        }
        match (network(&decision.value), seconds(&decision.duration)) {
            (Some(network), Some(seconds)) => {
                let until = u32::try_from(now.saturating_add(seconds)).unwrap_or(u32::MAX);
                push(&mut parsed, Listed { network, until })?;
            }
            (None, _) | (_, None) => parsed.unread.add(place, decision.value.as_bytes()),
        }
    }
    Ok(parsed)
}

/// A duration as Go writes it, such as `3h59m57.6s`, in whole seconds. One that is over is `None`.
fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, behind) = unit.split_at(length);
        total += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = behind;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive, and a cast stays within the bounds of the type"
    )]
    (total >= 1.0 && total.is_finite()).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_about_addresses_and_networks() {
        let text = br#"{"deleted":[{"duration":"-1h","id":1,"origin":"cscli","scenario":"x","scope":"Ip",
            "type":"ban","value":"185.0.0.9"},{"duration":"-1h","id":2,"origin":"ringfence","scenario":"ringfence/sshd",
            "scope":"Ip","type":"ban","value":"185.0.0.8"}],"new":[
            {"duration":"1h","origin":"ringfence","scenario":"ringfence/sshd","scope":"Ip","type":"ban","value":"185.0.0.7"},
            {"duration":"3h59m57.64s","origin":"cscli","scenario":"manual","scope":"Ip","type":"ban","value":"185.0.0.1"},
            {"duration":"10s","origin":"cscli","scenario":"manual","scope":"Range","type":"ban","value":"185.0.1.0/24"},
            {"duration":"10s","origin":"cscli","scenario":"manual","scope":"Ip","type":"captcha","value":"185.0.0.2"},
            {"duration":"10s","origin":"cscli","scenario":"manual","scope":"Country","type":"ban","value":"XX"},
            {"duration":"10x","origin":"cscli","scenario":"manual","scope":"Ip","type":"ban","value":"185.0.0.3"}]}"#;
        let parsed = decisions(text, 1000).unwrap();
        let ends: Vec<u32> = parsed.listed.iter().map(|entry| entry.until).collect();
        assert_eq!((ends, parsed.unread.count), (vec![15_397, 1010], 1));
        assert_eq!(parsed.deleted, ["185.0.0.9/32".parse().unwrap()]);
        let nothing = decisions(br#"{"deleted":null,"new":null}"#, 1000).unwrap();
        assert_eq!(nothing, Parsed::default());
        assert!(decisions(br#"{"message":"access forbidden","new":1}"#, 1000).is_err());
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, expected) in [
            ("1h", Some(3600)),
            ("1h2m3s", Some(3723)),
            ("1500ms", Some(1)),
            ("-5s", None),
            ("0s", None),
            ("5", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}

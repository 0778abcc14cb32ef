//! Lists in JSON. A document is read without being built in memory, since it may have a million members.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

use crate::form::Pointer;
use crate::list::Listed;
use crate::text::network;
use crate::{Parsed, push};

/// Reads the list at a pointer, and the network in each of its members.
pub(crate) fn read(bytes: &[u8], list: &Pointer, member: &Pointer) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let mut found = false;
    let way = Way { steps: &list.0, member: &member.0, parsed: &mut parsed, found: &mut found };
    way.deserialize(&mut document)
        .and_then(|()| document.end())
        .map_err(|why| format!("it is not the JSON that is expected: {why}"))?;
    if !found {
        return Err(format!("it has no list at `{list}`"));
    }
    Ok(parsed)
}

/// On the way to the list.
struct Way<'a> {
    steps: &'a [String],
    member: &'a [String],
    parsed: &'a mut Parsed,
    found: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Way<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, document: D) -> Result<(), D::Error> {
        document.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Way<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { steps, member, parsed, found } = self;
        let (first, rest) = steps.split_first().map_or((None, steps), |(f, r)| (Some(f), r));
        while let Some(key) = map.next_key::<String>()? {
            if first == Some(&key) && !*found {
                let (parsed, found) = (&mut *parsed, &mut *found);
                map.next_value_seed(Way { steps: rest, member, parsed, found })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { steps, member, parsed, found } = self;
        let Some((step, rest)) = steps.split_first() else {
            *found = true;
            let mut place = 0_u64;
            loop {
                place += 1;
                let read = Member { steps: member, parsed: &mut *parsed, place };
                if members.next_element_seed(read)?.is_none() {
                    return Ok(());
                }
            }
        };
        let wanted = step.parse::<u64>().ok();
        for place in 0_u64.. {
            let done = if wanted == Some(place) && !*found {
                let (parsed, found) = (&mut *parsed, &mut *found);
                members.next_element_seed(Way { steps: rest, member, parsed, found })?
            } else {
                members.next_element::<IgnoredAny>()?.map(drop)
            };
            if done.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// In a member of the list.
struct Member<'a> {
    steps: &'a [String],
    parsed: &'a mut Parsed,
    place: u64,
}

impl Member<'_> {
    fn unread(self, text: &str) {
        self.parsed.unread.add(self.place, text.as_bytes());
    }
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, document: D) -> Result<(), D::Error> {
        document.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an address")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let Some(network) = network(text).filter(|_| self.steps.is_empty()) else {
            self.unread(text);
            return Ok(());
        };
        push(self.parsed, Listed { network, until: 0 }).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { steps, parsed, place } = self;
        let (first, rest) = steps.split_first().map_or((None, steps), |(f, r)| (Some(f), r));
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if first == Some(&key) && !found {
                found = true;
                map.next_value_seed(Member { steps: rest, parsed: &mut *parsed, place })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if !found {
            parsed.unread.add(place, b"{...}");
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { steps, parsed, place } = self;
        let step = steps.split_first();
        let wanted = step.and_then(|(step, _)| step.parse::<u64>().ok());
        let mut found = false;
        for at in 0_u64.. {
            let done = match step {
                Some((_, steps)) if wanted == Some(at) => {
                    found = true;
                    members.next_element_seed(Member { steps, parsed: &mut *parsed, place })?
                }
                Some(_) | None => members.next_element::<IgnoredAny>()?.map(drop),
            };
            if done.is_none() {
                break;
            }
        }
        if !found {
            parsed.unread.add(place, b"[...]");
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.unread(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.unread(&value.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.unread(&value.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.unread(&value.to_string());
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.unread("null");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str, list: &str, member: &str) -> Result<Vec<String>, String> {
        let parsed = read(text.as_bytes(), &list.parse().unwrap(), &member.parse().unwrap())?;
        Ok(parsed.listed.iter().map(|entry| entry.network.to_string()).collect())
    }

    #[test]
    fn a_pointer_leads_to_the_list() {
        let one = vec!["185.0.0.1/32".to_owned()];
        for (text, list, member) in [
            (r#"["185.0.0.1"]"#, "", ""),
            (r#"{"x": [1, {"y": 2}], "a": {"b": ["185.0.0.1", 7, null]}}"#, "/a/b", ""),
            (r#"{"a/b": [{"ip": "185.0.0.1", "n": [1]}, {"no": 1}]}"#, "/a~1b", "/ip"),
            (r#"[{"no": 1}, [{"net": ["x", "185.0.0.1/32"]}]]"#, "/1", "/net/1"),
        ] {
            assert_eq!(listed(text, list, member).as_ref(), Ok(&one), "{text}");
        }
        for (text, list) in [("{}", "/a"), (r#"{"a": 7}"#, "/a"), ("[", ""), ("[] x", ""), ("", "")]
        {
            assert!(listed(text, list, "").is_err(), "{text}");
        }
    }

    #[test]
    fn a_deep_document_is_no_danger() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(listed(&deep, "", ""), Ok(Vec::new()));
        assert!(listed(&format!("{{\"a\":{deep}}}"), "/b", "").is_err());
    }
}

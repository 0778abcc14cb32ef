//! Numbers, and texts that stand for one: durations and rates.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::Value as Json;

use super::{Kind, Read, Wrong, mismatch, one};
use crate::config;
use crate::config::yaml::{Node, Scalar};
use crate::duration::{self, Compact};

/// A whole number in a range, with the name of the counted things.
pub(crate) struct Count<'a>(
    pub(crate) &'a mut u32,
    pub(crate) RangeInclusive<u32>,
    pub(crate) &'static str,
);

impl Kind for Count<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| count(scalar, &self.1))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(*self.0)
    }

    fn expected(&self) -> String {
        format!("a whole number from {} to {}", self.1.start(), self.1.end())
    }

    fn example(&self) -> Json {
        // A default of 0 switches something off.
        if *self.0 == 0 { Json::from(*self.1.end().min(&20)) } else { self.value() }
    }

    fn unit(&self) -> &'static str {
        self.2
    }
}

/// The length of a prefix in a range.
pub(crate) struct Length<'a>(pub(crate) &'a mut u8, pub(crate) RangeInclusive<u8>);

impl Kind for Length<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| length(scalar, &self.1))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(*self.0)
    }

    fn expected(&self) -> String {
        format!("a length in bits from {} to {}", self.1.start(), self.1.end())
    }

    fn unit(&self) -> &'static str {
        "bits"
    }
}

/// A port.
pub(crate) struct Port<'a>(pub(crate) &'a mut u16);

impl Kind for Port<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, port)?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(*self.0)
    }

    fn expected(&self) -> String {
        "a port from 1 to 65535".into()
    }

    fn unit(&self) -> &'static str {
        "port numbers"
    }
}

/// A duration in a range.
pub(crate) struct Time<'a>(pub(crate) &'a mut Duration, pub(crate) RangeInclusive<Duration>);

impl Kind for Time<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| time(scalar, &self.1))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(duration::format(*self.0))
    }

    fn expected(&self) -> String {
        expected_time(&self.1)
    }

    fn example(&self) -> Json {
        usual_time(&self.1)
    }

    fn unit(&self) -> &'static str {
        "time"
    }
}

/// A duration in a range, or none at all: `0`.
pub(crate) struct TimeOrZero<'a>(pub(crate) &'a mut Duration, pub(crate) RangeInclusive<Duration>);

impl Kind for TimeOrZero<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        let Self(value, range) = self;
        **value = one(node, |scalar| {
            let is_zero = duration::parse(&scalar.text).is_ok_and(|time| time.is_zero());
            if is_zero { Ok(Duration::ZERO) } else { time(scalar, range) }
        })?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(duration::format(*self.0))
    }

    fn expected(&self) -> String {
        format!("{}, or `0`", expected_time(&self.1))
    }

    fn example(&self) -> Json {
        usual_time(&self.1)
    }

    fn unit(&self) -> &'static str {
        "time"
    }
}

/// A description of a duration in `range`.
fn expected_time(range: &RangeInclusive<Duration>) -> String {
    let (least, most) = (Compact(*range.start()), Compact(*range.end()));
    format!("a duration from {least} to {most}, such as `10m`")
}

/// A usual duration in `range`.
fn usual_time(range: &RangeInclusive<Duration>) -> Json {
    Json::from(duration::format(Duration::from_hours(2).clamp(*range.start(), *range.end())))
}

/// A number per time, with the name of the counted things.
pub(crate) struct Rate<'a>(pub(crate) &'a mut config::Rate, pub(crate) &'static str);

impl Kind for Rate<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| scalar.text.parse().map_err(Wrong::Value))?;
        Ok(())
    }

    fn value(&self) -> Json {
        Json::from(self.0.to_string())
    }

    fn expected(&self) -> String {
        "a rate such as `10/s` or `600/m`".into()
    }

    fn example(&self) -> Json {
        Json::from("600/m")
    }

    fn unit(&self) -> &'static str {
        if self.1 == "bytes" { "bytes per time" } else { "packets per time" }
    }
}

/// A factor, to the thousandth.
pub(crate) struct Factor<'a>(pub(crate) &'a mut config::Factor);

impl Kind for Factor<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        *self.0 = one(node, |scalar| scalar.text.parse().map_err(|()| mismatch(scalar)))?;
        Ok(())
    }

    fn value(&self) -> Json {
        match self.0.thousandths() {
            whole if whole.is_multiple_of(1000) => Json::from(whole / 1000),
            thousandths => Json::from(f64::from(thousandths) / 1000.0),
        }
    }

    fn expected(&self) -> String {
        "a number from 0.001 to 1000, with at most three digits after the point".into()
    }

    fn example(&self) -> Json {
        Json::from(1.5)
    }
}

fn count(scalar: &Scalar, range: &RangeInclusive<u32>) -> Result<u32, Wrong> {
    Some(scalar)
        .filter(|scalar| scalar.plain)
        .and_then(|scalar| decimal(&scalar.text))
        .filter(|count| range.contains(count))
        .ok_or_else(|| mismatch(scalar))
}

fn length(scalar: &Scalar, range: &RangeInclusive<u8>) -> Result<u8, Wrong> {
    let range = u32::from(*range.start())..=u32::from(*range.end());
    u8::try_from(count(scalar, &range)?).map_err(|_too_long| mismatch(scalar))
}

fn port(scalar: &Scalar) -> Result<u16, Wrong> {
    let port = count(scalar, &(1..=u32::from(u16::MAX)))?;
    u16::try_from(port).map_err(|_above| mismatch(scalar))
}

/// Digits only: YAML readers disagree on `010` and `1_000`.
pub(super) fn decimal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = text.len() > 1 && text.starts_with('0');
    if digits && !leading_zero { text.parse().ok() } else { None }
}

fn time(scalar: &Scalar, range: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let time = duration::parse(&scalar.text).map_err(|error| Wrong::Value(error.to_string()))?;
    if range.contains(&time) { Ok(time) } else { Err(mismatch(scalar)) }
}

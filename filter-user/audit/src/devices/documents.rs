//! The documents of wazo-provd's REST API, as far as the audit needs them. An error never repeats a
//! document, because documents contain passwords.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use crate::secret::Secret;

/// The most configurations or devices that are examined.
const OBJECTS_MAX: usize = 200_000;

/// A configuration of devices, or a template for others.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    pub(crate) id: String,
    /// Those that it is based on. Later ones win, and its own settings win over all.
    #[serde(default)]
    pub(crate) parent_ids: Vec<String>,
    /// `device` for a template, `internal` or `registrar` for others that Wazo makes.
    #[serde(default, rename = "X_type")]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) label: Option<String>,
    #[serde(default, rename = "raw_config")]
    pub(crate) raw: RawConfig,
}

/// The settings of a configuration that concern passwords.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RawConfig {
    pub(crate) admin_username: Setting,
    pub(crate) admin_password: Setting,
    pub(crate) user_username: Setting,
    pub(crate) user_password: Setting,
}

/// A setting, which may be a password.
#[derive(Debug, Default)]
pub(crate) enum Setting {
    /// The parents decide.
    #[default]
    Inherited,
    /// There is no value, although the parents may have one.
    Null,
    /// A value.
    Set(Secret),
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Option::<Secret>::deserialize(deserializer)?;
        Ok(value.map_or(Self::Null, Self::Set))
    }
}

/// A telephone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Its id in wazo-provd.
    pub id: String,
    /// Its MAC address.
    pub mac: Option<String>,
    /// Its address, as wazo-provd sees it.
    pub ip: Option<String>,
    /// Its vendor.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// The plugin that writes its files.
    pub plugin: Option<String>,
    /// The id of its configuration.
    pub config: Option<String>,
}

#[derive(Deserialize)]
struct Configs {
    configs: Vec<Config>,
}

#[derive(Deserialize)]
struct Devices {
    devices: Vec<Device>,
}

/// The configurations in the answer to `GET /cfg_mgr/configs`.
///
/// # Errors
///
/// If the answer is another one.
pub(crate) fn configs(answer: &[u8]) -> Result<Vec<Config>, String> {
    let Configs { configs } = parse(answer, "configurations")?;
    bounded(configs, "configurations")
}

/// The devices in the answer to `GET /dev_mgr/devices`.
///
/// # Errors
///
/// If the answer is another one.
pub fn parse_devices(answer: &[u8]) -> Result<Vec<Device>, String> {
    let Devices { devices } = parse(answer, "devices")?;
    bounded(devices, "devices")
}

fn bounded<T>(all: Vec<T>, what: &str) -> Result<Vec<T>, String> {
    if all.len() > OBJECTS_MAX {
        return Err(format!(
            "there are more than {OBJECTS_MAX} {what}, which is the most that is examined"
        ));
    }
    Ok(all)
}

/// The message of an error in JSON may repeat a value: only its place is reported.
fn parse<T: DeserializeOwned>(answer: &[u8], what: &str) -> Result<T, String> {
    serde_json::from_slice(answer).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("the answer is no list of {what} (line {line}, column {column})")
    })
}

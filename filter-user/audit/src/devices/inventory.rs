//! The configurations and devices of wazo-provd, with the settings that each configuration inherits.

use std::collections::{BTreeMap, BTreeSet};

use super::documents::{Config, Device, Setting, configs};
use crate::secret::Secret;

/// A password of a telephone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// That of the administrator.
    Admin,
    /// That of the user.
    User,
}

impl Field {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Admin, Self::User];

    /// Its key in a configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Admin => "admin_password",
            Self::User => "user_password",
        }
    }

    /// Whose password it is.
    pub fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }

    fn password(self, config: &Config) -> &Setting {
        match self {
            Self::Admin => &config.raw.admin_password,
            Self::User => &config.raw.user_password,
        }
    }

    fn user_name(self, config: &Config) -> &Setting {
        match self {
            Self::Admin => &config.raw.admin_username,
            Self::User => &config.raw.user_username,
        }
    }

    /// The password that a configuration itself sets.
    pub(super) fn own_password(self, config: &Config) -> Option<&Secret> {
        secret(self.password(config))
    }
}

fn secret(setting: &Setting) -> Option<&Secret> {
    match setting {
        Setting::Set(secret) => Some(secret),
        Setting::Null | Setting::Inherited => None,
    }
}

/// All configurations and devices.
#[derive(Debug)]
pub struct Inventory {
    configs: BTreeMap<String, Config>,
    pub(super) devices: Vec<Device>,
}

impl Inventory {
    /// The configurations in the answer to `GET /cfg_mgr/configs`, with these devices.
    ///
    /// # Errors
    ///
    /// If the answer is another one.
    pub fn new(answer: &[u8], devices: Vec<Device>) -> Result<Self, String> {
        let configs = configs(answer)?.into_iter().map(|one| (one.id.clone(), one)).collect();
        Ok(Self { configs, devices })
    }

    /// The configurations, by id.
    pub(super) fn configs(&self) -> impl Iterator<Item = &Config> {
        self.configs.values()
    }

    pub(super) fn config(&self, id: &str) -> Option<&Config> {
        self.configs.get(id)
    }

    /// A configuration and all that it is based on, in the order in which wazo-provd merges them: the settings
    /// of a later one win.
    pub(super) fn line(&self, id: &str) -> Vec<&Config> {
        enum Step<'a> {
            Enter(&'a str),
            Merge(&'a Config),
        }
        let mut visited: BTreeSet<&str> = BTreeSet::new();
        let mut merged = Vec::new();
        let mut steps = Vec::new();
        steps.extend(self.configs.get(id).map(|config| Step::Enter(&config.id)));
        while let Some(step) = steps.pop() {
            match step {
                Step::Merge(config) => merged.push(config),
                Step::Enter(id) if visited.insert(id) => {
                    let Some(config) = self.configs.get(id) else { continue };
                    steps.push(Step::Merge(config));
                    // The first one is entered first, and left before the next is entered.
                    let parents = config.parent_ids.iter().rev();
                    steps.extend(parents.map(|parent| Step::Enter(parent)));
                }
                Step::Enter(_) => {}
            }
        }
        merged
    }

    /// The configuration from which this one has the password, and the password; `None` if none sets it.
    pub(super) fn password(&self, id: &str, field: Field) -> Option<(&Config, &Secret)> {
        let mut line = self.line(id).into_iter().rev();
        let config = line.find(|config| !matches!(field.password(config), Setting::Inherited))?;
        Some((config, field.own_password(config)?))
    }

    /// The user name that a configuration has.
    pub(super) fn user_name(&self, id: &str, field: Field) -> Option<&Secret> {
        let names = self.line(id).into_iter().rev().map(|config| field.user_name(config));
        secret(names.into_iter().find(|name| !matches!(name, Setting::Inherited))?)
    }

    /// The template on which a configuration is based, or itself.
    pub(super) fn template<'a>(&'a self, id: &'a str) -> &'a str {
        let template = self.line(id).into_iter().rev().find(|config| is_template(config));
        template.map_or(id, |config| &*config.id)
    }

    /// How many of these devices a change of each configuration concerns.
    pub(super) fn concerned(&self, which: fn(&Device) -> bool) -> BTreeMap<&str, usize> {
        let mut concerned: BTreeMap<&str, usize> = BTreeMap::new();
        let devices = self.devices.iter().filter(|device| which(device));
        for id in devices.filter_map(|device| device.config.as_deref()) {
            for config in self.line(id) {
                *concerned.entry(&config.id).or_default() += 1;
            }
        }
        concerned
    }

    /// The devices that a change of this configuration concerns.
    pub fn devices_of(&self, config: &str) -> Vec<&Device> {
        let mut concerned: BTreeMap<&str, bool> = BTreeMap::new();
        let mut found = Vec::new();
        for device in &self.devices {
            let Some(id) = device.config.as_deref() else { continue };
            let is = *concerned
                .entry(id)
                .or_insert_with(|| self.line(id).iter().any(|one| one.id == config));
            if is {
                found.push(device);
            }
        }
        found
    }
}

/// Whether it is a template for devices.
pub(super) fn is_template(config: &Config) -> bool {
    config.kind.as_deref() == Some("device")
}

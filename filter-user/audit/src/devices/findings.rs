//! What is wrong with the telephones, and which passwords would be replaced.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{AuditFinding, Severity};
use ipnet::IpNet;

use super::documents::{Config, Device};
use super::inventory::{Field, Inventory, is_template};
use super::vendors::{self, Fallback};
use crate::passwords::{Weakness, weakness};
use crate::reach::{self, is_exposed};
use crate::secret::{Secret, equal};
use crate::words::{count, part_of_id, shown};

/// The most findings of one kind.
const FINDINGS_MAX: usize = 100;

/// The most devices in one line of evidence.
const DEVICES_MAX: usize = 8;

/// Wazo's page about the passwords of devices.
const SECURITY: &str = "https://wazo-platform.org/uc-doc/system/security";

/// Wazo's page about the authentication of telephones that fetch their configuration.
const HTTP_AUTH: &str =
    "https://wazo-platform.org/uc-doc/administration/provisioning/http-auth-strategy";

/// How a password is replaced.
const REMEDY: &str =
    "replace it with a random one, then synchronise the telephones; this asks for each:";

/// The command that replaces passwords.
const FIX: &str = "ringfence audit devices --fix";

/// Whether a telephone must know a key to fetch its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAuth {
    /// It need not: `http_auth_strategy` is null.
    None,
    /// It must: `http_auth_strategy` has a value.
    Key,
    /// The setting could not be read.
    Unknown,
}

/// A password that can be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The id of the configuration.
    pub config: String,
    /// Which password.
    pub field: Field,
    /// What is wrong with it.
    pub why: String,
    /// The number of devices that have it.
    pub devices: usize,
    /// Whether a device accepts only digits.
    pub only_digits: bool,
}

/// What is wrong, and what can be replaced.
#[derive(Debug, Default)]
pub struct Examined {
    /// The findings.
    pub findings: Vec<AuditFinding>,
    /// The passwords to replace, each once.
    pub fixes: Vec<Fix>,
    /// Those that are among `fixes`.
    proposed: BTreeSet<(String, Field)>,
}

impl Examined {
    fn propose(&mut self, config: &str, field: Field, why: &str, devices: usize) {
        if self.proposed.insert((config.to_owned(), field)) {
            let (config, why) = (config.to_owned(), why.to_owned());
            self.fixes.push(Fix { config, field, why, devices, only_digits: false });
        }
    }
}

/// Examines the telephones. `own` are networks that are not strangers', such as a VPN with public addresses.
pub fn examine(inventory: &Inventory, http_auth: &HttpAuth, own: &[IpNet]) -> Examined {
    let mut examined = Examined::default();
    for field in Field::ALL {
        let places = Places::new(inventory, field);
        of_values(inventory, &places, &mut examined);
        of_missing(inventory, &places, &mut examined);
        inherited(&places, &mut examined);
    }
    ignored(inventory, &mut examined);
    shared(inventory, &mut examined);
    let public = public(inventory, own, &mut examined);
    unconfigured(inventory, &mut examined);
    unauthenticated(http_auth, public, &mut examined);
    let only_digits = inventory.concerned(vendors::is_only_digits);
    for fix in &mut examined.fixes {
        fix.only_digits = fix.field == Field::Admin && only_digits.contains_key(&*fix.config);
    }
    examined
}

/// Where each device has one of its passwords from.
struct Places<'a> {
    field: Field,
    /// The devices by the configuration that sets the password.
    set: BTreeMap<&'a str, Vec<&'a Device>>,
    /// The devices for which none sets it, by their template.
    missing: BTreeMap<&'a str, Vec<&'a Device>>,
}

impl<'a> Places<'a> {
    fn new(inventory: &'a Inventory, field: Field) -> Self {
        let (mut set, mut missing) = (BTreeMap::new(), BTreeMap::new());
        // Templates that no device uses matter too.
        for config in inventory.configs() {
            if field.own_password(config).is_some() {
                set.entry(&*config.id).or_insert_with(Vec::new);
            }
            if is_template(config) && inventory.password(&config.id, field).is_none() {
                missing.entry(&*config.id).or_insert_with(Vec::new);
            }
        }
        let mut of_config: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
        for device in &inventory.devices {
            let known = device.config.as_deref().filter(|id| inventory.config(id).is_some());
            if let Some(id) = known {
                of_config.entry(id).or_default().push(device);
            }
        }
        for (id, devices) in of_config {
            match inventory.password(id, field) {
                Some((config, _)) => set.entry(&*config.id).or_default().extend(devices),
                None => missing.entry(inventory.template(id)).or_default().extend(devices),
            }
        }
        Self { field, set, missing }
    }
}

/// What is wrong with a password that is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrong {
    Weak(Weakness),
    Vendor,
}

fn wrong(inventory: &Inventory, config: &Config, field: Field, secret: &Secret) -> Option<Wrong> {
    let name = inventory.user_name(&config.id, field).map(Secret::expose);
    // What the user is called if no name is configured.
    let names: Vec<&str> = name.into_iter().chain([field.name()]).collect();
    let is_default =
        vendors::DEFAULTS.iter().any(|default| secret.expose().eq_ignore_ascii_case(default));
    match weakness(secret, &names) {
        Some(Weakness::Empty) => Some(Wrong::Weak(Weakness::Empty)),
        Some(Weakness::Name) => Some(Wrong::Weak(Weakness::Name)),
        _ if is_default => Some(Wrong::Vendor),
        other => other.map(Wrong::Weak),
    }
}

fn of_values(inventory: &Inventory, places: &Places<'_>, examined: &mut Examined) {
    let field = places.field;
    let mut found = Vec::new();
    for (id, devices) in &places.set {
        let Some(config) = inventory.config(id) else { continue };
        let Some(secret) = field.own_password(config) else { continue };
        let Some(wrong) = wrong(inventory, config, field, secret) else { continue };
        let (part, words, severity) = match wrong {
            Wrong::Vendor => ("vendor", "is a vendor's default", Severity::Critical),
            Wrong::Weak(weakness) => (weakness.id(), weakness.in_words(), weakness.severity()),
        };
        let title = format!("{}: the {} password {words}", named(config), field.name());
        examined.propose(id, field, &title, devices.len());
        found.push(AuditFinding {
            id: format!("device-password/{}/{part}/{}", field.name(), part_of_id(id)),
            severity: by_use(severity, field, devices),
            title,
            reason: "anybody who reaches the web page of a telephone can try it, and then read its SIP password"
                .to_owned(),
            evidence: vec![in_words(devices)],
            remedy: REMEDY.to_owned(),
            line: Some(FIX.to_owned()),
            page: Some(SECURITY.to_owned()),
        });
    }
    push(found, &format!("device-password/{}", field.name()), examined);
}

/// Lower for a password that no telephone has, or that does not give all rights.
fn by_use(severity: Severity, field: Field, devices: &[&Device]) -> Severity {
    let lower = |severity| match severity {
        Severity::Critical => Severity::Warning,
        Severity::Warning | Severity::Note => Severity::Note,
    };
    let severity = if field == Field::User { lower(severity) } else { severity };
    if devices.is_empty() { lower(severity) } else { severity }
}

fn of_missing(inventory: &Inventory, places: &Places<'_>, examined: &mut Examined) {
    let field = places.field;
    let mut found = Vec::new();
    for (id, devices) in &places.missing {
        let fallbacks: BTreeMap<Fallback, Vec<&Device>> =
            devices.iter().fold(BTreeMap::new(), |mut all, device| {
                all.entry(vendors::fallback(device, field)).or_insert_with(Vec::new).push(*device);
                all
            });
        let concerned: Vec<&Device> = fallbacks
            .iter()
            .filter(|(fallback, _)| **fallback != Fallback::None)
            .flat_map(|(_, devices)| devices.iter().copied())
            .collect();
        // These telephones have no such password.
        if concerned.is_empty() && !devices.is_empty() {
            continue;
        }
        let Some(config) = inventory.config(id) else { continue };
        let severity = if fallbacks.contains_key(&Fallback::Plugin) {
            Severity::Critical
        } else {
            Severity::Warning
        };
        let say = |fallback: Fallback, what: &str| {
            let devices = fallbacks.get(&fallback)?;
            Some(format!("{what}: {}", in_words(devices)))
        };
        let evidence: Vec<String> = [
            say(Fallback::Plugin, "the plugin sets the vendor's default"),
            say(Fallback::Factory, "the telephone keeps the factory's"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let title = format!("{}: the {} password is missing", named(config), field.name());
        examined.propose(id, field, &title, concerned.len());
        found.push(AuditFinding {
            id: format!("device-password/{}/missing/{}", field.name(), part_of_id(id)),
            severity: by_use(severity, field, devices),
            title,
            reason:
                "the password that a vendor sets is the same on all of its telephones, and known"
                    .to_owned(),
            evidence: if evidence.is_empty() { vec![in_words(devices)] } else { evidence },
            remedy: "set a random one, then synchronise the telephones; this asks for each:"
                .to_owned(),
            line: Some(FIX.to_owned()),
            page: Some(SECURITY.to_owned()),
        });
    }
    push(found, &format!("device-password/{}/missing", field.name()), examined);
}

/// A template gives all of its telephones the same password. Wazo's own template does.
fn inherited(places: &Places<'_>, examined: &mut Examined) {
    let field = places.field;
    let of_many = places.set.iter().filter(|(_, devices)| devices.len() > 1);
    let evidence: Vec<String> = of_many
        .clone()
        .take(DEVICES_MAX)
        .map(|(id, devices)| format!("{}: {}", shown(id), count(devices.len(), "telephone")))
        .collect();
    let number: usize = of_many.map(|(_, devices)| devices.len()).sum();
    if number == 0 {
        return;
    }
    examined.findings.push(AuditFinding {
        id: format!("device-password/{}/inherited", field.name()),
        severity: Severity::Note,
        title: format!("{number} telephones have the {} password of their template", field.name()),
        reason: "anybody who finds the password of one telephone has those of all with the same template; Wazo sets up \
                 its own template like this"
            .to_owned(),
        evidence,
        remedy: "use several templates if not all telephones are in places that you trust equally".to_owned(),
        line: None,
        page: None,
    });
}

/// Passwords that the plugin replaces with the vendor's default.
fn ignored(inventory: &Inventory, examined: &mut Examined) {
    let mut ignoring: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
    for device in inventory.devices.iter().filter(|device| vendors::is_only_digits(device)) {
        let found = device.config.as_deref().and_then(|id| inventory.password(id, Field::Admin));
        if let Some((config, secret)) = found
            && !secret.expose().chars().all(|c| c.is_ascii_digit())
        {
            ignoring.entry(&config.id).or_default().push(device);
        }
    }
    let mut found = Vec::new();
    for (id, devices) in ignoring {
        let Some(config) = inventory.config(id) else { continue };
        let title = format!("{}: telephones ignore the admin password", named(config));
        examined.propose(id, Field::Admin, &title, devices.len());
        found.push(AuditFinding {
            id: format!("device-password/admin/ignored/{}", part_of_id(id)),
            severity: Severity::Critical,
            title,
            reason: format!(
                "the plugin {} accepts only digits, and sets the vendor's default instead of any other password",
                vendors::ONLY_DIGITS
            ),
            evidence: vec![in_words(&devices)],
            remedy: "replace it with random digits, for all telephones of this template, or give these another \
                     template; then synchronise the telephones:"
                .to_owned(),
            line: Some(FIX.to_owned()),
            page: Some(SECURITY.to_owned()),
        });
    }
    push(found, "device-password/admin/ignored", examined);
}

/// Equal passwords in several configurations.
fn shared(inventory: &Inventory, examined: &mut Examined) {
    let all: Vec<(&Config, Field, &Secret)> = inventory
        .configs()
        .flat_map(|config| {
            Field::ALL.into_iter().filter_map(move |field| {
                let secret = field.own_password(config)?;
                Some((config, field, secret))
            })
        })
        // An empty one has a finding of its own.
        .filter(|(.., secret)| !secret.expose().is_empty())
        .collect();
    let concerned = inventory.concerned(|_all| true);
    let mut found = Vec::new();
    for group in equal(all.iter().map(|(.., secret)| *secret)) {
        let group: Vec<&(&Config, Field, &Secret)> =
            group.iter().filter_map(|at| all.get(*at)).collect();
        let Some((first, field, _)) = group.first() else { continue };
        let title = format!("{} have the same password", count(group.len(), "configured account"));
        for (config, field, _) in &group {
            let devices = concerned.get(&*config.id).copied().unwrap_or(0);
            examined.propose(
                &config.id,
                *field,
                &format!("{}: the {} password is used elsewhere", named(config), field.name()),
                devices,
            );
        }
        found.push(AuditFinding {
            id: format!("device-password/{}/shared/{}", field.name(), part_of_id(&first.id)),
            severity: Severity::Warning,
            title,
            reason: "anybody who finds it for one has the others too".to_owned(),
            evidence: group
                .iter()
                .take(DEVICES_MAX * 2)
                .map(|(config, field, _)| format!("{}: {}", named(config), field.key()))
                .collect(),
            remedy: REMEDY.to_owned(),
            line: Some(FIX.to_owned()),
            page: Some(SECURITY.to_owned()),
        });
    }
    push(found, "device-password/shared", examined);
}

/// Telephones with public addresses. Returns whether there are any.
fn public(inventory: &Inventory, own: &[IpNet], examined: &mut Examined) -> bool {
    let address = |device: &Device| {
        let address: IpAddr = device.ip.as_deref()?.trim().parse().ok()?;
        let address = address.to_canonical();
        let is_public = is_exposed(reach::of(address));
        (is_public && !own.iter().any(|net| net.contains(&address))).then_some(address)
    };
    let mut found = Vec::new();
    for device in &inventory.devices {
        let Some(address) = address(device) else { continue };
        found.push(AuditFinding {
            id: format!("device-public/{}", part_of_id(device.mac.as_deref().unwrap_or(&device.id))),
            severity: Severity::Warning,
            title: format!("{} has a public address: {address}", shown_device(device)),
            reason: "strangers may reach its web page, unless a router or firewall stands before it".to_owned(),
            evidence: Vec::new(),
            remedy: "move it into a private network or a VPN; if the address is a router's, see that the router \
                     forwards nothing to it; networks under `trusted` are not reported"
                .to_owned(),
            line: None,
            page: Some(SECURITY.to_owned()),
        });
    }
    let is_any = !found.is_empty();
    push(found, "device-public", examined);
    is_any
}

fn unconfigured(inventory: &Inventory, examined: &mut Examined) {
    let is_known = |device: &&Device| {
        device.config.as_deref().is_some_and(|id| inventory.config(id).is_some())
    };
    let without: Vec<&Device> =
        inventory.devices.iter().filter(|device| !is_known(device)).collect();
    if without.is_empty() {
        return;
    }
    examined.findings.push(AuditFinding {
        id: "device-unconfigured".to_owned(),
        severity: Severity::Note,
        title: format!("{} without a configuration", count(without.len(), "telephone")),
        reason: "they keep the passwords with which they left the factory".to_owned(),
        evidence: vec![in_words(&without)],
        remedy: "give them a configuration, or remove them from the list of devices".to_owned(),
        line: None,
        page: None,
    });
}

fn unauthenticated(http_auth: &HttpAuth, is_public: bool, examined: &mut Examined) {
    if *http_auth != HttpAuth::None {
        return;
    }
    examined.findings.push(AuditFinding {
        id: "provisioning-without-key".to_owned(),
        severity: if is_public { Severity::Critical } else { Severity::Warning },
        title: "anybody who knows a MAC address can fetch the configuration of a telephone".to_owned(),
        reason: "`http_auth_strategy` is null, so wazo-provd asks for no key; the configuration contains the SIP \
                 password"
            .to_owned(),
        evidence: if is_public {
            vec!["some telephones have public addresses".to_owned()]
        } else {
            Vec::new()
        },
        remedy: "use `url_key` and set a provisioning key for each tenant, as Wazo's page describes; or open the \
                 provisioning ports only to the networks of the telephones (`exposure`)"
            .to_owned(),
        line: None,
        page: Some(HTTP_AUTH.to_owned()),
    });
}

/// Adds findings, and counts those that are too many.
fn push(mut found: Vec<AuditFinding>, what: &str, examined: &mut Examined) {
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let rest = found.split_off(FINDINGS_MAX.min(found.len()));
    let worst = rest.iter().map(|finding| finding.severity).max();
    let more = worst.map(|severity| AuditFinding {
        id: format!("{what}/more"),
        severity,
        title: format!("{} of the same kind", count(rest.len(), "more finding")),
        reason: "the report lists the worst of them".to_owned(),
        evidence: Vec::new(),
        remedy: "solve those that are listed, and run the audit again".to_owned(),
        line: None,
        page: None,
    });
    examined.findings.extend(found.into_iter().chain(more));
}

/// A configuration with its label.
fn named(config: &Config) -> String {
    let kind = if is_template(config) { "template" } else { "configuration" };
    match config.label.as_deref().filter(|label| !label.is_empty()) {
        Some(label) => format!("{kind} {} ({})", shown(&config.id), shown(label)),
        None => format!("{kind} {}", shown(&config.id)),
    }
}

fn shown_device(device: &Device) -> String {
    let name = device.mac.as_deref().unwrap_or(&device.id);
    let kind: Vec<String> =
        [&device.vendor, &device.model].into_iter().flatten().map(|text| shown(text)).collect();
    if kind.is_empty() {
        format!("telephone {}", shown(name))
    } else {
        format!("telephone {} ({})", shown(name), kind.join(" "))
    }
}

/// How many devices, and the first of them.
fn in_words(devices: &[&Device]) -> String {
    if devices.is_empty() {
        return "no telephone uses it".to_owned();
    }
    let names: BTreeSet<&str> =
        devices.iter().map(|one| one.mac.as_deref().unwrap_or(&one.id)).collect();
    let first: Vec<String> = names.iter().take(DEVICES_MAX).map(|name| shown(name)).collect();
    let mut text = format!("{}: {}", count(devices.len(), "telephone"), first.join(", "));
    if devices.len() > DEVICES_MAX {
        add!(text, " and {} more", devices.len() - DEVICES_MAX);
    }
    text
}

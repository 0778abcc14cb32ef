//! What happens to a telephone whose configuration has no password, by the plugin of wazo-provd; and the
//! passwords that vendors set.

use super::documents::Device;
use super::inventory::Field;

/// The password of a telephone for which none is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fallback {
    /// The plugin sets the same one on every telephone, and anybody can read it in the plugin's source.
    Plugin,
    /// The telephone keeps the one with which it left the factory.
    Factory,
    /// The plugin has no such password.
    None,
}

/// A family of plugins, by a part of their names, and what they do about the passwords of the administrator
/// and of the user.
const PLUGINS: [(&str, Fallback, Fallback); 18] = [
    ("aastra", Fallback::Factory, Fallback::Factory),
    ("alcatel", Fallback::Plugin, Fallback::Factory),
    ("avaya", Fallback::Factory, Fallback::None),
    ("cisco-sccp", Fallback::Factory, Fallback::None),
    ("cisco-spa", Fallback::Plugin, Fallback::Plugin),
    ("cisco", Fallback::Factory, Fallback::Factory),
    ("digium", Fallback::Plugin, Fallback::None),
    ("fanvil", Fallback::Plugin, Fallback::Factory),
    ("gigaset", Fallback::Factory, Fallback::None),
    ("grandstream", Fallback::Factory, Fallback::None),
    ("htek", Fallback::Factory, Fallback::Factory),
    ("panasonic", Fallback::Factory, Fallback::Factory),
    ("patton", Fallback::Factory, Fallback::None),
    ("polycom", Fallback::Plugin, Fallback::Plugin),
    ("snom", Fallback::Factory, Fallback::Factory),
    ("technicolor", Fallback::Factory, Fallback::Factory),
    ("yealink", Fallback::Plugin, Fallback::Plugin),
    ("zenitel", Fallback::Factory, Fallback::None),
];

/// What happens to this device without a password.
pub(super) fn fallback(device: &Device, field: Field) -> Fallback {
    let name = device.plugin.as_deref().or(device.vendor.as_deref()).unwrap_or_default();
    let name = name.to_ascii_lowercase().replace('_', "-");
    let row = PLUGINS.iter().find(|(part, ..)| name.contains(part));
    match (row, field) {
        (Some((_, admin, _)), Field::Admin) => *admin,
        (Some((_, _, user)), Field::User) => *user,
        (None, _) => Fallback::Factory,
    }
}

/// A plugin that accepts only digits, and sets the vendor's default instead of any other password of the
/// administrator.
pub(super) const ONLY_DIGITS: &str = "alcatel-2.01.20";

/// Whether this device accepts only digits as the password of the administrator.
pub(super) fn is_only_digits(device: &Device) -> bool {
    device.plugin.as_deref().is_some_and(|plugin| plugin.contains(ONLY_DIGITS))
}

/// Passwords that a vendor or a plugin sets, in small letters. None of them is ever shown.
pub(super) const DEFAULTS: [&str; 34] = [
    "0000",
    "000000",
    "1111",
    "123",
    "1234",
    "12345",
    "123456",
    "12345678",
    "22222",
    "23646",
    "26567*738",
    "2729",
    "27238",
    "456",
    "73738",
    "789",
    "7890",
    "9486",
    "admin",
    "administrator",
    "adminpass",
    "alphaadmin",
    "cisco",
    "craft",
    "engineer",
    "guest",
    "kt12345",
    "operator",
    "password",
    "provision",
    "superpass",
    "user",
    "userpass",
    "voip",
];

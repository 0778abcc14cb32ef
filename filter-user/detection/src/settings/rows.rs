//! Declares settings for the crate that reads the files: each once, with its type, default, description and
//! kind of value.
//!
//! Must never know how a file is written.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::{
    Factor, FilterName, HostName, JournalMatch, LogPattern, PortRange, Rate, Scope, Service,
    Unproven,
};

/// A setting: the row that a line of [`section!`] becomes.
///
/// [`section!`]: super::section
#[derive(Debug)]
pub struct Row<'a> {
    /// Its path, such as `jails.asterisk-wazo.maxretry`.
    pub path: String,
    /// Its description.
    pub doc: String,
    /// Its field.
    pub value: Value<'a>,
}

/// The field of a setting, by the kind of its value, with what else is needed to read it.
#[derive(Debug)]
pub enum Value<'a> {
    /// A switch.
    Flag(&'a mut bool),
    /// A whole number in a range, with the name of the counted things.
    Count(&'a mut u32, RangeInclusive<u32>, &'static str),
    /// A number per time, with the name of the counted things.
    Rate(&'a mut Rate, &'static str),
    /// The length of a network in a range.
    Length(&'a mut u8, RangeInclusive<u8>),
    /// A duration in a range.
    Time(&'a mut Duration, RangeInclusive<Duration>),
    /// A factor.
    Factor(&'a mut Factor),
    /// The multipliers of ban times.
    Multipliers(&'a mut Vec<u32>),
    /// Networks and host names, with advice for an administrator who writes the network of all addresses.
    Hosts(&'a mut Vec<IpNet>, &'a mut Vec<HostName>, &'static str),
    /// What a ban closes.
    Scope(&'a mut Scope),
    /// What a ban closes, or `none`.
    OptionalScope(&'a mut Option<Scope>),
    /// What becomes of an unproven ban.
    Unproven(&'a mut Unproven),
    /// Ports.
    Ports(&'a mut Vec<PortRange>),
    /// Services.
    Services(&'a mut Vec<Service>),
    /// A fail2ban filter, or none.
    Filter(&'a mut Option<FilterName>),
    /// Logs.
    Logs(&'a mut Vec<LogPattern>),
    /// Entries of the journal.
    Journal(&'a mut Vec<JournalMatch>),
}

/// The path of `key` below `at`; either can be empty.
pub fn below(at: &str, key: &str) -> String {
    if at.is_empty() || key.is_empty() { format!("{at}{key}") } else { format!("{at}.{key}") }
}

/// Declares the type of a section, with its defaults as `DEFAULT`, and its method `rows`, which returns its settings in
/// display order.
///
/// A line is one of
///
/// - `key: Type = default, "description", Kind(arguments);` for a setting, whose [`Value`] gets the field and then the
///   arguments. `"description" + text` adds a text that is made at run time, and `as name` behind the arguments gives the
///   setting another name than the field has. A setting that has two fields has a line without a description for the second
///   one, and names it among the arguments.
/// - `key: Type = default => section "path";` for the settings of another section, under this path below this one. Arguments
///   after the path are those of its method `rows`.
/// - `key: Type = default => rows function(arguments);` for other settings. The function gets the path of this section, the
///   field, and then the arguments.
///
/// [`Value`]: crate::settings::Value
#[macro_export]
macro_rules! section {
    (
        $(#[$of:meta])*
        pub struct $name:ident {
            $(
                $(#[$field:meta])*
                $key:ident: $type:ty = $default:expr
                $(, $doc:literal $(+ $more:expr)?, $kind:ident($($argument:expr),* $(,)?) $(as $called:ident)?)?
                $(=> section $path:literal $(($($given:expr),* $(,)?))?)?
                $(=> rows $rows:ident($($passed:expr),* $(,)?))?;
            )+
        }
    ) => {
        $(#[$of])*
        pub struct $name {
            $($(#[$field])* $(#[doc = $doc])? pub $key: $type,)+
        }

        impl $name {
            /// The defaults.
            pub const DEFAULT: Self = Self { $($key: $default,)+ };

            /// Its settings, which are below the path `at`.
            pub fn rows(&mut self, at: &str) -> Vec<$crate::settings::Row<'_>> {
                use $crate::settings::below;
                let Self { $($key,)+ } = self;
                let mut all = Vec::new();
                $(
                    $(all.extend([$crate::settings::Row {
                        path: below(at, $crate::section!(@name $key $($called)?)),
                        doc: [$doc $(, &$more)?].concat(),
                        value: $crate::settings::Value::$kind($key $(, $argument)*),
                    }]);)?
                    $(all.extend($key.rows(&below(at, $path) $($(, $given)*)?));)?
                    $(all.extend($rows(at, $key $(, $passed)*));)?
                )+
                all
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::DEFAULT
            }
        }
    };
    (@name $key:ident) => { stringify!($key) };
    (@name $key:ident $called:ident) => { stringify!($called) };
}

pub use section;

#[cfg(test)]
#[expect(unreachable_pub, reason = "the sections of this test are for nobody else")]
mod tests {
    use super::*;

    section! {
        /// A part of another section.
        #[derive(Debug, PartialEq, Eq)]
        pub struct Part {
            enabled: bool = true, "A switch.", Flag() as part;
        }
    }

    section! {
        /// A section with a line of each form.
        #[derive(Debug, PartialEq, Eq)]
        pub struct Whole {
            number: u32 = 5, "A number of " + "things.", Count(1..=9, "things");
            hosts: Vec<IpNet> = Vec::new(), "Hosts.", Hosts(names, "none");
            /// Hosts by name.
            names: Vec<HostName> = Vec::new();
            /// A part.
            part: Part = Part::DEFAULT => section "at";
            /// A part without a path of its own.
            here: Part = Part { enabled: false } => section "";
            /// Any rows.
            other: bool = false => rows any("x");
        }
    }

    fn any<'a>(at: &str, field: &'a mut bool, key: &str) -> [Row<'a>; 1] {
        [Row { path: below(at, key), doc: String::new(), value: Value::Flag(field) }]
    }

    #[test]
    fn a_line_is_a_field_a_default_and_a_row() {
        let mut whole = Whole::default();
        assert_eq!((whole.number, whole.part.enabled, whole.here.enabled), (5, true, false));
        let rows = whole.rows("a.b");
        let paths: Vec<&str> = rows.iter().map(|row| &*row.path).collect();
        assert_eq!(paths, ["a.b.number", "a.b.hosts", "a.b.at.part", "a.b.part", "a.b.x"]);
        assert_eq!(rows[0].doc, "A number of things.");
        for row in rows {
            if let Value::Count(number, range, "things") = row.value {
                *number = *range.end();
            } else if let Value::Flag(flag) = row.value {
                *flag = !*flag;
            } else {
                assert!(matches!(row.value, Value::Hosts(_, _, "none")), "{row:?}");
            }
        }
        assert_eq!(whole.number, 9);
        assert_eq!((whole.part.enabled, whole.here.enabled, whole.other), (false, true, true));
        assert_eq!(Part::default().rows("")[0].path, "part");
    }
}

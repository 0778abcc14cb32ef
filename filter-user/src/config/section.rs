//! Declares a section of the configuration: each setting once, with its type, default, description and kind
//! of value.

/// Declares the type of a section, with its defaults and its rows of the table of settings.
///
/// A line is one of
///
/// - `key: Type = default, "description", Kind(arguments);` for a setting, whose [`Kind`] gets the field and
///   then the arguments. `"description" + text` adds a text that is made at run time. A setting that has two
///   fields has a line without a description for the second one, and names it among the arguments.
/// - `key: Type = default => section "path";` for the settings of another section, under this path below
///   this one.
/// - `key: Type = default => sections "path";` for sections that the administrator names, each with its name under
///   this path.
/// - `key: Type = default => declared "path";` for a section that another crate declares, with a macro like this one
///   ([`detection::settings::section`]).
/// - `key: Type = default => rows function;` for other settings. The function gets the field and the names of the
///   port classes.
///
/// A section that needs the names of the port classes names them in parentheses.
///
/// [`Kind`]: super::kind::Kind
macro_rules! section {
    (
        $(#[$of:meta])*
        pub struct $name:ident { $($lines:tt)+ }
    ) => {
        $crate::config::section::section! { $(#[$of])* pub struct $name(_scopes) { $($lines)+ } }
    };
    (
        $(#[$of:meta])*
        pub struct $name:ident($scopes:ident) {
            $(
                $(#[$field:meta])*
                $key:ident: $type:ty = $default:expr
                $(, $doc:literal $(+ $more:expr)?, $kind:ident($($argument:expr),* $(,)?))?
                $(=> section $path:literal)?
                $(=> sections $paths:literal)?
                $(=> declared $declared:literal)?
                $(=> rows $rows:path)?;
            )+
        }
    ) => {
        $(#[$of])*
        pub struct $name {
            $($(#[$field])* $(#[doc = $doc])? pub $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $name {
            /// The rows of its settings, which are below the path `at`.
            pub(in crate::config) fn fields<'a>(
                &'a mut self,
                at: &str,
                $scopes: &std::rc::Rc<[String]>,
            ) -> Vec<$crate::config::schema::Field<'a>> {
                let Self { $($key,)+ } = self;
                let mut all = $crate::config::schema::Fields::below(at);
                $(
                    $(all.add(
                        stringify!($key),
                        &[$doc $(, &$more)?].concat(),
                        $crate::config::kind::$kind($key, $($argument),*),
                    );)?
                    $(all.extend($key.fields(&all.path($path), $scopes));)?
                    $(for (name, section) in $key {
                        let at = all.path(&format!("{}.{name}", $paths));
                        all.extend(section.fields(&at, $scopes));
                    })?
                    $(all.declared($key.rows(&all.path($declared)), $scopes);)?
                    $(all.extend($rows($key, $scopes));)?
                )+
                all.into()
            }
        }
    };
}

pub(super) use section;

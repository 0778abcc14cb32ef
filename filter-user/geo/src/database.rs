//! Reads a database in MaxMind's format, of countries or of autonomous systems, as MaxMind and DB-IP publish
//! them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::Deserialize;

/// The most bytes of a database. The largest of MaxMind's with countries, `GeoIP2-City`, has half as many.
pub const SIZE_MAX: usize = 256 << 20;

/// The longest name of an organisation that is shown.
const NAME_MAX: usize = 80;

/// The code of a country (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

impl FromStr for Country {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text.as_bytes() {
            [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => Ok(Self([*a, *b])),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b] = self.0;
        write!(f, "{}{}", char::from(a), char::from(b))
    }
}

/// Where an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its country.
    pub country: Option<Country>,
    /// The number of its autonomous system.
    pub asn: Option<u32>,
    /// The name of the organisation that has this number, without control characters.
    pub organisation: Option<String>,
}

impl Place {
    /// Both, where this one lacks something.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            country: self.country.or(other.country),
            asn: self.asn.or(other.asn),
            organisation: self.organisation.or(other.organisation),
        }
    }
}

/// A database.
pub struct Database {
    reader: Reader<Vec<u8>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

/// The fields that are read; MaxMind and DB-IP give them the same names.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    country: Option<Named<'a>>,
    // Where a country is not certain, such as for anycast.
    #[serde(borrow)]
    registered_country: Option<Named<'a>>,
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<&'a str>,
}

#[derive(Deserialize)]
struct Named<'a> {
    iso_code: Option<&'a str>,
}

impl From<Record<'_>> for Place {
    fn from(record: Record<'_>) -> Self {
        let code = |named: Option<Named<'_>>| named?.iso_code?.parse().ok();
        let shown = |name: &str| name.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        Self {
            country: code(record.country).or_else(|| code(record.registered_country)),
            asn: record.autonomous_system_number,
            organisation: record.autonomous_system_organization.map(shown),
        }
    }
}

fn wrong(error: &MaxMindDbError) -> String {
    let text = error.to_string();
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl Database {
    /// Reads the structure of a database. [`walk`](Self::walk) reads the rest.
    ///
    /// # Errors
    ///
    /// If the bytes are no database.
    pub fn read(bytes: Vec<u8>) -> Result<Self, String> {
        if bytes.len() > SIZE_MAX {
            return Err(format!("it has more than {} MiB", SIZE_MAX >> 20));
        }
        let read = Reader::from_source(bytes);
        let reader = read.map_err(|error| format!("it is no MMDB database: {}", wrong(&error)))?;
        Ok(Self { reader })
    }

    /// What its publisher calls it, such as `GeoLite2-Country`.
    pub fn kind(&self) -> String {
        let kind = &self.reader.metadata().database_type;
        kind.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect()
    }

    /// When it was made, in seconds since 1970.
    pub fn built(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Where an address is, as far as the database knows.
    pub fn place(&self, address: IpAddr) -> Place {
        let found = self.reader.lookup(address).and_then(|found| found.decode::<Record<'_>>());
        found.ok().flatten().map(Place::from).unwrap_or_default()
    }

    /// Calls `visit` with every network that it knows, and with its place.
    ///
    /// # Errors
    ///
    /// If the database is broken anywhere.
    pub(crate) fn walk(&self, mut visit: impl FnMut(IpNet, &Place)) -> Result<(), String> {
        let broken = |error: &MaxMindDbError| format!("it is broken: {}", wrong(error));
        // A tree has fewer leaves than nodes; one that leads in circles has more.
        let mut left = u64::from(self.reader.metadata().node_count).saturating_mul(3);
        let mut places: HashMap<usize, Place> = HashMap::new();
        let options = WithinOptions::default().include_networks_without_data();
        for found in self.reader.networks(options).map_err(|error| broken(&error))? {
            let found = found.map_err(|error| broken(&error))?;
            left = left.checked_sub(1).ok_or("it is broken: its tree leads in circles")?;
            let Some(offset) = found.offset() else { continue };
            let place = match places.entry(offset) {
                Entry::Occupied(place) => place.into_mut(),
                Entry::Vacant(room) => {
                    let record = found.decode::<Record<'_>>().map_err(|error| broken(&error))?;
                    room.insert(record.map(Place::from).unwrap_or_default())
                }
            };
            let network = found.network().map_err(|error| broken(&error))?;
            let network = IpNet::new(network.ip(), network.prefix())
                .map_err(|error| format!("it is broken: {error}"))?;
            visit(network.trunc(), place);
        }
        Ok(())
    }
}

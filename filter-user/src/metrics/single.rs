//! The metrics that are one number without labels: a row here, and its value in `controller/metrics.rs`.

use super::table::{Kind, Metric, number, some, truth};

/// What can be the value of a metric.
trait Value: Copy {
    /// `None` leaves the metric out.
    fn number(self) -> Option<f64>;
}

impl Value for u64 {
    fn number(self) -> Option<f64> {
        Some(number(self))
    }
}

impl Value for bool {
    fn number(self) -> Option<f64> {
        Some(truth(self))
    }
}

impl<T: Value> Value for Option<T> {
    fn number(self) -> Option<f64> {
        self.and_then(T::number)
    }
}

/// Makes a field of each row, whose documentation is the description of the metric, and the table.
macro_rules! metrics {
    ($($kind:ident $name:literal, $field:ident: $type:ty = $help:literal;)*) => {
        /// The values of the metrics that have one.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct Values {
            $(#[doc = $help] pub $field: $type,)*
        }

        pub(super) const SINGLE: &[Metric] = &[$(Metric {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            samples: |page| some(page.snapshot.values.$field.number()),
        }),*];
    };
}

metrics! {
    Counter "ringfence_unwitnessed", unwitnessed: u64 =
        "Failures without a witness, which did not count";
    Counter "ringfence_bans_prevented", prevented: u64 =
        "Bans that were not made because the address is trusted, essential or the host's own";
    Gauge "ringfence_geo_up", geo_up: Option<bool> =
        "Whether the policy of countries and networks is in force as configured; absent without one";
    Gauge "ringfence_fleet_up", fleet_up: Option<bool> =
        "Whether a server of the fleet is connected; absent without a fleet";
    Gauge "ringfence_fleet_hosts", fleet_hosts: Option<u64> =
        "Other hosts of the fleet that were heard of; absent without a fleet";
    Gauge "ringfence_blind", blind: u64 =
        "Signs that failures are not recognised, and kinds of traffic that the filter does not see";
    Gauge "ringfence_known_peers", known_peers: u64 =
        "Known peers";
    Counter "ringfence_peers_spared", spared: u64 =
        "Unproven failures of known peers, which did not count";
    Gauge "ringfence_store_pending", store_pending: u64 =
        "Changes that the store has not written yet";
    Gauge "ringfence_store_up", store_up: bool =
        "Whether the store can be written";
    Gauge "ringfence_enforcing", enforcing: bool =
        "Whether bans and limits drop packets";
    Gauge "ringfence_dry_run", dry_run: bool =
        "Whether the configuration asks for a dry run";
    Gauge "ringfence_maintenance", maintenance: bool =
        "Whether SIP is closed for maintenance";
    Counter "ringfence_log_lost", log_lost: u64 =
        "Lines of the daemon's log that were lost because its reader was too slow";
}

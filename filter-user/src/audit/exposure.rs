//! The ports that the filter closes, and the networks that use the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ::audit::facts::{Socket, Time, Uses, Visits};
use api::{OpenTo, Transport};

use super::Missing;
use crate::clock::{self, KernelTime, Now, Rfc3339};
use crate::datapath::{self, PortVisits};

/// The ports of these sockets that the filter closes.
pub(super) fn closed(
    bpffs: &Path,
    sockets: &[Socket],
    missing: &mut Missing,
) -> BTreeMap<(Transport, u16), OpenTo> {
    let ports: BTreeSet<(bool, u16)> =
        sockets.iter().map(|one| (one.transport == Transport::Tcp, one.port)).collect();
    let closed = datapath::closed(bpffs, &ports);
    let closed = missing.or_default("the ports that the filter closes", closed).into_iter();
    let closed = closed.map(|((tcp, port), trusted)| {
        let open_to = if trusted { OpenTo::Trusted } else { OpenTo::Nobody };
        ((transport(tcp), port), open_to)
    });
    closed.collect()
}

/// The networks that use the ports.
pub(super) fn visits(bpffs: &Path, missing: &mut Missing) -> Option<Vec<Visits>> {
    let visits = missing.or_default("which networks use which ports", datapath::visits(bpffs));
    let now = clock::read();
    visits.map(|all| all.into_iter().map(|one| of_port(one, now)).collect())
}

fn transport(tcp: bool) -> Transport {
    if tcp { Transport::Tcp } else { Transport::Udp }
}

fn of_port(visits: PortVisits, now: Now) -> Visits {
    let time = |time: KernelTime| Time {
        ago: now.kernel.since(time),
        text: Rfc3339(clock::Moment::from(time).on_the_wall(now.kernel, now.wall)).to_string(),
    };
    let uses = |uses: datapath::Uses| Uses {
        networks: uses.networks,
        missed: uses.missed,
        last: uses.last.map(time),
    };
    Visits {
        transport: transport(visits.tcp),
        port: visits.port,
        since: time(visits.since),
        private: uses(visits.private),
        public: uses(visits.public),
        networks: visits.networks.into_iter().map(|(net, last)| (net, time(last))).collect(),
    }
}

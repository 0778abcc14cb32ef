//! The cost of ports that are not open to everybody: one packet again and again, where no port is guarded and where
//! those of a usual host are.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use filter_common::abi::{OPEN_TO_REPLIES, OPEN_TO_TRUSTED};
use filter_user::config::{Mode, PortGuard, PortRange};
use filter_user::datapath::settings::Guarded;

use super::lane::Lane;
use super::protected::Protected;
use super::report::{Group, Row};
use super::{REPEAT, Settings, timed};
use crate::bpf::Action;
use crate::interrupt;
use crate::packet_builder::{Frame, flag};
use crate::screen::Screen;

/// The source of every packet; it is in no table.
const SOURCE: &str = "203.0.113.9";

/// A packet, and what happens to it where ports are guarded.
struct Kind {
    case: &'static str,
    what: &'static str,
    frame: Frame,
    drops: bool,
}

fn kinds(from: &Frame) -> [Kind; 5] {
    let kind = |case, what, frame, drops| Kind { case, what, frame, drops };
    let syn = |port| from.clone().tcp(port).tcp_flags(flag::SYN).payload([]);
    [
        kind("port-udp-open", "a datagram to an open port", from.clone().udp(20_000), false),
        kind(
            "port-tcp-stands",
            "a segment of a connection to a closed port",
            from.clone().tcp(5432).tcp_flags(flag::ACK),
            false,
        ),
        kind("port-syn-open", "a SYN to an open port", syn(80), false),
        kind("port-syn-recorded", "a SYN to a port whose users are recorded", syn(8000), false),
        kind("port-syn-closed", "a SYN to a closed port", syn(5432), true),
    ]
}

/// Services for trusted sources alone, and NTP.
fn guarded() -> Guarded {
    let guard = |tcp, port, open_to| PortGuard { tcp, range: PortRange::single(port), open_to };
    let tcp = [22, 5432, 5672, 8500, 9486].map(|port| guard(true, port, OPEN_TO_TRUSTED));
    let ntp = guard(false, 123, OPEN_TO_TRUSTED | OPEN_TO_REPLIES);
    Guarded { ports: tcp.into_iter().chain([ntp]).collect(), dry_run: false }
}

/// Measures what is wanted.
pub(super) fn measure(settings: &Settings, screen: &mut Screen) -> Result<Vec<Row>> {
    let from = Frame::from(SOURCE.parse()?).payload([0x80; 172]);
    let kinds: Vec<Kind> =
        kinds(&from).into_iter().filter(|kind| settings.wants(kind.case)).collect();
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let (open_lane, lane) = (Lane::new()?, Lane::new()?);
    let open = Protected::attach(&open_lane, Mode::Native)?;
    let mut protected = Protected::attach_guarded(&lane, &guarded())?;
    protected.record(&BTreeSet::from([(true, 8000)]))?;
    let (without, with) = (open.program()?, protected.program()?);
    let mut rounds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); kinds.len()];
    for number in 1..=settings.rounds {
        for (kind, rounds) in kinds.iter().zip(&mut rounds) {
            interrupt::check()?;
            let frame = kind.frame.build();
            let time = |program| timed(program, &frame, settings.time, REPEAT);
            let (before, passes) = time(&without)?;
            let (took, action) = time(&with)?;
            let (after, _) = time(&without)?;
            let expected = if kind.drops { Action::Drop } else { Action::Pass };
            ensure!(passes == Action::Pass, "{}: {passes:?} without closed ports", kind.what);
            ensure!(action == expected, "{}: {action:?} and not {expected:?}", kind.what);
            rounds.push((took, f64::midpoint(before, after)));
        }
        screen.say(&format!("  closed ports: round {number} of {}", settings.rounds))?;
    }
    let row = |(kind, rounds): (&Kind, &Vec<(f64, f64)>)| {
        let took = rounds.iter().map(|(took, _)| *took).collect();
        let added = rounds.iter().map(|(took, open)| took - open);
        let row = Row::new(Group::Ports, kind.case, kind.what, "ns", took)?;
        let open = rounds.iter().map(|(_, open)| *open);
        Some(row.beside("without closed ports", open, added, "ns more"))
    };
    Ok(kinds.iter().zip(&rounds).filter_map(row).collect())
}

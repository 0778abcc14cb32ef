//! The host: the packets pass the policy, Asterisk answers and writes, and the controller hears it through the
//! parsers. Time is passed in.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use filter_common::abi::{
    WIRE_ACCEPTED, WIRE_CALLED, WIRE_CHALLENGED, WIRE_HANDLED, WIRE_INVITE, WIRE_REFUSED, WIRE_TCP,
    WireEvent,
};
use filter_common::address::Address;
use filter_common::decision::{Reason, Verdict};
use filter_user::ban::{InForce, Roster};
use filter_user::clock::{KernelTime, Now};
use filter_user::config::Config;
use filter_user::control::{Answer, Reply as Answered, Request as Question};
use filter_user::controller::{Controller, Source};
use filter_user::doctor::Trunks;
use filter_user::failure::{Attempt, Transport};
use filter_user::host::Essential;
use filter_user::parse::ami::Block;
use filter_user::parse::dates::DateFormat;
use filter_user::parse::{Parser, Reader, Said, ami};
use filter_user::register::ASTERISK_JAIL;
use filter_user::store::Store;
use filter_user::wire::{Counts, Kind, Response, Responses};
use ipnet::IpNet;
use jiff::Timestamp;

use super::kernel::Kernel;
use super::registrar::{Handled, Registrar, Reply, Request};
use super::{Decided, Hears};

/// The sources of the daemon, by number.
const LOG: usize = 0;
const WIRE: usize = 1;
const AMI: usize = 2;

/// The effect of a packet.
#[derive(Debug)]
pub(super) enum Fate {
    /// It was dropped.
    Dropped(Reason),
    /// Asterisk has answered.
    Answered(Reply),
}

/// The host.
pub(super) struct Host {
    config: Config,
    hears: Hears,
    trunks: Trunks,
    kernel: Kernel,
    controller: Controller<Kernel>,
    responses: Responses,
    log: Reader,
    pub(super) registrar: Registrar,
    /// The bans and throttles so far.
    pub(super) decided: Vec<Decided>,
    /// How many packets arrived.
    pub(super) packets: u64,
}

impl Host {
    pub(super) fn start(
        config: Config,
        hears: Hears,
        registrar: Registrar,
        trunks: &[IpAddr],
    ) -> Result<Self> {
        let kernel = Kernel::new(&config);
        let networks: BTreeSet<IpNet> = trunks.iter().copied().map(IpNet::from).collect();
        let trunks = Trunks { networks, ..Trunks::default() };
        let controller = controller(&config, &kernel, &trunks, KernelTime(0))?;
        Ok(Self {
            config,
            hears,
            trunks,
            kernel,
            controller,
            responses: Responses::default(),
            log: reader(),
            registrar,
            decided: Vec::new(),
            packets: 0,
        })
    }

    /// Starts the host again: the kernel's maps are empty, and the daemon has forgotten its failures.
    pub(super) fn reboot(&mut self, now: KernelTime) -> Result<()> {
        self.kernel = Kernel::new(&self.config);
        self.kernel.set_time(now);
        self.controller = controller(&self.config, &self.kernel, &self.trunks, now)?;
        (self.responses, self.log) = (Responses::default(), reader());
        Ok(())
    }

    /// Lets time pass.
    pub(super) fn advance(&mut self, now: KernelTime) {
        while let Some(due) = self.controller.next_timeout().filter(|due| *due <= now) {
            self.kernel.set_time(due);
            self.controller.handle_timeout(due);
            self.note_decisions(due);
        }
        self.kernel.set_time(now);
    }

    /// Takes a request from the network. `known` is the reply to it if it has arrived before.
    pub(super) fn take(
        &mut self,
        request: &Request,
        known: Option<&Reply>,
        now: KernelTime,
    ) -> Fate {
        self.packets += 1;
        self.advance(now);
        let reason = self.kernel.arrives(request.source, &request.text());
        if reason.verdict() == Verdict::Drop {
            return Fate::Dropped(reason);
        }
        let handled = match known {
            Some(reply) => Handled { reply: reply.clone(), lines: Vec::new(), events: Vec::new() },
            None => self.registrar.handle(request, now),
        };
        // The log is written first, but read after the responses about as often as before them.
        let log_first = request.cseq.is_multiple_of(2);
        if log_first {
            self.read(&handled, now);
        }
        for provisional in &handled.reply.before {
            self.send(request.source, provisional, now);
        }
        self.send(request.source, &handled.reply.text, now);
        if !log_first {
            self.read(&handled, now);
        }
        self.note_decisions(now);
        Fate::Answered(handled.reply)
    }

    /// Takes a response from the network. Returns why it was dropped, if it was.
    pub(super) fn take_reply(
        &mut self,
        from: SocketAddr,
        reply: &str,
        now: KernelTime,
    ) -> Option<Reason> {
        self.packets += 1;
        self.advance(now);
        let reason = self.kernel.arrives(from, reply);
        (reason.verdict() == Verdict::Drop).then_some(reason)
    }

    /// Sends a message from the SIP port.
    pub(super) fn send(&mut self, to: SocketAddr, message: &str, now: KernelTime) {
        let told = self.kernel.leaves(to, message);
        if self.hears == Hears::Log {
            return;
        }
        for response in told.iter().filter_map(response) {
            let attempt = self.responses.attempt(&response);
            for attempt in attempt.into_iter().flat_map(Attempt::each) {
                self.controller.observe(&attempt, WIRE, ASTERISK_JAIL, now);
            }
        }
    }

    /// Reads what Asterisk wrote.
    fn read(&mut self, handled: &Handled, now: KernelTime) {
        for line in &handled.lines {
            if let Said::Attempt(attempt) = self.log.read(line.as_bytes()) {
                self.controller.observe(&attempt, LOG, ASTERISK_JAIL, now);
            }
        }
        if self.hears != Hears::All {
            return;
        }
        for event in &handled.events {
            if let Block::Security(Some(attempt)) = ami::parse(event.as_bytes()) {
                self.controller.observe(&attempt, AMI, ASTERISK_JAIL, now);
            }
        }
    }

    /// Notes the bans and throttles that have just begun.
    fn note_decisions(&mut self, now: KernelTime) {
        for network in self.kernel.take_closed() {
            let address = network.addr();
            let answer = self.controller.answer(Question::Why { address }, now);
            let Answered::Ok(Answer::Why(why)) = answer else { continue };
            let Some(ban) = why.bans.into_iter().next() else { continue };
            self.decided.push(Decided {
                address,
                at: now,
                is_throttle: ban.scope == "throttle",
                reason: ban.reason,
                by: why.evidence.last().map(|evidence| evidence.source.clone()),
            });
        }
    }
}

fn reader() -> Reader {
    Reader::new(Parser::Asterisk(Arc::new(DateFormat::default())))
}

fn controller(
    config: &Config,
    kernel: &Kernel,
    trunks: &Trunks,
    now: KernelTime,
) -> Result<Controller<Kernel>> {
    let wall = Timestamp::from_second(1_700_000_000).context("a time")?;
    let roster = Arc::new(Roster::new(config.jails.keys().copied()));
    let mut controller = Controller::new(
        kernel.clone(),
        config,
        roster,
        BTreeSet::new(),
        (Store::nowhere(), None, &InForce::default()),
        Now { kernel: now, wall },
    )?;
    for (name, kind) in [("asterisk-notice", "file"), ("wire", "wire"), ("asterisk-ami", "ami")] {
        controller.add_source(Source::new(name, kind, String::new()), now);
    }
    controller.set_essentials(&Essential::default(), trunks, now);
    Ok(controller)
}

/// An event of the program, as the datapath reads it.
fn response(event: &WireEvent) -> Option<Response> {
    let kind = match event.kind {
        WIRE_CHALLENGED => Kind::Challenged,
        WIRE_REFUSED => Kind::Refused,
        WIRE_ACCEPTED => Kind::Accepted,
        WIRE_CALLED => Kind::Called,
        _ => return None,
    };
    let text = |words: &[u64], len: u32| -> Box<[u8]> {
        let bytes = words.iter().flat_map(|word| word.to_le_bytes());
        bytes.take(usize::try_from(len).unwrap_or(usize::MAX)).collect()
    };
    Some(Response {
        address: IpAddr::from(Address::from_words(event.address)),
        kind,
        status: event.status,
        transport: if event.flags & WIRE_TCP == 0 { Transport::Udp } else { Transport::Tcp },
        is_call: event.flags & WIRE_INVITE != 0,
        is_handled: event.flags & WIRE_HANDLED != 0,
        counts: Counts { challenged: event.challenges, refused: event.refused },
        session: text(&event.session, event.lengths & 0xffff),
        account: text(&event.account, event.lengths >> 16),
    })
}

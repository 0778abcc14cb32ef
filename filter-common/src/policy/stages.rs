//! The stages of the decision that not every packet reaches.
//!
//! In the kernel each is a separate function that the verifier follows once, not once for each path that
//! leads to it (`btf_prepare_func_args` in kernel/bpf/btf.c). They take and return plain numbers.

use super::bans::{InNetwork, OfAddress};
use super::{Tables, Task, answers, bans, exposure, stream, tiers};
use crate::abi::Config;
use crate::address::Address;
use crate::decision::Code;
use crate::packet::{self, Headers, Packet, Place, Unparsed, Words};
use crate::sip::Fields;

/// How the stages are called: directly on the host, and through a separate function each in the kernel.
pub trait Stages {
    /// The tables of the stages.
    type Tables: Tables;

    /// The same.
    fn tables(&self) -> &Self::Tables;

    /// [`packet::parse`] as plain words.
    ///
    /// # Errors
    ///
    /// The same.
    #[inline(always)]
    fn parse(&self, packet: &impl Packet) -> Result<Words, Unparsed> {
        packet::parse(packet).map(Headers::to_words)
    }
    /// [`bans::address_v6`].
    #[inline(always)]
    fn address_banned(&self, source: Address, reach: u8, config: &Config, now: u32) -> OfAddress {
        bans::address_v6(source, reach, now, config.seed, config.cache_lines, self.tables())
    }
    /// [`bans::network`].
    #[inline(always)]
    fn network_banned(&self, source: Address, reach: u8, now: u32) -> InNetwork {
        bans::network(source, reach, self.tables(), now)
    }
    /// [`exposure::admit`].
    #[inline(always)]
    fn admit(&self, words: Words, open: Code) -> Code {
        exposure::admit(words, open, self.tables())
    }
    /// [`stream::take`].
    #[inline(always)]
    fn stream(&self, packet: &impl Packet, words: Words) -> Code {
        stream::take(packet, words, self.tables())
    }
    /// [`stream::of_peer`].
    #[inline(always)]
    fn stream_of_peer(&self, _packet: &impl Packet, words: Words) -> bool {
        stream::of_peer(words, self.tables())
    }
    /// [`tiers::classify`].
    #[inline(always)]
    fn classify(&self, packet: &impl Packet, words: Words) -> Task {
        tiers::classify(packet, words, self.tables())
    }
    /// [`tiers::search`].
    #[inline(always)]
    fn search(&self, packet: &impl Packet, message: Place) -> Fields {
        tiers::search(packet, message, self.tables())
    }
    /// [`tiers::limit`].
    #[inline(always)]
    fn limit(&self, source: [u64; 2], task: Task) -> Code {
        tiers::limit(source, task, self.tables())
    }
    /// [`tiers::is_scanner`].
    #[inline(always)]
    fn is_scanner(&self, agent: u64) -> bool {
        tiers::is_scanner(agent, self.tables())
    }
    /// [`tiers::greylisted`].
    #[inline(always)]
    fn greylisted(&self, packet: &impl Packet, words: Words) -> Code {
        tiers::greylisted(packet, words, self.tables())
    }
    /// [`answers::admit`].
    #[inline(always)]
    fn answered(&self, packet: &impl Packet, words: Words, code: Code) -> Code {
        answers::admit(packet, words, code, self.tables())
    }
    /// [`tiers::flood`].
    #[inline(always)]
    fn flood(&self, _packet: &impl Packet, words: Words) -> bool {
        tiers::flood(words, self.tables())
    }
    /// [`Tables::trusted`].
    #[inline(always)]
    fn in_trusted_network(&self, source: Address) -> bool {
        self.tables().trusted(source)
    }
}

/// Called directly.
impl<T: Tables> Stages for T {
    type Tables = Self;

    #[inline(always)]
    fn tables(&self) -> &Self {
        self
    }
}

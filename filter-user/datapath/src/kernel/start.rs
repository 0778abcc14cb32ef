//! A start: loads the program and its maps, or takes over what an earlier daemon left, and attaches it.
//!
//! Must never decide.

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData};
use aya::{Ebpf, EbpfLoader};
use detection::ban::InForce;
use filter_common::abi::{self, maps};
use filter_common::ban_cache;
use filter_common::ban_table::{entries_for, lines_for};
use filter_common::limits::INTERFACES;

use super::Kernel;
use crate::ban_cache::BanCache;
use crate::ban_table::BanTable;
use crate::bans::Bans;
use crate::beat::{Heart, LastBeat};
use crate::config_map::ConfigMap;
use crate::configure::SignatureMap;
use crate::counters::Counters;
use crate::detach::{detach_all, remove_link};
use crate::events::{Events, Responses};
use crate::gates::Presence;
use crate::geo::GeoTable;
use crate::guard::Guard;
use crate::mapped::{Memory, data};
use crate::object::OBJECT;
use crate::peers::KnownPeers;
use crate::pins::{self, PinnedLink, Pins};
use crate::port::Datapath as _;
use crate::requirements;
use crate::reuse::reuse;
use crate::settings::{Guarded, Mode as Wanted, Settings};
use crate::slots::{Slot, slots};
use crate::unread::Unread;
use crate::visits::Visits;
use crate::{attach, clock, clocks, egress};

/// The result of a start.
pub struct Opened {
    /// The attached program.
    pub kernel: Kernel,
    /// The program's events.
    pub events: Events,
    /// The table of networks from which SIP is not admitted.
    pub geo: GeoTable,
    /// The responses that leave.
    pub responses: Responses,
    /// The bans in the pinned maps, which may include ended ones.
    pub bans: InForce,
    /// The last heartbeat of an earlier controller, if the filter has been without a controller
    /// since.
    pub silence: Option<LastBeat>,
    /// Messages about the start for the administrator.
    pub notes: Vec<String>,
}

/// Exclusive access to a directory of pins. Only one controller can have it.
#[derive(Debug)]
pub struct Locked {
    pins: Pins,
    fresh: bool,
}

impl Locked {
    /// Completes [`Kernel::open`].
    ///
    /// # Errors
    ///
    /// The same as of [`Kernel::open`].
    pub fn open(self, settings: &Settings) -> Result<Opened> {
        match Kernel::open_with(self.pins, settings) {
            // Nothing else would remove the new maps and detach the program.
            Err(error) if self.fresh => Err(match detach_all(&settings.bpffs) {
                Ok(_interfaces) => error,
                Err(left) => error.context(format!("the clean-up failed too ({left:#})")),
            }),
            opened => opened,
        }
    }
}

impl Kernel {
    /// Loads the program, or takes over what an earlier controller left, and attaches it.
    ///
    /// # Errors
    ///
    /// If an interface does not exist or has another XDP program, another controller owns the pins,
    /// or the kernel refuses.
    pub fn open(settings: &Settings) -> Result<Opened> {
        Self::lock(settings)?.open(settings)
    }

    /// The quick first step of [`open`](Self::open): checks that the interfaces exist and that no
    /// other controller is running, and takes the lock.
    ///
    /// # Errors
    ///
    /// If one of these checks fails, or the kernel lacks a requirement.
    pub fn lock(settings: &Settings) -> Result<Locked> {
        if settings.interfaces.len() > INTERFACES {
            bail!(
                "at most {} interfaces are possible; these are {}",
                INTERFACES,
                settings.interfaces.len()
            );
        }
        requirements::check()?;
        // If at least one interface exists or is protected, a missing one is waited for.
        let mut missing = settings.interfaces.iter().map(|name| attach::usable(name));
        if let Some(Err(error)) = missing.next()
            && missing.all(|usable| usable.is_err())
            && pins::protected(&settings.bpffs)?.is_empty()
        {
            return Err(error);
        }
        let pins = Pins::open(&settings.bpffs)?;
        let fresh = pins.is_empty()?;
        Ok(Locked { pins, fresh })
    }

    fn open_with(pins: Pins, settings: &Settings) -> Result<Opened> {
        let mut notes = Vec::new();
        let lines = lines_for(settings.bans);
        let saved = reuse(&pins, settings, lines, &mut notes)?;
        let (slots, unwanted) = slots(&pins, &settings.interfaces)?;
        notes.extend(slots.iter().filter_map(Slot::renamed));

        let mut guards = Vec::new();
        for slot in &slots {
            let mut program = load(&pins, settings.bans_ipv6, lines, slot.number, &slot.name)?;
            // Load now, while all of its maps are open, even if the interface appears only later.
            attach::load(&mut program)?;
            // If the classifier cannot be loaded, attaching it reports the error.
            let _said_later = egress::load(&mut program);
            guards.push(Guard::new(slot, program));
        }
        let Some(first) = guards.first_mut().map(|guard| &mut guard.program) else {
            bail!("no interface to protect; name one with `-i` or `interfaces:`");
        };
        let mut config = ConfigMap::new(take(first, maps::CONFIG)?)?;
        let seed = seed(&mut config)?;
        let capacity = usize::try_from(settings.bans)?;
        let table = BanTable::new(Memory::of(data(take(first, maps::BANS_V4)?)?)?, seed, capacity);
        let cache = BanCache::new(Memory::of(data(take(first, maps::BANS_V6_CACHE)?)?)?, seed);
        let gate = Presence::new(Memory::of(data(take(first, maps::PRESENCE)?)?)?, seed);
        let mut kernel = Self {
            guards: Vec::new(),
            bans: Bans::new(
                table,
                (HashMap::try_from(take(first, maps::BANS_V6)?)?, cache),
                LpmTrie::try_from(take(first, maps::BAN_NETS)?)?,
                gate,
            )?,
            config,
            seed,
            trusted: LpmTrie::try_from(take(first, maps::TRUSTED)?)?,
            trust_gate: Memory::of(data(take(first, maps::TRUST_GATE)?)?)?,
            trusted_networks: Vec::new(),
            trusted_by_route: settings.trusted_by_route,
            peers: KnownPeers {
                known: HashMap::try_from(take(first, maps::KNOWN)?)?,
                gate: Memory::of(data(take(first, maps::KNOWN_GATE)?)?)?,
                crowds: Memory::of(data(take(first, maps::CROWDS)?)?)?,
                learned: Array::try_from(take(first, maps::LEARNED)?)?,
                seed,
                remember: settings.known_for,
            },
            flooders: HashMap::try_from(take(first, maps::FLOODERS)?)?,
            challenged: HashMap::try_from(take(first, maps::CHALLENGED)?)?,
            signatures: SignatureMap::try_from(take(first, maps::SIGNATURES)?)?,
            ports: Array::try_from(take(first, maps::PORTS)?)?,
            open_to: Array::try_from(take(first, maps::GUARDS)?)?,
            port_settings: (settings.sip.clone(), settings.ports.clone(), Guarded::default()),
            visits: Visits::new(take(first, maps::VISITED)?)?,
            user_agents: settings.user_agents.clone(),
            seen: Array::try_from(take(first, maps::SEEN)?)?,
            counters: Counters::new(take(first, maps::COUNTERS)?)?,
            capacity: settings.bans,
            prefix_bytes: settings.limits.tcp_bytes.prefix,
            mode: settings.mode,
            checks: 0,
            bans_ipv6: settings.bans_ipv6,
            unread: Unread::default(),
            heart: Heart::open(take(first, maps::BEAT)?, settings.unattended_after)?,
            pins,
        };
        let events = Events::new(take(first, maps::EVENTS)?)?;
        let responses = Responses::new(take(first, maps::WIRE)?)?;
        let geo = GeoTable::new(take(first, maps::GEO_V4)?, take(first, maps::GEO_V6)?)?;
        let clocks = clocks::measure(first)?;

        saved.iter().try_for_each(|entry| kernel.ban(entry))?;
        let bans = kernel.bans.held()?;
        kernel.own(&settings.own)?;
        kernel.trust(&settings.trusted)?;
        kernel.write(settings, clocks)?;
        for slot in slots.iter().filter(|slot| slot.fresh) {
            kernel.counters.clear(slot.number)?;
        }
        let mut refused = None;
        for guard in &mut guards {
            if let Err(error) = guard.begin(&kernel.pins, settings.mode) {
                // A program that was attached before remains attached. If the mode in the configuration
                // is not possible, the administrator must change the configuration.
                if settings.mode != Wanted::Auto && guard.has_ours(&kernel.pins) {
                    return Err(error);
                }
                guard.interface.unprotected = Some(format!("{error:#}"));
                refused = refused.or(Some(error));
            }
            notes.extend(guard.amiss());
        }
        if let (Some(error), true) = (refused, guards.iter().all(Guard::is_bare)) {
            return Err(error);
        }
        kernel.guards = guards;
        // Last, so that a start that fails above leaves these links unchanged.
        kernel.detach_unwanted(&unwanted, &mut notes)?;
        let silence = kernel.beat(clock::now());
        Ok(Opened { kernel, events, geo, responses, bans, silence, notes })
    }

    /// Detaches the program from interfaces that are no longer to be protected, unless a configured one is missing.
    fn detach_unwanted(&self, unwanted: &[PinnedLink], notes: &mut Vec<String>) -> Result<()> {
        let missing = self.guards.iter().find(|guard| guard.index.is_none());
        for link in unwanted {
            let name = link.name();
            if let Some(Guard { pin, .. }) = missing {
                // The configured name may be a mistyped name of this interface.
                notes.push(format!(
                    "`{name}` is not among the interfaces, but keeps the program until `{pin}` \
                     exists"
                ));
                continue;
            }
            remove_link(self.pins.directory(), link)?;
            notes.push(format!("detached the program from `{name}`, which is now unprotected"));
        }
        Ok(())
    }
}

/// Loads the program for an interface, with the pinned maps.
pub(super) fn load(pins: &Pins, bans_ipv6: u32, lines: u32, slot: u32, name: &str) -> Result<Ebpf> {
    let loopback = u32::from(name == "lo");
    let mut loader = EbpfLoader::new();
    loader
        .override_global(abi::INTERFACE_SLOT, &slot, true)
        .override_global(abi::LOOPBACK, &loopback, true)
        .map_max_entries(maps::BANS_V4, entries_for(lines))
        .map_max_entries(maps::BANS_V6, bans_ipv6)
        .map_max_entries(maps::BANS_V6_CACHE, ban_cache::lines_for(bans_ipv6));
    for name in maps::PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).context("load the XDP program and its maps (this needs Linux 6.1 and root)")
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map `{name}`"))
}

/// The secret of the hashes. It is kept over restarts, because all hashed positions in the maps depend on it.
fn seed(config: &mut ConfigMap<MapData>) -> Result<u64> {
    let mut old = config.get()?;
    if old.seed == 0 {
        old.seed = random()?;
        config.set(&old)?;
    }
    Ok(old.seed)
}

/// A random number other than zero.
fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).context("get random bytes")?;
    Ok(u64::from_ne_bytes(bytes) | 1)
}

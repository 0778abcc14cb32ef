//! The object that the library embeds: that it says what `abi` says, and that the kernel takes it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use anyhow::{Context as _, Result};
use aya::maps::MapInfo;
use aya::util::KernelVersion;
use aya_obj::generated::{BPF_F_NO_PREALLOC, bpf_map_type};
use aya_obj::{Object, ProgramSection};
use filter_common::abi::{
    self, BanEntry, COUNTERS_PER_INTERFACE, Config, Counter, PORT_BLOCKS, PORTS_PER_BLOCK, maps,
};
use filter_common::limits::{
    BANNED_ADDRESSES, BANNED_NETWORKS, BUCKETS, EVENT_BYTES, INTERFACES, TRUSTED_NETWORKS,
};
use filter_user::datapath::OBJECT;
use ringfence_tests::kernel::Kernel;

/// A longest-prefix trie's key: the prefix length, and the address's two words.
const TRIE_KEY: usize = 4 + 16;

/// Type, bytes of key and value, and entries of each map that the ABI speaks of.
const MAPS: &[(&str, bpf_map_type, usize, usize, u32)] = {
    use bpf_map_type::{
        BPF_MAP_TYPE_ARRAY as ARRAY, BPF_MAP_TYPE_HASH as HASH, BPF_MAP_TYPE_LPM_TRIE as TRIE,
        BPF_MAP_TYPE_PERCPU_ARRAY as PERCPU, BPF_MAP_TYPE_RINGBUF as RING,
    };
    #[expect(clippy::cast_possible_truncation, reason = "eight")]
    const COUNTERS: u32 = INTERFACES as u32 * COUNTERS_PER_INTERFACE;
    &[
        (maps::CONFIG, ARRAY, 4, size_of::<Config>(), 1),
        (maps::PORTS, ARRAY, 4, PORTS_PER_BLOCK, PORT_BLOCKS),
        (maps::BANS_V4, HASH, 4, size_of::<BanEntry>(), BANNED_ADDRESSES),
        (maps::BANS_V6, HASH, 16, size_of::<BanEntry>(), BANNED_ADDRESSES),
        (maps::BAN_NETS, TRIE, TRIE_KEY, size_of::<BanEntry>(), BANNED_NETWORKS),
        (maps::TRUSTED, TRIE, TRIE_KEY, 4, TRUSTED_NETWORKS),
        (maps::REGISTER, ARRAY, 4, 8, BUCKETS),
        (maps::SEEN, ARRAY, 4, 4, BUCKETS),
        (maps::COUNTERS, PERCPU, 4, size_of::<Counter>(), COUNTERS),
        (maps::EVENTS, RING, 0, 0, EVENT_BYTES),
    ]
};

/// Maps that are the program's own, of which only the names are agreed.
const PRIVATE: [&str; 2] = [maps::SCRATCH, maps::EVENT_RATE];

/// The most instructions that a kernel's verifier may follow: half of what it allows
/// (`BPF_COMPLEXITY_LIMIT_INSNS`), since another compiler spills elsewhere and another kernel knows
/// less of what was spilled.
const INSTRUCTION_BUDGET: u32 = 500_000;

/// What the maps may take before anybody is banned.
const MEMORY_BUDGET: u64 = 40 << 20;

fn object() -> Object {
    Object::parse(OBJECT).expect("aya reads the object")
}

#[test]
fn it_has_the_maps_of_the_abi() {
    let object = object();
    for (name, kind, key, value, entries) in MAPS {
        let map = object.maps.get(*name).unwrap_or_else(|| panic!("no map {name}"));
        let sizes = (map.key_size() as usize, map.value_size() as usize, map.max_entries());
        assert_eq!(map.map_type(), *kind as u32, "{name}");
        assert_eq!(sizes, (*key, *value, *entries), "{name}: bytes of key and value, entries");
    }
}

#[test]
fn it_has_no_map_that_nobody_speaks_of() {
    let named: Vec<_> = MAPS.iter().map(|row| row.0).chain(PRIVATE).collect();
    for name in object().maps.keys().filter(|name| !name.starts_with('.')) {
        assert!(named.contains(&name.as_str()), "{name}");
    }
    assert_eq!(maps::PINNED.len(), MAPS.len());
    for name in maps::PINNED {
        assert!(MAPS.iter().any(|row| row.0 == *name), "{name} is pinned and not checked");
    }
}

#[test]
fn it_has_one_program_for_fragmented_buffers() {
    let object = object();
    let names: Vec<_> = object.programs.keys().collect();
    assert_eq!(names, [abi::PROGRAM]);
    let program = &object.programs[abi::PROGRAM];
    assert!(
        matches!(program.section, ProgramSection::Xdp { frags: true, .. }),
        "{:?}",
        program.section
    );
    assert_eq!(program.license.to_bytes(), b"Dual MIT/GPL");
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn the_verifier_accepts_it() {
    let kernel = Kernel::load(0).unwrap();
    let info = kernel.program().unwrap().info().unwrap();
    assert_eq!(info.name_as_str(), Some(abi::PROGRAM));
    assert_eq!(info.gpl_compatible(), Some(true));
    let verified = info.verified_instruction_count().expect("Linux tells since 5.16");
    assert!(verified <= INSTRUCTION_BUDGET, "{verified} of {INSTRUCTION_BUDGET}");
    println!(
        "verified {verified} instructions; {} bytes of them translated",
        info.size_translated().unwrap_or_default()
    );
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn empty_maps_take_little_memory() {
    let kernel = Kernel::load(0).unwrap();
    let info = kernel.program().unwrap().info().unwrap();
    let ids = info.map_ids().unwrap().expect("Linux tells since 4.15");
    let mut taken = BTreeMap::new();
    for id in ids {
        let map = MapInfo::from_id(id).unwrap();
        let name = map.name_as_str().unwrap_or("?").to_owned();
        taken.insert((name, id), memlock(&map).unwrap());
    }
    let sum: u64 = taken.values().sum();
    for ((name, _), bytes) in &taken {
        println!("{name:12} {bytes:10}");
    }
    println!("{:12} {sum:10}", "all");
    assert!(taken.len() >= MAPS.len(), "{taken:?}");
    assert!(sum <= MEMORY_BUDGET, "{sum} bytes: {taken:?}");
}

/// Bytes that the kernel has taken for a map, or 0 where it does not know: before Linux 6.4 it tells
/// what all entries would take, of a map that takes memory only for those that it has too.
fn memlock(map: &MapInfo) -> Result<u64> {
    let fd = map.fd()?;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        value.with_context(|| format!("the kernel tells no {name}"))
    };
    let flags = u32::from_str_radix(field("map_flags:")?.trim_start_matches("0x"), 16)?;
    let grows = flags & BPF_F_NO_PREALLOC != 0;
    if grows && KernelVersion::current()? < KernelVersion::new(6, 4, 0) {
        return Ok(0);
    }
    Ok(field("memlock:")?.parse()?)
}

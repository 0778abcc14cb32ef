//! The object that the library embeds matches `abi`, and the kernel accepts it.

use aya_obj::generated::{BPF_F_MMAPABLE, bpf_insn, bpf_map_type};
use aya_obj::{Object, ProgramSection};
use filter_common::abi::{
    self, BanEntry, Beat, Buckets, COUNTERS_PER_INTERFACE, Capture, Challenged, Configs, Counter,
    Flooder, Learning, NetworkEntry, PORT_BLOCKS, PORTS_PER_BLOCK, Peer, SHARED_BUCKETS,
    STREAM_BUCKETS, SharedBucket, Signature, Visitor, Visits, maps,
};
use filter_common::ban_cache;
use filter_common::ban_table::Line;
use filter_common::gate::{GEO_WORDS, KNOWN_WORDS, PRESENCE_WORDS, TRUST_WORDS};
use filter_common::greylist;
use filter_common::limits::{
    AGENT_WORDS, ASKED_ADDRESSES, BANNED_NETWORKS, BANNED_V6, CAPTURE_BYTES, CHALLENGED_ADDRESSES,
    CROWD_PLACES, EVENT_BYTES, FLOODERS, GEO_NETWORKS, GREYLIST_LINES, INTERFACES, KNOWN_PEERS,
    PREFIX_LINES, RETRY_BUCKETS, RETRY_LINES, SEEN_PLACES, SIGNATURES, SOURCE_LINES,
    TRUSTED_NETWORKS, VISITED_PORTS, VISITORS, WIRE_BYTES,
};
use filter_user::datapath::OBJECT;
use ringfence_tests::kernel::{Kernel, memory};

/// The key of a longest-prefix trie: the prefix length, and the address's two words.
const TRIE_KEY: usize = 4 + 16;

/// Type, size of key and value, and number of entries of each map in the ABI.
const MAPS: &[(&str, bpf_map_type, usize, usize, u32)] = {
    use bpf_map_type::{
        BPF_MAP_TYPE_ARRAY as ARRAY, BPF_MAP_TYPE_HASH as HASH, BPF_MAP_TYPE_LPM_TRIE as TRIE,
        BPF_MAP_TYPE_LRU_HASH as LRU, BPF_MAP_TYPE_PERCPU_ARRAY as PERCPU,
        BPF_MAP_TYPE_RINGBUF as RING,
    };
    #[expect(clippy::cast_possible_truncation, reason = "eight")]
    const COUNTERS: u32 = INTERFACES as u32 * COUNTERS_PER_INTERFACE;
    &[
        (maps::CONFIG, ARRAY, 4, size_of::<Configs>(), 1),
        (maps::PORTS, ARRAY, 4, PORTS_PER_BLOCK, PORT_BLOCKS),
        // The controller chooses the number.
        (maps::BANS_V4, ARRAY, 4, size_of::<Line>(), 1),
        (maps::BANS_V6, HASH, 16, size_of::<BanEntry>(), BANNED_V6),
        // The same.
        (maps::BANS_V6_CACHE, ARRAY, 4, size_of::<ban_cache::Line>(), 1),
        (maps::BAN_NETS, TRIE, TRIE_KEY, size_of::<NetworkEntry>(), BANNED_NETWORKS),
        (maps::PRESENCE, ARRAY, 4, 8, PRESENCE_WORDS),
        (maps::TRUSTED, TRIE, TRIE_KEY, 4, TRUSTED_NETWORKS),
        (maps::TRUST_GATE, ARRAY, 4, 8, TRUST_WORDS),
        (maps::GEO_V4, ARRAY, 4, 8, GEO_WORDS),
        (maps::GEO_V6, TRIE, TRIE_KEY, 4, GEO_NETWORKS),
        (maps::SOURCES, ARRAY, 4, size_of::<Buckets>(), SOURCE_LINES),
        (maps::PREFIXES, ARRAY, 4, size_of::<Buckets>(), PREFIX_LINES),
        (maps::SHARED, ARRAY, 4, size_of::<SharedBucket>(), SHARED_BUCKETS),
        (maps::STREAMS, ARRAY, 4, 8, STREAM_BUCKETS),
        (maps::KNOWN, HASH, 16, size_of::<Peer>(), KNOWN_PEERS),
        (maps::KNOWN_GATE, ARRAY, 4, 8, KNOWN_WORDS),
        (maps::LEARNED, ARRAY, 4, size_of::<Learning>(), 1),
        (maps::BEAT, ARRAY, 4, size_of::<Beat>(), 1),
        (maps::CROWDS, ARRAY, 4, 8, CROWD_PLACES),
        (maps::FLOODERS, LRU, 16, size_of::<Flooder>(), FLOODERS),
        (maps::GREYLIST, ARRAY, 4, size_of::<greylist::Line>(), GREYLIST_LINES),
        (maps::CHALLENGED, LRU, 16, size_of::<Challenged>(), CHALLENGED_ADDRESSES),
        (maps::RETRIES, ARRAY, 4, size_of::<greylist::Line>(), RETRY_LINES),
        (maps::RETRY_RATE, ARRAY, 4, 8, RETRY_BUCKETS),
        (maps::WIRE, RING, 0, 0, WIRE_BYTES),
        (maps::CAPTURE, ARRAY, 4, size_of::<Capture>(), 1),
        (maps::CAPTURED, RING, 0, 0, CAPTURE_BYTES),
        (maps::SIGNATURES, TRIE, 4 + 8 * AGENT_WORDS, size_of::<Signature>(), SIGNATURES),
        (maps::SEEN, ARRAY, 4, 4, SEEN_PLACES),
        (maps::GUARDS, ARRAY, 4, PORTS_PER_BLOCK, PORT_BLOCKS),
        (maps::ASKED, LRU, 24, 8, ASKED_ADDRESSES),
        (maps::VISITED, HASH, 4, size_of::<Visits>(), VISITED_PORTS),
        (maps::VISITORS, LRU, 16, size_of::<Visitor>(), VISITORS),
        (maps::COUNTERS, PERCPU, 4, size_of::<Counter>(), COUNTERS),
        (maps::EVENTS, RING, 0, 0, EVENT_BYTES),
    ]
};

/// Maps that only the program uses; only their names are agreed.
const PRIVATE: [&str; 4] = [maps::SCRATCH, maps::EVENT_RATE, maps::WIRE_RATE, maps::CAPTURE_RATE];

/// The most instructions that a kernel's verifier may follow: six tenths of its limit
/// (`BPF_COMPLEXITY_LIMIT_INSNS`), because another compiler spills differently, and another kernel knows
/// less about spilled values: two builds of Linux 6.18 differ by 7 %.
const INSTRUCTION_BUDGET: u32 = 600_000;

/// The memory that the maps may take before there are bans.
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

/// The controller maps these into its memory.
#[test]
fn the_tables_it_shares_can_be_mapped() {
    let object = object();
    for name in [
        maps::BANS_V4,
        maps::BANS_V6_CACHE,
        maps::PRESENCE,
        maps::TRUST_GATE,
        maps::KNOWN_GATE,
        maps::CROWDS,
        maps::BEAT,
    ] {
        assert_ne!(object.maps[name].map_flags() & BPF_F_MMAPABLE, 0, "{name}");
    }
}

#[test]
fn it_has_the_programs_of_the_abi() {
    let object = object();
    let mut names: Vec<_> = object.programs.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, [abi::PROGRAM, abi::CLOCK_PROGRAM, abi::EGRESS_PROGRAM]);
    for (name, fragments) in [(abi::PROGRAM, true), (abi::CLOCK_PROGRAM, false)] {
        let program = &object.programs[name];
        assert!(
            matches!(program.section, ProgramSection::Xdp { frags, .. } if frags == fragments),
            "{name}: {:?}",
            program.section
        );
        assert_eq!(program.license.to_bytes(), b"Dual MIT/GPL");
    }
}

/// Linux 6.1 rounds the stack of each function up to 32 bytes, and allows 512 to a chain of calls
/// (`check_max_stack_depth` in kernel/bpf/verifier.c): the program, one of its stages, and a function without a
/// frame of its own, which counts as 32. Newer kernels round up to less, and would not notice.
#[test]
fn its_calls_fit_into_the_stack_of_old_kernels() {
    let object = object();
    let mut stages = 0;
    for function in object.functions.values() {
        let most = match function.name.as_str() {
            abi::PROGRAM => 160,
            name if name.starts_with("ringfence_") => 320,
            _ => continue,
        };
        let depth = stack_depth(&function.instructions).next_multiple_of(32);
        assert!(depth <= most, "{}: {depth} bytes of stack, at most {most}", function.name);
        stages += 1;
    }
    assert!(stages > 10, "only {stages} functions");
}

/// How far below the frame pointer a function writes and reads, in bytes.
fn stack_depth(instructions: &[bpf_insn]) -> usize {
    const FRAME: u8 = 10;
    // BPF_ALU64 with BPF_MOV | BPF_X, and with BPF_ADD | BPF_K.
    const MOVE: u8 = 0xbf;
    const ADD: u8 = 0x07;
    let mut copies = 0u16;
    let mut deepest = 0;
    for instruction in instructions {
        let (to, from) = (instruction.dst_reg(), instruction.src_reg());
        let offset = match instruction.code {
            MOVE => {
                let bit = 1 << to;
                copies = if from == FRAME { copies | bit } else { copies & !bit };
                0
            }
            ADD if copies & 1 << to != 0 => {
                copies &= !(1 << to);
                instruction.imm
            }
            // Loads by the source, stores by the destination.
            code if code & 7 == 1 && from == FRAME || matches!(code & 7, 2 | 3) && to == FRAME => {
                instruction.off.into()
            }
            _ => 0,
        };
        deepest = deepest.min(offset);
    }
    deepest.unsigned_abs().try_into().unwrap_or(usize::MAX)
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
    let taken = memory(&kernel.program().unwrap().info().unwrap()).unwrap();
    let sum: u64 = taken.values().sum();
    for ((name, _), bytes) in &taken {
        println!("{name:12} {bytes:10}");
    }
    println!("{:12} {sum:10}", "all");
    assert!(taken.len() >= MAPS.len(), "{taken:?}");
    assert!(sum <= MEMORY_BUDGET, "{sum} bytes: {taken:?}");
}

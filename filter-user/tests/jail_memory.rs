//! The memory of a million watched sources, from a count of all allocated bytes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use filter_user::clock::KernelTime;
use filter_user::config::Config;
use filter_user::failure::{Attempt, Class, Verdict};
use filter_user::jail::Jail;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Counting;

fn count(more: usize, less: usize) {
    let before = ALLOCATED.fetch_add(more, Relaxed);
    MOST.fetch_max(before.wrapping_add(more).wrapping_sub(less), Relaxed);
    ALLOCATED.fetch_sub(less, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises are the system allocator's conditions.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// The system moves large allocations without a copy, so both do not count at once.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SECOND: u64 = 1_000_000_000;
const MILLION: u32 = 1_000_000;

/// The target in bytes for each source.
const BYTES: usize = 100;

/// A failure with the longest name that an account can have.
fn failure(source: u32) -> Attempt {
    let address = IpAddr::from((0x0a00_0000 + source).to_be_bytes());
    let account = Some(format!("{source:064}"));
    Attempt { account, ..Attempt::new(Verdict::Failure, Class::WrongCredential, address) }
}

/// The only test in this file, because the count is that of the whole process.
#[test]
fn a_million_sources_take_less_than_a_hundred_bytes_each() {
    let settings = Config::default().jails["asterisk-wazo"].clone();
    let maxretry = settings.maxretry;
    let before = ALLOCATED.load(Relaxed);
    let mut jail =
        Jail::new("asterisk-wazo", settings, Config::default().capacity.watched as usize);

    // Within ten minutes: one is about to be banned, and a million fail once.
    let attacker = MILLION * 2;
    for _ in 1..maxretry {
        assert!(jail.observe(&failure(attacker), "log", KernelTime(0)).is_none());
    }
    for source in 1..MILLION {
        let now = u64::from(source) * 300 * SECOND / u64::from(MILLION);
        assert!(jail.observe(&failure(source), "log", KernelTime(now)).is_none());
    }
    assert_eq!((jail.watched(), jail.forgotten()), (MILLION as usize, 0));
    let now = ALLOCATED.load(Relaxed) - before;
    println!("a million sources with a failure each: {} bytes each", now / MILLION as usize);
    assert!(now <= BYTES * MILLION as usize, "{now} bytes");

    // Other sources, each of which fails repeatedly. They must not need more memory.
    for round in 0..3 {
        for source in MILLION..attacker - MILLION / 10 {
            let now = (300 + round * 60) * SECOND;
            jail.observe(&failure(source), "log", KernelTime(now));
        }
    }
    let most = MOST.load(Relaxed) - before;
    println!("the most at any time: {} bytes each", most / MILLION as usize);
    assert!(jail.watched() <= MILLION as usize && jail.forgotten() > 0);
    assert!(most <= BYTES * MILLION as usize, "{most} bytes");

    // And none of them has pushed out the one.
    let decision = jail.observe(&failure(attacker), "log", KernelTime(590 * SECOND)).unwrap();
    assert_eq!(decision.failures, maxretry as usize);
    assert!(decision.evidence.iter().all(|evidence| evidence.account.is_some()));

    // The memory used by a flood is freed.
    let mut now = 2000 * SECOND;
    while jail.next_timeout().is_some() {
        jail.handle_timeout(KernelTime(now));
        now += SECOND;
    }
    let left = ALLOCATED.load(Relaxed) - before;
    println!("when they have had their time: {left} bytes");
    assert!(left <= 8 * MILLION as usize, "{left} bytes");
}

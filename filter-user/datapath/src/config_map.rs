//! The writer of the configuration, which the program reads at the same time: a packet is judged by all of
//! one or by all of the next, never by some of each.

use std::borrow::{Borrow, BorrowMut};
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, Map, MapData, MapError};
use filter_common::abi::{Config, Configs};
use nix::libc;

/// The map of the configuration.
pub struct ConfigMap<T> {
    map: Array<T, Configs>,
}

impl ConfigMap<MapData> {
    /// The configuration in `map`.
    ///
    /// # Errors
    ///
    /// When it is another map.
    pub fn new(map: Map) -> Result<Self> {
        Ok(Array::try_from(map)?.into())
    }
}

impl<T> From<Array<T, Configs>> for ConfigMap<T> {
    fn from(map: Array<T, Configs>) -> Self {
        Self { map }
    }
}

impl<T: Borrow<MapData>> ConfigMap<T> {
    /// The configuration that packets are judged by.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn get(&self) -> Result<Config> {
        let Configs { current, sides: [first, second] } =
            self.all().context("read the configuration from the kernel")?;
        Ok(if current & 1 == 0 { first } else { second })
    }

    fn all(&self) -> Result<Configs, MapError> {
        self.map.get(&0, 0)
    }
}

impl<T: BorrowMut<MapData>> ConfigMap<T> {
    /// Has packets judged by this from now on. Waits, some milliseconds, for those that are being judged.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set(&mut self, config: &Config) -> Result<()> {
        self.switch(config).context("write the configuration to the kernel")
    }

    fn switch(&mut self, config: &Config) -> Result<(), MapError> {
        let mut all = self.all()?;
        // A packet that came before the last switch may have the side that is written now.
        let_packets_end();
        let [first, second] = &mut all.sides;
        *(if all.current & 1 == 0 { second } else { first }) = *config;
        // What packets are judged by is written too, as it is.
        self.map.set(0, all, 0)?;
        fence(Ordering::SeqCst);
        // One bit is all that changes.
        all.current ^= 1;
        self.map.set(0, all, 0)
    }
}

/// `MEMBARRIER_CMD_GLOBAL` of `include/uapi/linux/membarrier.h`.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Longer than a packet takes, should the kernel not say when the last one has ended.
const PACKET_MAX: Duration = Duration::from_millis(100);

/// Waits until every run of a program has ended that has begun.
fn let_packets_end() {
    // `synchronize_rcu` in the kernel (`kernel/sched/membarrier.c`), and a program runs under RCU.
    // SAFETY: takes numbers alone.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done != 0 {
        // Kernels with `nohz_full` do not have it.
        thread::sleep(PACKET_MAX);
    }
}

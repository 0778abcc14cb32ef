//! The writer of the configuration while the program reads it: each packet is judged by the old or the
//! new one, never by a mixture.
//!
//! Must never let the program see half a configuration.

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
    /// If it is another map.
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
    /// The configuration that is in use.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
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
    /// Switches to a configuration. Waits some milliseconds for packets that are being judged.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn set(&mut self, config: &Config) -> Result<()> {
        self.switch(config).context("write the configuration to the kernel")
    }

    fn switch(&mut self, config: &Config) -> Result<(), MapError> {
        let mut all = self.all()?;
        // A packet from before the last switch may still use the side that is written now.
        let_packets_end();
        let [first, second] = &mut all.sides;
        *(if all.current & 1 == 0 { second } else { first }) = *config;
        // This also writes the side in use, with the same contents.
        self.map.set(0, all, 0)?;
        fence(Ordering::SeqCst);
        // Now only one bit changes.
        all.current ^= 1;
        self.map.set(0, all, 0)
    }
}

/// `MEMBARRIER_CMD_GLOBAL` of `include/uapi/linux/membarrier.h`.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// Longer than a packet takes, in case the kernel cannot report when the last one has ended.
const PACKET_MAX: Duration = Duration::from_millis(100);

/// Waits until every run of a program that has begun has ended.
fn let_packets_end() {
    // `synchronize_rcu` in the kernel (`kernel/sched/membarrier.c`), and a program runs under RCU.
    // SAFETY: it takes only numbers.
    let done = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if done != 0 {
        // Kernels with `nohz_full` lack it.
        thread::sleep(PACKET_MAX);
    }
}

//! The counters of packets. Those of an interface are read with one call, because the history of traffic reads them
//! every second.

use anyhow::{Context as _, Error, Result};
use aya::maps::{IterableMap as _, Map, MapData, PerCpuArray, PerCpuValues};
use filter_common::abi::{COUNTERS_PER_INTERFACE, Counter, REASON_SLOTS, counter_index};
use filter_common::decision::Reason;

use super::batch;
use super::port::Count;

/// The counters of all interfaces.
pub(super) struct Counters {
    map: PerCpuArray<MapData, Counter>,
    /// The CPUs that are possible. Their number does not change while the system runs.
    cpus: usize,
}

impl Counters {
    pub(super) fn new(map: Map) -> Result<Self> {
        let cpus = aya::util::nr_cpus();
        let cpus =
            cpus.map_err(|(what, error)| Error::new(error).context(format!("read {what}")))?;
        Ok(Self { map: PerCpuArray::try_from(map)?, cpus })
    }

    /// The verdicts on the packets of an interface, or those that a dry run prevented, by reason.
    pub(super) fn read(&self, slot: u32, would: bool) -> Result<Vec<(Reason, Count)>> {
        let first = slot * COUNTERS_PER_INTERFACE + u32::from(would) * REASON_SLOTS;
        let map = self.map.map().fd();
        let values = batch::of_each_cpu::<Counter>(map, first, REASON_SLOTS, self.cpus);
        let values = values.context("read the counters")?;
        let count = |reason: &Reason| {
            let place = counter_index(slot, would, (*reason).into()) - first;
            let of_cpus = values.chunks_exact(self.cpus).nth(usize::try_from(place)?);
            let sum = of_cpus.unwrap_or_default().iter().fold(Count::default(), |sum, value| {
                sum.plus(Count { packets: value.packets, bytes: value.bytes })
            });
            Ok((*reason, sum))
        };
        Reason::ALL.iter().map(count).collect()
    }

    /// Begins to count the packets of an interface.
    pub(super) fn clear(&mut self, slot: u32) -> Result<()> {
        let first = slot * COUNTERS_PER_INTERFACE;
        for index in first..first + COUNTERS_PER_INTERFACE {
            let zeros = PerCpuValues::try_from(vec![Counter::default(); self.cpus])?;
            self.map.set(index, zeros, 0).context("clear the counters")?;
        }
        Ok(())
    }
}

//! Random numbers whose seed is shown if a test fails.

use std::time::SystemTime;

/// Its state, which determines the next numbers.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// A seed that differs each time.
    pub fn of_now() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(now.as_secs() << 30 | u64::from(now.subsec_nanos()))
    }

    /// The same numbers each time.
    pub fn with_seed(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        // Knuth's constants for a linear congruential generator.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

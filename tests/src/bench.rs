//! Measurements, each of ringfence beside its rival in the same run.

mod figures;
pub mod reaction;

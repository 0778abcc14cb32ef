//! The lab and its fixtures.

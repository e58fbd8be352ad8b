//! Checks: from single probe results to verdicts.

pub mod check;
pub mod schedule;
pub mod threshold;

pub use check::{Check, is_together};
pub use threshold::{Threshold, Verdict};

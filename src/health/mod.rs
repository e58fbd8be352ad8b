//! Checks: from single probe results to verdicts.

pub mod check;
pub mod schedule;
pub mod threshold;

pub use check::Check;
pub use threshold::{Threshold, Verdict};

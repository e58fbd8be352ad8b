//! Kernel objects: wanted, observed, and the plan from one to the other.

pub mod normal;
pub mod object;

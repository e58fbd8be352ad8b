//! Kernel objects: wanted, observed, and the plan from one to the other.

pub mod desired;
mod forward;
mod hash;
pub mod hops;
pub mod normal;
pub mod object;
pub mod reconcile;
pub mod view;

pub use reconcile::Fib;

#[cfg(test)]
mod tests;

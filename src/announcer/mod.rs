//! The composition: events in, effects out, every decision in between.

pub mod effect;
pub mod event;
pub mod journal;
pub mod memory;

pub use effect::Effect;
pub use event::Event;

//! The back-test: recorded probe results through the very same core, in virtual time.
//!
//! [`trace`] is what was recorded (made of the logs of other tools by [`convert`]); [`replay`] plays it to an
//! [`Announcer`](crate::announcer::Announcer) with thresholds of one's choice; [`judge`] holds what that did against
//! what really happened; [`sweep`] does so for many thresholds; [`plot`] draws it. All of it is pure: the files are
//! [`crate::ctl`]'s.

pub mod convert;
pub mod judge;
pub mod outage;
pub mod plot;
pub mod replay;
pub mod sweep;
pub mod trace;

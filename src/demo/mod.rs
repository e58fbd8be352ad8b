//! `announcerd demo`.

pub mod lab;

//! From the file to a checked [`model::Config`].

pub mod model;

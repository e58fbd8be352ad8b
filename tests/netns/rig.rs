//! The lab with everything in it.

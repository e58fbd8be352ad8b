//! What SPEC names and this version does not do yet: refused at its place, never ignored, never "unknown".
//!
//! The work that brings a key deletes its line here.

/// Tables as the readers call them, and the keys of each that are not supported yet.
const KEYS: &[(&str, &[&str])] = &[("instance", &["vrrp"])];

/// True if `key` of a table of this kind comes with a later version.
pub(super) fn key(kind: &str, key: &str) -> bool {
    KEYS.iter().any(|(table, keys)| *table == kind && keys.contains(&key))
}

/// The words for it.
pub(super) fn message(what: &str) -> String {
    format!("`{what}` is not supported by this version yet")
}

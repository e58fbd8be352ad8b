//! What SPEC names and this version does not do yet: refused at its place, never ignored, never "unknown".
//!
//! The work that brings a key deletes its line here.

/// Tables as the readers call them, and the keys of each that are not supported yet.
const KEYS: &[(&str, &[&str])] = &[("instance", &["vrrp"])];

/// Values of a check's `type` that are not supported yet.
const CHECK_TYPES: &[&str] = &[];

/// True if `key` of a table of this kind comes with a later version.
pub(super) fn key(kind: &str, key: &str) -> bool {
    KEYS.iter().any(|(table, keys)| *table == kind && keys.contains(&key))
}

/// True if that check type comes with a later version.
pub(super) fn check_type(name: &str) -> bool {
    CHECK_TYPES.contains(&name)
}

/// The words for it.
pub(super) fn message(what: &str) -> String {
    format!("`{what}` is not supported by this version yet")
}

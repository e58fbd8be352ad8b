//! Readers of the values that networks are made of: addresses, hosts, prefixes, devices, paths, commands.

use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;

use super::ScriptVerdict;
use super::model::Host;
use super::reader::Item;
use super::report::brief;
use super::words;
use crate::net::Prefix;

/// The kernel's IFNAMSIZ without the NUL.
const DEVICE_LONGEST: usize = 15;

/// The name of a check, an instance or a peer.
pub(super) fn name(item: &Item<'_, '_>) -> Option<String> {
    let name = item.word()?;
    if name.chars().count() > 64 {
        return item.fail("must not be longer than 64 characters");
    }
    match name.chars().find(|c| !(c.is_alphanumeric() || "-_.:".contains(*c))) {
        Some(c) => item.fail(format!("must be made of letters, digits and `-`, `_`, `.`, `:`, not `{c}`")),
        None => Some(name.to_owned()),
    }
}

/// A device's name, as the kernel would take it.
pub(super) fn device(item: &Item<'_, '_>) -> Option<String> {
    let name = item.word()?;
    let bad = |c: char| c.is_whitespace() || c == '/' || c == ':';
    if name.len() > DEVICE_LONGEST || name.contains(bad) || name == "." || name == ".." {
        return item.fail(format!(
            "{} is no name of a network device: up to {DEVICE_LONGEST} bytes, no spaces, no `/`, no `:`",
            brief(name)
        ));
    }
    Some(name.to_owned())
}

/// An absolute path.
pub(super) fn path(item: &Item<'_, '_>) -> Option<PathBuf> {
    let text = item.word()?;
    if text.starts_with('/') {
        Some(PathBuf::from(text))
    } else {
        item.fail(format!("{} must be an absolute path, beginning with `/`", brief(text)))
    }
}

/// A path; a relative one is meant from the folder of the configuration, which whoever opens it sees to.
pub(super) fn near_path(item: &Item<'_, '_>) -> Option<PathBuf> {
    item.word().map(PathBuf::from)
}

/// An address of one machine: not unspecified, not multicast, not broadcast.
pub(super) fn address(item: &Item<'_, '_>) -> Option<IpAddr> {
    let text = item.word()?;
    match text.parse() {
        Ok(address) => unicast(item, address),
        Err(_) if text.contains('%') => {
            item.fail(format!("{} has a zone; write the address alone and name the device", brief(text)))
        }
        Err(_) => item.fail(format!("{} is no address; write it as 192.0.2.1 or 2001:db8::1", brief(text))),
    }
}

/// Refuses addresses that cannot be one machine's.
pub(super) fn unicast(item: &Item<'_, '_>, address: IpAddr) -> Option<IpAddr> {
    match unusable(address) {
        None => Some(address),
        Some(why) => item.fail(format!("`{address}` {why}")),
    }
}

/// Why an address is not one machine's; `None` if it may be.
pub(super) fn unusable(address: IpAddr) -> Option<String> {
    if address.is_unspecified() {
        return Some("is the unspecified address; write the address that is meant".to_owned());
    }
    if address.is_multicast() {
        return Some("is a multicast address".to_owned());
    }
    match address {
        IpAddr::V4(a) if a.is_broadcast() => Some("is the broadcast address".to_owned()),
        IpAddr::V6(a) => {
            a.to_ipv4_mapped().map(|v4| format!("is an IPv4 address in IPv6 clothes; write {v4}"))
        }
        IpAddr::V4(_) => None,
    }
}

/// True for fe80::/10, which means nothing without a device.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if is_link_local_v6(a))
}

fn is_link_local_v6(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// An address or a DNS name.
pub(super) fn host(item: &Item<'_, '_>) -> Option<Host> {
    let text = item.word()?;
    if let Ok(address) = text.parse() {
        return unicast(item, address).map(Host::Address);
    }
    match not_a_name(text) {
        None => Some(Host::Name(text.to_owned())),
        Some(why) => item.fail(format!("{} is neither an address nor a name: {why}", brief(text))),
    }
}

/// Why a text is no DNS name (RFC 1123 section 2.1, and the underscores that people use); `None` if it is one.
fn not_a_name(text: &str) -> Option<&'static str> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    if text.contains("://") {
        return Some("write the host alone, without `…://`");
    }
    if text.contains('/') {
        return Some("write one address, without a prefix length");
    }
    if text.contains(['[', ']']) {
        return Some("write an IPv6 address without brackets");
    }
    if text.contains('%') {
        return Some("write the address alone and name the device with `device`");
    }
    if text.contains(':') {
        return Some("write the host alone, without a port");
    }
    let bad = |c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if bare.contains(|c| c != '.' && bad(c)) {
        return Some("a name is made of ASCII letters, digits, `-` and `.`");
    }
    let label = |l: &str| l.is_empty() || l.len() > 63 || l.starts_with('-') || l.ends_with('-');
    if bare.len() > 253 || bare.split('.').any(label) {
        return Some("the parts between the dots have 1 to 63 characters, the whole at most 253");
    }
    let last = bare.rsplit('.').next().unwrap_or(bare);
    let numeric = last.bytes().all(|b| b.is_ascii_digit());
    numeric.then_some("an IPv4 address has four numbers from 0 to 255")
}

/// A prefix without host bits.
pub(super) fn prefix(item: &Item<'_, '_>) -> Option<Prefix> {
    let text = item.word()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return item.fail(format!("has no prefix length; write {}", Prefix::host(address)));
    }
    text.parse().or_else(|e: crate::net::PrefixError| item.fail(e.to_string()).ok_or(())).ok()
}

/// The words of a command, from a string or an array; empty for an empty one.
pub(super) fn command(
    item: &Item<'_, '_>,
    inspect: &dyn Fn(&[String]) -> ScriptVerdict,
) -> Option<Vec<String>> {
    let words = if item.is_array() {
        item.list(|word| word.text().map(str::to_owned))?
    } else if item.is_string() {
        split(item)?
    } else {
        return item.fail("must be a command: a string, or an array of its words");
    };
    let Some(program) = words.first() else { return Some(words) };
    if program.is_empty() {
        return item.fail("has an empty word where the program should be");
    }
    if program.contains('/') && !program.starts_with('/') {
        return item.fail(format!("{} must be an absolute path, beginning with `/`", brief(program)));
    }
    match inspect(&words) {
        ScriptVerdict::Ok => {}
        ScriptVerdict::Missing(what) => item.warn(format!("{what}; it is tried again at every run")),
        ScriptVerdict::Insecure(why) => return item.fail(why),
    }
    Some(words)
}

fn split(item: &Item<'_, '_>) -> Option<Vec<String>> {
    let text = item.text()?;
    match words::split(text) {
        Err(error) => item.fail_at(error.at, 1, error.message),
        Ok(words) => {
            if let Some(c) = words.shell {
                item.warn(format!(
                    "`{c}` is passed on as it is, since no shell reads it; if one should, write [\"/bin/sh\", \"-c\", \"…\"]"
                ));
            }
            Some(words.words)
        }
    }
}

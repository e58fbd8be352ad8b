//! What can only be judged when every peer has been read: names, references, sessions that are one and the same.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::bgp::ReadBgp;
use super::check::ReadCheck;
use super::instance::ReadInstance;
use super::model::{Bgp, Probe};
use super::reader::join;
use super::report::{Report, Span};
use super::resolve::duplicate_names;

/// Runs all of it. Unless all peers were read, what seems to be missing may just not have been.
pub(super) fn resolve(
    report: &Report<'_>,
    peers: &[ReadBgp],
    checks: &[ReadCheck],
    instances: &[ReadInstance],
    all_read: bool,
) {
    duplicate_names(report, peers.iter().map(|p| (p.name.as_ref(), &p.path, &p.name_span)));
    duplicate_sessions(report, peers);
    passwords(report, peers);
    if !all_read {
        return;
    }
    let names: HashSet<&str> = peers.iter().filter_map(|p| p.name.as_deref()).collect();
    let asked = of_checks(report, checks, &names);
    of_announcements(report, peers, instances, &names);
    if report.errors() == 0 {
        unused(report, peers, instances, &asked);
    }
}

/// Two sessions between the same addresses could not be told apart.
fn duplicate_sessions(report: &Report<'_>, peers: &[ReadBgp]) {
    let mut first: HashMap<(IpAddr, Option<IpAddr>), (u16, &Span)> = HashMap::new();
    for (read, bgp) in whole(peers) {
        let session = &bgp.session;
        let key = (session.peer, session.local_address);
        let Some((port, before)) = first.get(&key) else {
            first.insert(key, (session.port, &read.peer_span));
            continue;
        };
        let (peer, line) = (session.peer, report.line_of(before));
        let at = || (read.peer_span.clone(), join(&read.path, "peer"));
        if *port == session.port {
            let words = format!(
                "there is a session with {peer} already, in line {line}; give each another local_address, or merge them"
            );
            report.error(at().0, at().1, words);
        } else {
            let words = format!(
                "a connection that {peer} makes to us cannot be told from one of the session in line {line}: their ports differ only when we connect; give each another local_address"
            );
            report.warning(at().0, at().1, words);
        }
    }
}

/// The listening socket knows one key for each address (RFC 2385; tcp(7), TCP_MD5SIG).
fn passwords(report: &Report<'_>, peers: &[ReadBgp]) {
    let mut first: HashMap<IpAddr, (&Bgp, &Span)> = HashMap::new();
    for (read, bgp) in whole(peers) {
        let Some((other, before)) = first.get(&bgp.session.peer) else {
            first.insert(bgp.session.peer, (bgp, &read.peer_span));
            continue;
        };
        if other.password != bgp.password {
            let line = report.line_of(before);
            let words = format!(
                "has another password than the session with the same address in line {line}; the kernel keeps one for each address"
            );
            report.error(read.peer_span.clone(), join(&read.path, "password_file"), words);
        }
    }
}

fn whole(peers: &[ReadBgp]) -> impl Iterator<Item = (&ReadBgp, &Bgp)> {
    peers.iter().filter_map(|read| Some((read, read.bgp.as_ref()?)))
}

/// Looks up the peers of checks; gives the names.
fn of_checks<'c>(report: &Report<'_>, checks: &'c [ReadCheck], names: &HashSet<&str>) -> HashSet<&'c str> {
    let mut asked = HashSet::new();
    for read in checks {
        let Some(Probe::Bgp(session)) = read.check.as_ref().map(|check| &check.probe) else { continue };
        asked.insert(&*session.peer);
        if !names.contains(&*session.peer) {
            unknown(report, &session.peer, &read.target.1, join(&read.path, "peer"), names);
        }
    }
    asked
}

fn of_announcements(
    report: &Report<'_>,
    peers: &[ReadBgp],
    instances: &[ReadInstance],
    names: &HashSet<&str>,
) {
    for announce in instances.iter().flat_map(|i| &i.announces) {
        if peers.is_empty() {
            let words = "there is no [[bgp]], so nobody would hear of it; add one for each peer";
            report.error(announce.span.clone(), announce.path.clone(), words);
            continue;
        }
        for (name, span) in announce.peers.iter().flatten().filter(|(name, _)| !names.contains(&**name)) {
            unknown(report, name, span, join(&announce.path, "peers"), names);
        }
    }
}

fn unknown(report: &Report<'_>, name: &str, span: &Span, key: String, names: &HashSet<&str>) {
    let mut known: Vec<&str> = names.iter().copied().collect();
    known.sort_unstable();
    let near = report.did_you_mean(name, known);
    let near = if near.is_empty() { "; add a [[bgp]] of that name".to_owned() } else { near };
    report.error(span.clone(), key, format!("there is no peer `{name}`{near}"));
}

fn unused(report: &Report<'_>, peers: &[ReadBgp], instances: &[ReadInstance], asked: &HashSet<&str>) {
    for peer in peers {
        let Some(name) = peer.name.as_deref().filter(|name| !asked.contains(name)) else { continue };
        if instances.iter().flat_map(|i| &i.announces).any(|announce| announce.goes_to(name)) {
            continue;
        }
        let words = format!("no instance announces anything to `{name}`, and no check asks for it");
        report.warning(peer.name_span.clone(), join(&peer.path, "name"), words);
    }
}

//! Next hops: from checks and links to the ones in use.

use super::Announcer;
use super::conduct::Member;
use super::effect::Level;
use super::timers::{InstanceId, Timer};
use crate::config::model::{self, Name, NextHop, NextHops, Probe, Route};
use crate::fib::hops::{Choices, Health, choose};
use crate::fib::object::{Key, Object, RouteObject};
use crate::fib::{desired, normal};
use crate::health::{Check, Verdict};
use crate::time::Time;

impl Announcer {
    /// Which instances have next hops to choose among; to be called when an instance has come, gone or changed.
    pub(super) fn index_hops(&mut self) {
        let has = |m: &Member| routes(&m.instance.config).next().is_some();
        self.hopped = self.members.iter().filter(|(_, m)| has(m)).map(|(id, _)| *id).collect();
        self.locate_gateways();
    }

    /// Finds the link of each gateway that the file names no device for. One that is in no link's network any more keeps the
    /// link that it was on: IPv6 addresses go with the link that is set down.
    pub(super) fn locate_gateways(&mut self) {
        let members = self.hopped.iter().filter_map(|id| self.members.get(id));
        let hops =
            members.flat_map(|m| routes(&m.instance.config)).flat_map(|(_, _, nexthops)| &nexthops.hops);
        let before = std::mem::take(&mut self.gateways);
        for via in hops.filter(|hop| hop.dev.is_none()).filter_map(|hop| hop.via) {
            let around = || self.nets.iter().filter(|(net, _)| net.contains(via));
            let nearest = around().map(|(net, _)| net.len()).max();
            let on = around().filter(|(net, _)| Some(net.len()) == nearest).map(|(_, dev)| dev.clone());
            let on: Vec<String> = on.collect();
            let on = if on.is_empty() { before.get(&via).cloned().unwrap_or_default() } else { on };
            self.gateways.insert(via, on);
        }
    }

    /// Moves traffic if what is known of the next hops asks for it. Until it is known what the kernel has, nothing is
    /// chosen: what a dead predecessor left is where to begin.
    pub(super) fn choose_hops(&mut self, now: Time) {
        if self.hopped.is_empty() || !self.fib.is_known() {
            self.timers.set(Timer::Lapse, None);
            return;
        }
        for id in self.hopped.clone() {
            self.choose_hops_of(id, now);
        }
        let next = self.next_lapse(now);
        self.timers.set(Timer::Lapse, next);
    }

    /// When the first of the next hops of which nothing is known counts as lapsed.
    fn next_lapse(&self, now: Time) -> Option<Time> {
        let members = self.hopped.iter().filter_map(|id| self.members.get(id));
        let routes = members.flat_map(|member| routes(&member.instance.config));
        let checks = routes.flat_map(|(_, _, nexthops)| &nexthops.hops).filter_map(|hop| hop.check.as_ref());
        let lapses = checks.filter_map(|name| self.hop_lapses_at(self.check_of(name)?));
        lapses.filter(|at| *at > now).min()
    }

    fn check_of(&self, name: &Name) -> Option<&Check> {
        self.checks.get(self.check_ids.get(name)?)
    }

    /// When nothing has been known by this check for too long. RFC 5882 section 3.2: a neighbour in AdminDown says nothing
    /// against the way to it, however long.
    fn hop_lapses_at(&self, check: &Check) -> Option<Time> {
        let excused = matches!(&check.config.probe, Probe::Bfd(session) if self.is_admin_down(&session.path));
        check.lapses_at().filter(|_| !excused)
    }

    fn choose_hops_of(&mut self, id: InstanceId, now: Time) {
        let Some(member) = self.members.get(&id) else { return };
        let mut choices = Choices::new();
        let mut notes = Vec::new();
        for (n, route, nexthops) in routes(&member.instance.config) {
            let before = member.hops.get(&n);
            let adopted = || self.adopted(route, nexthops);
            let current = before.cloned().unwrap_or_else(adopted);
            let health: Vec<Health> = nexthops.hops.iter().map(|hop| self.health(hop, now)).collect();
            let chosen = choose(nexthops, &health, &current);
            if before.is_some_and(|before| *before != chosen) {
                notes.push(note(route, nexthops, &chosen, &health));
            }
            choices.insert(n, chosen);
        }
        if choices == member.hops {
            return;
        }
        let name = member.name().clone();
        let config = member.instance.config.clone();
        self.fib.set_objects(id, desired::planned_with(&config, &choices));
        if let Some(member) = self.members.get_mut(&id) {
            member.hops = choices;
        }
        for note in notes {
            self.log(Level::Warn, Some(&name), note);
        }
        self.evaluate(id, now);
    }

    /// What the kernel has of ours already, in terms of the route's next hops.
    fn adopted(&self, route: &Route, nexthops: &NextHops) -> Vec<usize> {
        let Some(wanted) = normal::routed(route, &[0]) else { return Vec::new() };
        let key = Key::Route { table: wanted.table, to: wanted.to, metric: wanted.metric };
        let Some(Object::Route(have)) = self.fib.observed(&key) else { return Vec::new() };
        let uses = |hop: &NextHop| is_used(have, hop);
        (0..nexthops.hops.len()).filter(|n| nexthops.hops.get(*n).is_some_and(uses)).collect()
    }

    fn health(&self, hop: &NextHop, now: Time) -> Health {
        let link_ok = |dev: &String| self.links.get(dev).is_some_and(|l| l.admin_up && l.carrier);
        let on = match (&hop.dev, hop.via) {
            (Some(dev), _) => std::slice::from_ref(dev),
            (None, via) => via.and_then(|via| self.gateways.get(&via)).map_or(&[][..], Vec::as_slice),
        };
        if !on.is_empty() && !on.iter().any(link_ok) {
            return Health::Down;
        }
        let Some(name) = &hop.check else { return Health::Up };
        let Some(check) = self.check_of(name) else { return Health::Unknown };
        match check.verdict() {
            Verdict::Up => Health::Up,
            Verdict::Unknown if self.hop_lapses_at(check).is_some_and(|at| at <= now) => Health::Lapsed,
            Verdict::Unknown => Health::Unknown,
            Verdict::Down => Health::Down,
        }
    }

    /// Sentences for explain: what a route with several next hops uses, and why.
    pub(super) fn explain_hops(&self, member: &Member, text: &mut Vec<String>) {
        for (n, route, nexthops) in routes(&member.instance.config) {
            let health: Vec<Health> =
                nexthops.hops.iter().map(|hop| self.health(hop, self.present)).collect();
            let chosen = member.hops.get(&n).map_or(&[0][..], Vec::as_slice);
            text.push(format!("The route {}.", note(route, nexthops, chosen, &health)));
        }
    }
}

fn routes(config: &model::Instance) -> impl Iterator<Item = (usize, &Route, &NextHops)> {
    config.routes.iter().enumerate().filter_map(|(n, route)| Some((n, route, route.nexthops.as_ref()?)))
}

fn is_used(have: &RouteObject, hop: &NextHop) -> bool {
    let is_it = |via, dev: Option<&String>| via == hop.via && (hop.dev.is_none() || hop.dev.as_ref() == dev);
    match have.hops.is_empty() {
        true => is_it(have.via, have.dev.as_ref()),
        false => have.hops.iter().any(|h| is_it(h.via, h.dev.as_ref())),
    }
}

/// "to default uses via 192.0.2.2; via 192.0.2.1 is down".
fn note(route: &Route, nexthops: &NextHops, chosen: &[usize], health: &[Health]) -> String {
    let words = |hop: &NextHop| match (hop.via, &hop.dev) {
        (Some(via), Some(dev)) => format!("via {via} dev {dev}"),
        (Some(via), None) => format!("via {via}"),
        (None, dev) => format!("dev {}", dev.as_deref().unwrap_or("?")),
    };
    let used: Vec<String> = chosen.iter().filter_map(|n| nexthops.hops.get(*n)).map(words).collect();
    let mut text = match used.is_empty() {
        true => format!("to {} is away, for none of its next hops is well", route.to),
        false => format!("to {} goes {}", route.to, used.join(" and ")),
    };
    for (hop, health) in nexthops.hops.iter().zip(health) {
        match health {
            Health::Up => {}
            Health::Unknown => text.push_str(&format!("; of {} nothing is known yet", words(hop))),
            Health::Lapsed => text.push_str(&format!("; of {} nothing is known any more", words(hop))),
            Health::Down => text.push_str(&format!("; {} is down", words(hop))),
        }
    }
    text
}

//! A new configuration: what did not change is not disturbed.

use std::sync::Arc;

use super::own::OwnPrefixes;
use super::timers::{CheckId, InstanceId, Timer};
use super::{Announcer, Legacy};
use crate::config::model::{self, Config};
use crate::fib::desired;
use crate::time::Time;

impl Announcer {
    pub(super) fn on_reload(&mut self, config: Config, now: Time) {
        if self.stopping.is_some() {
            return;
        }
        let old = std::mem::replace(&mut self.config, config);
        self.own = Arc::new(OwnPrefixes::of(&self.config));
        self.set_bfd_sessions(now);
        self.reload_checks(&old, now);
        let gone: Vec<InstanceId> = self
            .members
            .iter()
            .filter(|(_, m)| !m.retired && self.config.instance(m.name()).is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            if let Some(member) = self.members.get_mut(&id) {
                member.retired = true;
            }
            self.retired.insert(id);
            self.fib.set_yielding(id, true);
            self.leave(id, "no longer configured", false, std::time::Duration::ZERO, now);
        }
        for instance in self.config.instances.clone() {
            match self.id_of(&instance.name) {
                Some(id) => self.change_instance(id, instance, now),
                None => match self.leaving(&instance.name) {
                    Some(id) => self.take_back(id, instance, now),
                    None => self.add_instance(instance, &Legacy::default(), now),
                },
            }
        }
        self.index_users();
        self.drop_checks();
        self.reload_peers(now);
        let ids: Vec<InstanceId> = self.members.keys().copied().collect();
        for id in ids {
            self.evaluate(id, now);
        }
    }

    /// Checks that are new, or probe something else, start anew; the others keep their verdicts and counts.
    fn reload_checks(&mut self, old: &Config, now: Time) {
        for check in self.config.checks.clone() {
            let id = self.check_ids.get(&check.name).copied();
            match (id, old.check(&check.name)) {
                (Some(_), Some(before)) if **before == *check => {}
                (Some(id), Some(before)) if before.probe == check.probe => self.adjust_check(id, check, now),
                (Some(id), _) => {
                    self.remove_check(id);
                    self.add_check(check, now);
                }
                (None, _) => self.add_check(check, now),
            }
        }
    }

    fn adjust_check(&mut self, id: CheckId, config: Arc<model::Check>, now: Time) {
        let Some(check) = self.checks.get_mut(&id) else { return };
        check.adjust(config, now);
        let next = check.next_probe();
        self.timers.set(Timer::Probe(id), next);
    }

    fn drop_checks(&mut self) {
        let gone: Vec<CheckId> = self
            .checks
            .iter()
            .filter(|(_, c)| self.config.check(&c.config.name).is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.remove_check(id);
        }
    }

    /// An instance of that name that is no longer configured, and still drains or runs its scripts.
    fn leaving(&self, name: &str) -> Option<InstanceId> {
        self.retired.iter().copied().find(|id| self.members.get(id).is_some_and(|m| &**m.name() == name))
    }

    /// It is configured again before it has left. A second one beside it would run its scripts at the same time.
    fn take_back(&mut self, id: InstanceId, config: Arc<model::Instance>, now: Time) {
        self.retired.remove(&id);
        self.fib.set_yielding(id, false);
        self.change_instance(id, config, now);
        let until = now + self.config.node.init_timeout;
        let Some(member) = self.members.get_mut(&id) else { return };
        member.retired = false;
        let transition = member.instance.begin_anew(now, until);
        self.carry_out(id, transition, now);
    }

    fn change_instance(&mut self, id: InstanceId, config: Arc<model::Instance>, now: Time) {
        // A check that started anew has a new number.
        let primary = self.ids_of(config.primary.as_ref().map_or(&[], |p| &p.checks));
        let require = self.ids_of(config.require.as_ref().map_or(&[], |r| &r.checks));
        let Some(member) = self.members.get_mut(&id) else { return };
        member.rows.retain(&primary);
        member.primary = primary;
        member.require = require;
        if *member.instance.config == *config {
            return;
        }
        // Until the next hops are chosen anew, those that are the same ones stay in use.
        if member.instance.config.routes != config.routes {
            member.hops.retain(|n, _| {
                let route = |c: &model::Instance| c.routes.get(*n).map(|r| (r.to, r.nexthops.clone()));
                route(&member.instance.config) == route(&config)
            });
        }
        let planned = desired::planned_with(&config, &member.hops);
        member.instance.config = config;
        self.fib.set_objects(id, planned);
        self.timers.set(Timer::Instance(id), Some(now));
    }
}

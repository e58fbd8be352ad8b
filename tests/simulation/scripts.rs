//! Model scripts: most end soon, some late, some never, a few cannot even be killed.

use std::collections::BTreeMap;
use std::time::Duration;

use announcerd::announcer::effect::ScriptRun;
use announcerd::announcer::event::{ScriptEnd, ScriptId};
use announcerd::time::Time;

use crate::rng::Rng;

#[derive(Debug, Default)]
pub struct Scripts {
    running: BTreeMap<ScriptId, Running>,
    pub killed: u64,
    /// The state whose script came to an end last; none if one was broken off since.
    pub last: Option<String>,
}

#[derive(Debug)]
struct Running {
    instance: String,
    state: String,
    ends: Option<(Time, ScriptEnd)>,
    killed: bool,
    immortal: bool,
}

impl Scripts {
    /// At most one script an instance runs, but for one that was killed and would not die.
    pub fn start(&mut self, run: &ScriptRun, now: Time, rng: &mut Rng) {
        let instance = run.instance.to_string();
        let other = self.running.values().find(|r| r.instance == instance && !(r.killed && r.immortal));
        assert!(other.is_none(), "two scripts of {instance} at a time: {other:?} and {run:?}");
        let state = run.env.iter().find(|(k, _)| *k == "ANNOUNCERD_STATE").expect("always there").1.clone();
        let hangs = rng.chance(0.05);
        let takes = rng.between(Duration::from_millis(5), Duration::from_secs(3));
        let end = if rng.chance(0.1) { ScriptEnd::Exited(1) } else { ScriptEnd::Exited(0) };
        let ends = (!hangs).then_some((now + takes, end));
        let immortal = hangs && rng.chance(0.05);
        self.running.insert(run.id, Running { instance, state, ends, killed: false, immortal });
    }

    pub fn kill(&mut self, id: ScriptId, now: Time) {
        if let Some(running) = self.running.get_mut(&id) {
            self.killed += 1;
            running.killed = true;
            if running.immortal {
                // Given up, as one that ends.
                self.last = Some(running.state.clone());
            } else {
                running.ends = Some((now + Duration::from_millis(1), ScriptEnd::Killed(9)));
            }
        }
    }

    pub fn next(&self) -> Option<Time> {
        self.running.values().filter_map(|r| r.ends.as_ref().map(|(t, _)| *t)).min()
    }

    pub fn step(&mut self, now: Time) -> Vec<(ScriptId, ScriptEnd)> {
        let due = |r: &Running| r.ends.as_ref().is_some_and(|(t, _)| *t <= now);
        let ended: Vec<ScriptId> = self.running.iter().filter(|(_, r)| due(r)).map(|(id, _)| *id).collect();
        let mut all = Vec::new();
        for id in ended {
            let Some(Running { state, ends: Some((_, end)), .. }) = self.running.remove(&id) else {
                continue;
            };
            self.last = Some(state);
            all.push((id, end));
        }
        all
    }

    /// The daemon is gone, and its scripts with it.
    pub fn clear(&mut self) {
        if self.running.values().any(|r| !(r.killed && r.immortal)) {
            self.last = None;
        }
        self.running.clear();
    }

    /// The state whose script runs now.
    pub fn running_state(&self, instance: &str) -> Option<&str> {
        self.running.values().find(|r| r.instance == instance && !r.killed).map(|r| &*r.state)
    }
}

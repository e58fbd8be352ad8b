//! The scripts of one instance: one runs, one waits; in the order of the transitions, awaited, bounded.

use std::collections::VecDeque;
use std::time::Duration;

use super::effect::ScriptRun;
use super::event::{ScriptEnd, ScriptId};
use super::journal::State;
use crate::config::model::Name;
use crate::time::Time;

/// What the running script gets when MASTER is left.
const LEAVING_MASTER: Duration = Duration::from_secs(2);
/// After a kill, how long the end is waited for before the next script runs all the same (a process that cannot be
/// killed sits in the kernel and must not stop the failover).
const KILL_GRACE: Duration = Duration::from_secs(2);
/// The first pause before another try, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The scripts of one transition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// The transition's number in the journal.
    pub seq: u64,
    /// The state that was entered.
    pub state: State,
    /// Commands, run one after the other.
    pub commands: VecDeque<Vec<String>>,
    /// Their environment.
    pub env: Vec<(&'static str, String)>,
    /// For each run.
    pub timeout: Duration,
    /// Further tries of a command that fails.
    pub retry: u32,
}

/// What the queue wants done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Start it.
    Run(ScriptRun),
    /// Kill its process group.
    Kill(ScriptId),
    /// A script failed, was killed or given up: for the log.
    Failed(String),
    /// All scripts of that transition have ended; false: some were killed or left out for want of time.
    Done(u64, bool),
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Stage {
    /// The first command of the job runs.
    Running { id: ScriptId, until: Time, killed: bool },
    /// It failed, and has another try at that time.
    Pausing { until: Time },
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Current {
    job: Job,
    stage: Stage,
    tries: u32,
    /// MASTER was left: what has not ended by then is killed, and the rest of the job is dropped.
    cut: Option<Time>,
    /// That has happened.
    was_cut: bool,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Scripts {
    instance: Name,
    current: Option<Current>,
    /// One, or two of which the first is STOP.
    waiting: VecDeque<Job>,
    /// The next process goes on with what does not run yet.
    handed_over: bool,
}

impl Scripts {
    /// Nothing to run.
    pub fn new(instance: Name) -> Self {
        Scripts { instance, current: None, waiting: VecDeque::new(), handed_over: false }
    }

    /// True if nothing runs or waits.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// A transition happened: even one without scripts ends the retries of the last, and gives a running script that
    /// MASTER had started two more seconds.
    pub fn left(&mut self, state: State, now: Time) {
        let Some(current) = &mut self.current else { return };
        match current.stage {
            Stage::Pausing { .. } => self.current = None,
            Stage::Running { .. } if current.job.state == State::Master && state != State::Master => {
                current.cut.get_or_insert(now + LEAVING_MASTER);
            }
            Stage::Running { .. } => {}
        }
        self.drop_waiting();
    }

    /// The state goes on in another process: what runs may end, and nothing else begins.
    pub fn hand_over(&mut self) {
        self.handed_over = true;
        if self.current.as_ref().is_some_and(|c| matches!(c.stage, Stage::Pausing { .. })) {
            self.current = None;
        }
        self.drop_waiting();
    }

    fn drop_waiting(&mut self) {
        self.waiting.retain(|job| job.state == State::Stop);
    }

    /// Adds the scripts of a transition; `next_id` numbers runs. What waits gives way, but for STOP: what comes after that (the
    /// instance is configured again) runs after it.
    pub fn push(&mut self, job: Job, now: Time, next_id: &mut u64) -> Vec<Action> {
        self.drop_waiting();
        if job.state == State::Stop {
            // Nothing has run since the one that waits: once is enough.
            self.waiting.clear();
        }
        self.waiting.push_back(job);
        let mut actions = Vec::new();
        self.advance(now, next_id, &mut actions);
        actions
    }

    /// True if this run is under way.
    pub fn is_running(&self, run: ScriptId) -> bool {
        let stage = self.current.as_ref().map(|c| &c.stage);
        stage.is_some_and(|s| matches!(s, Stage::Running { id, .. } if *id == run))
    }

    /// A script ended. Ends of runs that nobody waits for any more change nothing.
    pub fn ended(&mut self, id: ScriptId, end: &ScriptEnd, now: Time, next_id: &mut u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(current) = &mut self.current else { return actions };
        let Stage::Running { id: running, killed, .. } = current.stage else { return actions };
        if running != id {
            return actions;
        }
        let failed = *end != ScriptEnd::Exited(0);
        if failed {
            actions.push(Action::Failed(failure_words(current, end, killed)));
        }
        let may_retry =
            failed && current.tries < current.job.retry && current.cut.is_none() && self.waiting.is_empty();
        if may_retry && self.handed_over {
            self.current = None;
        } else if may_retry {
            current.stage = Stage::Pausing { until: now + retry_pause(current.tries) };
            current.tries += 1;
        } else {
            self.next_command(now, next_id, &mut actions);
        }
        self.advance(now, next_id, &mut actions);
        actions
    }

    /// Time passed.
    pub fn timeout(&mut self, now: Time, next_id: &mut u64) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(current) = &mut self.current {
            let cut = current.cut.is_some_and(|t| t <= now);
            match &mut current.stage {
                Stage::Running { id, until, killed } if !*killed && (*until <= now || cut) => {
                    *killed = true;
                    *until = now + KILL_GRACE;
                    actions.push(Action::Kill(*id));
                }
                Stage::Running { until, killed: true, .. } if *until <= now => {
                    let command = current.job.commands.front().map(|c| c.join(" ")).unwrap_or_default();
                    actions
                        .push(Action::Failed(format!("`{command}` cannot be killed; going on without it")));
                    self.next_command(now, next_id, &mut actions);
                }
                Stage::Pausing { until } if *until <= now => self.run_front(now, next_id, &mut actions),
                _ => {}
            }
        }
        self.advance(now, next_id, &mut actions);
        actions
    }

    /// When [`Scripts::timeout`] is due.
    pub fn deadline(&self) -> Option<Time> {
        let current = self.current.as_ref()?;
        match current.stage {
            Stage::Running { until, killed: true, .. } => Some(until),
            Stage::Running { until, .. } => Some(current.cut.map_or(until, |cut| cut.min(until))),
            Stage::Pausing { until } => Some(until),
        }
    }

    /// Starts what waits, if nothing runs.
    fn advance(&mut self, now: Time, next_id: &mut u64, actions: &mut Vec<Action>) {
        while self.current.is_none() {
            let Some(job) = self.waiting.pop_front() else { return };
            let stage = Stage::Pausing { until: now };
            self.current = Some(Current { job, stage, tries: 0, cut: None, was_cut: false });
            self.run_front(now, next_id, actions);
        }
    }

    /// The command in front is over: on to the next, unless MASTER was left and its time is up.
    fn next_command(&mut self, now: Time, next_id: &mut u64, actions: &mut Vec<Action>) {
        if let Some(current) = &mut self.current {
            current.job.commands.pop_front();
            current.tries = 0;
            if current.cut.is_some_and(|t| t <= now) {
                current.was_cut = true;
                current.job.commands.clear();
            }
        }
        self.run_front(now, next_id, actions);
    }

    fn run_front(&mut self, now: Time, next_id: &mut u64, actions: &mut Vec<Action>) {
        let Some(current) = &mut self.current else { return };
        let Some(command) = current.job.commands.front() else {
            actions.push(Action::Done(current.job.seq, !current.was_cut));
            self.current = None;
            return;
        };
        *next_id += 1;
        let id = ScriptId(*next_id);
        current.stage = Stage::Running { id, until: now + current.job.timeout, killed: false };
        actions.push(Action::Run(ScriptRun {
            id,
            instance: self.instance.clone(),
            command: command.clone(),
            env: current.job.env.clone(),
        }));
    }
}

fn retry_pause(tries: u32) -> Duration {
    RETRY.0.saturating_mul(2u32.saturating_pow(tries)).min(RETRY.1)
}

fn failure_words(current: &Current, end: &ScriptEnd, killed: bool) -> String {
    let command = current.job.commands.front().map(|c| c.join(" ")).unwrap_or_default();
    let state = current.job.state.word();
    match end {
        ScriptEnd::Killed(_) if killed && current.cut.is_some() => {
            format!("`{command}` of {state} was killed: MASTER was left")
        }
        ScriptEnd::Killed(_) if killed => {
            let timeout = humantime::format_duration(current.job.timeout);
            format!("`{command}` of {state} was killed: it had not ended after notify_timeout, {timeout}")
        }
        ScriptEnd::Killed(signal) => format!("`{command}` of {state} was killed by signal {signal}"),
        ScriptEnd::Exited(status) => format!("`{command}` of {state} failed with exit status {status}"),
        ScriptEnd::NotStarted(why) => format!("`{command}` of {state} could not be run: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn job(seq: u64, state: State, commands: &[&str], retry: u32) -> Job {
        let commands = commands.iter().map(|c| vec![(*c).to_owned()]).collect();
        Job { seq, state, commands, env: Vec::new(), timeout: Duration::from_secs(10), retry }
    }

    fn runs(actions: &[Action]) -> Vec<String> {
        let run = |a: &Action| match a {
            Action::Run(run) => Some(run.command.join(" ")),
            _ => None,
        };
        actions.iter().filter_map(run).collect()
    }

    const OK: ScriptEnd = ScriptEnd::Exited(0);

    #[test]
    fn the_commands_of_a_job_run_one_after_the_other() {
        let (mut s, mut id) = (Scripts::new("a".into()), 0);
        let first = s.push(job(1, State::Master, &["own", "any"], 0), at(0), &mut id);
        assert_eq!(runs(&first), ["own"]);
        let second = s.ended(ScriptId(1), &OK, at(5), &mut id);
        assert_eq!(runs(&second), ["any"]);
        assert_eq!(s.ended(ScriptId(1), &OK, at(6), &mut id), [], "told twice");
        assert_eq!(s.ended(ScriptId(2), &OK, at(7), &mut id), [Action::Done(1, true)]);
        assert!(s.is_idle() && s.deadline().is_none());
    }

    #[test]
    fn stop_is_not_replaced_and_what_comes_after_it_runs_after_it() {
        let (mut s, mut id) = (Scripts::new("a".into()), 0);
        s.push(job(1, State::Fault, &["fault"], 0), at(0), &mut id);
        s.push(job(2, State::Stop, &["stop"], 0), at(1), &mut id);
        s.left(State::Backup, at(2));
        s.push(job(3, State::Backup, &["backup"], 0), at(2), &mut id);
        assert_eq!(runs(&s.ended(ScriptId(1), &OK, at(3), &mut id)), ["stop"]);
        s.push(job(4, State::Master, &["master"], 0), at(3), &mut id);
        assert_eq!(runs(&s.ended(ScriptId(2), &OK, at(4), &mut id)), ["master"], "the newest of those");
        assert_eq!(s.ended(ScriptId(3), &OK, at(5), &mut id), [Action::Done(4, true)]);
        assert!(s.is_idle());
    }

    #[test]
    fn a_handover_lets_a_script_end_and_begins_nothing() {
        let (mut s, mut id) = (Scripts::new("a".into()), 0);
        s.push(job(1, State::Master, &["own", "any"], 3), at(0), &mut id);
        s.hand_over();
        assert_eq!(runs(&s.ended(ScriptId(1), &OK, at(60), &mut id)), ["any"]);
        assert_eq!(s.deadline(), Some(at(10_060)), "not cut short");
        let failed = s.ended(ScriptId(2), &ScriptEnd::Exited(1), at(61), &mut id);
        assert!(matches!(failed[..], [Action::Failed(_)]) && s.is_idle(), "no further try: {failed:?}");
    }

    #[test]
    fn a_try_that_waits_gives_way_to_the_next_transition() {
        let (mut s, mut id) = (Scripts::new("a".into()), 0);
        s.push(job(1, State::Backup, &["backup"], 5), at(0), &mut id);
        let actions = s.ended(ScriptId(1), &ScriptEnd::Exited(1), at(1), &mut id);
        assert!(matches!(actions[..], [Action::Failed(_)]));
        assert_eq!(s.deadline(), Some(at(1001)));
        s.left(State::Master, at(500));
        assert!(s.is_idle());
        assert_eq!(runs(&s.push(job(2, State::Master, &["master"], 0), at(500), &mut id)), ["master"]);
    }

    #[test]
    fn tries_pause_for_1_2_4_and_at_most_60_seconds() {
        let pauses: Vec<u64> = (0..9).map(|n| retry_pause(n).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(retry_pause(u32::MAX).as_secs(), 60);
    }

    #[test]
    fn a_cut_comes_once_and_the_rest_of_the_job_is_dropped() {
        let (mut s, mut id) = (Scripts::new("a".into()), 0);
        s.push(job(1, State::Master, &["own", "any"], 3), at(0), &mut id);
        s.left(State::Backup, at(100));
        s.left(State::Fault, at(1500));
        assert_eq!(
            s.deadline(),
            Some(at(2100)),
            "two seconds after MASTER was left, not after the last transition"
        );
        s.push(job(2, State::Fault, &["fault"], 0), at(1500), &mut id);
        assert_eq!(s.timeout(at(2100), &mut id), [Action::Kill(ScriptId(1))]);
        let actions = s.ended(ScriptId(1), &ScriptEnd::Killed(9), at(2101), &mut id);
        assert_eq!(runs(&actions), ["fault"]);
        assert!(actions.contains(&Action::Done(1, false)), "it has not been told");
    }
}

//! What stands around the core: a kernel that does what it is told after a millisecond, scripts that end when they are
//! told to, targets that answer or do not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use announcerd::announcer::event::{Dump, Outcome, ScriptEnd};
use announcerd::fib::object::{Action, LinkState, Object, Op, OpError, OpId};
use announcerd::net::Prefix;

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);

/// How a target answers.
#[derive(Clone, PartialEq, Debug)]
pub enum Target {
    /// Well, after this long.
    Answers(Duration),
    /// Not at all: the probe's timeout decides.
    Silent,
    /// With a failure, after this long.
    Refuses(Duration),
    /// The probe could not be made.
    Blind,
    /// In turn, the first first.
    Turns(Vec<Target>),
}

impl Target {
    /// What comes back of a probe, and when; None for silence.
    pub fn ask(&mut self) -> Option<(Duration, Outcome)> {
        match self {
            Target::Answers(rtt) => Some((*rtt, Outcome::Success { rtt: Some(*rtt) })),
            Target::Silent => None,
            Target::Refuses(after) => Some((*after, Outcome::Failure("host unreachable".into()))),
            Target::Blind => Some((MS, Outcome::Blind("no route to host".into()))),
            Target::Turns(turns) => {
                turns.rotate_left(1);
                turns.last_mut().and_then(Target::ask)
            }
        }
    }
}

/// A kernel. Objects are told apart by the words that `ip` would be given.
#[derive(Debug, Default)]
pub struct Kernel {
    /// Ours.
    pub objects: BTreeMap<String, Object>,
    /// Somebody else's.
    pub foreign: BTreeMap<String, Object>,
    pub links: Vec<LinkState>,
    /// The networks of the links.
    pub nets: Vec<(Prefix, String)>,
    /// Adding an object with these words in it fails so.
    pub refuses: Vec<(&'static str, OpError)>,
    /// An object with the second word in it needs one with the first.
    pub needs: Vec<(&'static str, &'static str)>,
    /// Answers are kept back.
    pub mute: bool,
    /// No dump succeeds.
    pub unreadable: bool,
}

pub fn words(object: &Object) -> String {
    format!("{} {object}", object.kind())
}

impl Kernel {
    pub fn execute(&mut self, op: Op) -> (OpId, Result<(), OpError>) {
        (op.id, self.act(op.action))
    }

    fn act(&mut self, action: Action) -> Result<(), OpError> {
        let key = action.object().key();
        let clash = |o: &&Object| o.key() == key;
        if let Action::Delete(_) = action {
            self.objects.retain(|_, o| o.key() != key);
            return Ok(());
        }
        let object = action.object().clone();
        let text = words(&object);
        let looks = matches!(action, Action::Examine(_));
        let refusal = self.refuses.iter().find(|(part, _)| text.contains(part)).map(|(_, error)| error);
        // That its way leads back is for a look to find.
        if let Some(error) = refusal.filter(|error| matches!(error, OpError::Recursive(_)) == looks) {
            return Err(error.clone());
        }
        if let Action::Examine(_) = action {
            return Ok(());
        }
        for (needed, part) in &self.needs {
            if text.contains(part) && !self.objects.keys().any(|k| k.contains(needed)) {
                return Err(OpError::Refused("Network is unreachable".into()));
            }
        }
        match self.foreign.values().find(clash) {
            Some(same) if *same == object => return Err(OpError::ForeignSame),
            Some(other) => return Err(OpError::ForeignOther(other.to_string())),
            None => {}
        }
        if matches!(action, Action::Add(_)) && self.objects.values().any(|o| o.key() == key) {
            return Err(OpError::OursExists);
        }
        self.objects.retain(|_, o| o.key() != key);
        self.objects.insert(text, object);
        Ok(())
    }

    pub fn dump(&self) -> Result<Dump, String> {
        if self.unreadable {
            return Err("Interrupted system call".into());
        }
        Ok(Dump {
            links: self.links.clone(),
            nets: self.nets.clone(),
            objects: self.objects.values().cloned().collect(),
        })
    }

    pub fn has(&self, part: &str) -> bool {
        self.objects.keys().any(|k| k.contains(part))
    }

    pub fn all(&self) -> Vec<&str> {
        self.objects.keys().map(String::as_str).collect()
    }
}

/// How long a program takes and how it ends; the default is a millisecond, with success.
#[derive(Debug, Default)]
pub struct Programs {
    pub takes: BTreeMap<&'static str, (Duration, ScriptEnd)>,
    /// These end when they are killed only…
    pub hang: BTreeSet<&'static str>,
    /// …and these not even then.
    pub immortal: BTreeSet<&'static str>,
}

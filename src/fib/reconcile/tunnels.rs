//! What tunnels add to the reconciliation: what goes with them, and ways that lead into themselves.

use super::Fib;
use crate::fib::object::{Key, Object, OpError};

impl Fib {
    /// The kernel has this under that key, as far as we know.
    pub fn observed(&self, key: &Key) -> Option<&Object> {
        self.observed.get(key)
    }

    /// We removed that device: what hung on it went along, without a word of the kernel's.
    pub(super) fn device_went(&mut self, dev: &str) {
        let mut gone: Vec<Key> =
            self.observed.iter().filter(|(_, o)| o.hangs_on(dev)).map(|(k, _)| k.clone()).collect();
        self.in_order(&mut gone);
        for key in gone {
            self.observed.remove(&key);
            self.refresh(&key);
            self.mark(&key);
        }
    }

    /// A dump has told of every tunnel whether its way leads into itself: such a one carries nothing, and counts as
    /// refused until it does no more.
    pub(super) fn judge_tunnels(&mut self) {
        let tunnel = |(key, object): (&Key, &Object)| match object {
            Object::Tunnel(t) => Some((key.clone(), t.recursive.then(|| t.remote.to_string()))),
            _ => None,
        };
        let wanted = |(key, _): &(Key, Option<String>)| self.wanted.contains_key(key);
        let tunnels: Vec<_> = self.observed.iter().filter_map(tunnel).filter(wanted).collect();
        for (key, remote) in tunnels {
            let error = remote.map(OpError::Recursive);
            let slot = self.slots.entry(key.clone()).or_default();
            let was = matches!(slot.error, Some(OpError::Recursive(_)));
            match error {
                Some(error) if !was => {
                    let text = self.observed.get(&key).map_or(String::new(), ToString::to_string);
                    self.notes.push(format!("tunnel {text}: {error}"));
                    slot.error = Some(error);
                }
                None if was => slot.error = None,
                _ => {}
            }
            self.refresh(&key);
            self.drop_slot(&key);
        }
    }
}

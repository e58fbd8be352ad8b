//! What operators and metrics see of the peers.

use crate::announcer::Announcer;
use crate::announcer::journal::State;
use crate::bgp::Attributes;
use crate::bgp::counters::Counters;
use crate::config::model;
use crate::status::BgpStatus;
use crate::time::Time;

impl Announcer {
    /// What each peer has counted, for the metrics.
    pub(in crate::announcer) fn bgp_counters(&self) -> Vec<(String, Counters)> {
        let shown = self.peers.all.values().filter(|p| !p.retired);
        shown.map(|p| (p.config.session.name.clone(), p.peer.counters())).collect()
    }

    pub(in crate::announcer) fn bgp_status(&self, now: Time) -> Vec<BgpStatus> {
        if !self.peers.started {
            return self.config.bgp.iter().map(|b| BgpStatus::idle(&b.session.name)).collect();
        }
        let shown = self.peers.all.values().filter(|p| !p.retired);
        shown
            .map(|p| {
                let s = p.peer.status();
                BgpStatus {
                    name: s.name,
                    state: s.state.to_string(),
                    uptime_s: s.established_since.map_or(0, |t| now.since(t).as_secs()),
                    advertised: (s.advertised_v4 + s.advertised_v6) as u64,
                    last_error: s.last_error,
                }
            })
            .collect()
    }

    /// What BGP would do if the instance went to that state: lines for `explain`.
    pub(in crate::announcer) fn preview_bgp(&self, config: &model::Instance, to: State) -> Vec<String> {
        let mut lines = Vec::new();
        for announce in &config.announces {
            let count = announce.prefixes.len();
            let what = match announce.prefixes.iter().next() {
                Some(only) if count == 1 => only.to_string(),
                _ => format!("{count} prefixes"),
            };
            let attributes = match to {
                State::Master => Some(&announce.master),
                State::Backup => announce.backup.as_ref(),
                _ => None,
            };
            for peer in &announce.peers {
                let state = self.session_state(peer);
                let up = if matches!(state, Some(Ok(()))) { "" } else { " (no session now!)" };
                lines.push(match attributes {
                    Some(a) => format!("announce {what} to {peer}{}{up}", describe(a)),
                    None => format!("withdraw {what} from {peer}{up}"),
                });
            }
        }
        lines
    }
}

fn describe(a: &Attributes) -> String {
    let med = a.med.map(|m| format!(", MED {m}")).unwrap_or_default();
    let prepend = if a.prepend > 0 { format!(", prepend {}", a.prepend) } else { String::new() };
    format!("{med}{prepend}")
}

//! `ping`: ICMP echo (RFC 792, RFC 4443), one request or several spread over the timeout.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::deadline::Deadline;
use super::echo::{Asked, Echo};
use super::requests::Lost;
use super::{Fault, Kit, Verdict, target};
use crate::announcer::event::ProbeId;
use crate::announcer::own::OwnPrefixes;
use crate::config::model::{Check, Ping};

/// What the requests of one probe share.
///
/// It judges a moment before the timeout, when the core would take silence for a failure: only here is it known whether a
/// reply could have been seen at all.
struct Round {
    echo: Arc<Echo>,
    to: IpAddr,
    size: u16,
    start: Instant,
    deadline: Deadline,
}

impl Round {
    fn begin(kit: &Kit, ping: &Ping, timeout: Duration, own: &OwnPrefixes) -> Result<Self, Fault> {
        let (start, deadline) = (Instant::now(), Deadline::new(timeout));
        let to = target::address(kit, &ping.host, &ping.origin, own)?;
        let echo = kit.sockets.get(to, &ping.origin)?;
        Ok(Round { echo, to, size: ping.size, start, deadline })
    }

    /// The request that leaves so long after the start.
    fn asked(&self, probe: Option<ProbeId>, after: Duration) -> Asked {
        let limit = self.deadline.limit.saturating_sub(after);
        Asked { probe, to: self.to, size: self.size, limit, deadline: self.deadline.at }
    }
}

/// Sends one echo request, without a task that waits; `done` hears the verdict, perhaps at once, unless the probe is
/// cancelled.
pub fn one(
    kit: &Kit,
    (probe, check, ping): (ProbeId, &Arc<Check>, &Ping),
    own: &OwnPrefixes,
    done: impl FnOnce(Verdict) + Send + 'static,
) {
    let round = match Round::begin(kit, ping, check.timeout, own) {
        Ok(round) => round,
        Err(fault) => return done(Err(fault)),
    };
    let (to, limit, max_rtt) = (round.to, round.deadline.limit, ping.max_rtt);
    let hear = move |result: Result<Duration, Lost>| {
        done(match result {
            Ok(rtt) => judge_rtt(max_rtt, rtt),
            Err(lost) => Err(fault(lost, to, limit)),
        });
    };
    kit.sockets.send(&round.echo, round.asked(Some(probe), Duration::ZERO), Box::new(hear));
}

/// Sends several echo requests and judges the replies.
pub async fn several(kit: &Kit, ping: &Ping, timeout: Duration, own: &OwnPrefixes) -> Verdict {
    let round = Round::begin(kit, ping, timeout, own)?;
    let ask = async |after: Duration| {
        tokio::time::sleep_until(round.start + after).await;
        kit.sockets.ask(&round.echo, round.asked(None, after)).await
    };
    // Over the first seven tenths of the time, so that the last one has a chance too.
    let gap = round.deadline.limit.mul_f64(0.7) / u32::from(ping.count.max(1));
    let mut asked: FuturesUnordered<_> = (0..u32::from(ping.count)).map(|n| ask(gap * n)).collect();
    let mut tally = Tally::default();
    while let Some(result) = asked.next().await {
        match result {
            Ok(rtt) => tally.sum += rtt,
            Err(Lost::Blind(why)) => return Err(Fault::Ours(why)),
            Err(lost @ (Lost::Silence(_) | Lost::Error(_))) => {
                tally.lost += 1;
                tally.refused |= matches!(lost, Lost::Error(_));
                let (Lost::Silence(why) | Lost::Error(why) | Lost::Blind(why)) = lost;
                tally.why = why;
                // Every further reply could not save it.
                if too_many(ping, tally.lost) {
                    break;
                }
            }
        }
    }
    tally.judge(ping, round.to)
}

#[derive(Default)]
struct Tally {
    lost: u16,
    /// Somebody on the way answered in its place.
    refused: bool,
    sum: Duration,
    why: String,
}

impl Tally {
    fn judge(self, ping: &Ping, to: IpAddr) -> Verdict {
        if too_many(ping, self.lost) {
            let (lost, count, max) = (self.lost, ping.count, ping.max_loss);
            let why = format!("{lost} of {count} lost, allowed are {max} %; the last: {}", self.why);
            return Err(if self.refused { Fault::Theirs(why) } else { Fault::Silence { to, why } });
        }
        let replies = u32::from(ping.count.saturating_sub(self.lost));
        match self.sum.checked_div(replies) {
            Some(mean) => judge_rtt(ping.max_rtt, mean),
            // All lost, and `max_loss = 100` allows it.
            None => Ok(None),
        }
    }
}

fn too_many(ping: &Ping, lost: u16) -> bool {
    f64::from(lost) * 100.0 > ping.max_loss * f64::from(ping.count)
}

fn fault(lost: Lost, to: IpAddr, limit: Duration) -> Fault {
    match lost {
        Lost::Silence(why) => Fault::Silence { to, why: format!("{why} in {} ms", limit.as_millis()) },
        Lost::Error(why) => Fault::Theirs(why),
        Lost::Blind(why) => Fault::Ours(why),
    }
}

fn judge_rtt(max_rtt: Option<Duration>, rtt: Duration) -> Verdict {
    match max_rtt {
        Some(max) if rtt > max => {
            let (rtt, max) = (rtt.as_secs_f64() * 1e3, max.as_secs_f64() * 1e3);
            Err(Fault::Theirs(format!("round trip took {rtt:.1} ms, allowed are {max} ms")))
        }
        _ => Ok(Some(rtt)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Host, Origin};

    fn ping(count: u16, max_loss: f64, max_rtt: Option<Duration>) -> Ping {
        let host = Host::Name("mainland.example".into());
        Ping { host, count, max_loss, max_rtt, size: 56, origin: Origin::default() }
    }

    fn to() -> IpAddr {
        "198.18.0.1".parse().unwrap()
    }

    fn tally(lost: u16, sum_ms: u64) -> Tally {
        Tally { lost, refused: false, sum: Duration::from_millis(sum_ms), why: "no reply".into() }
    }

    #[test]
    fn loss_is_judged_against_its_bound() {
        let ten = ping(10, 20.0, None);
        assert_eq!(tally(2, 80).judge(&ten, to()), Ok(Some(Duration::from_millis(10))));
        let why = "3 of 10 lost, allowed are 20 %; the last: no reply".to_owned();
        assert_eq!(tally(3, 70).judge(&ten, to()), Err(Fault::Silence { to: to(), why: why.clone() }));
        let refused = Tally { refused: true, ..tally(3, 70) };
        assert_eq!(refused.judge(&ten, to()), Err(Fault::Theirs(why)));
        assert!(tally(1, 0).judge(&ping(3, 0.0, None), to()).is_err());
        assert_eq!(tally(4, 0).judge(&ping(4, 100.0, None), to()), Ok(None));
    }

    #[test]
    fn the_mean_round_trip_is_judged() {
        let slow = ping(2, 0.0, Some(Duration::from_millis(200)));
        assert!(tally(0, 400).judge(&slow, to()).is_ok());
        let why = "round trip took 200.5 ms, allowed are 200 ms".to_owned();
        assert_eq!(tally(0, 401).judge(&slow, to()), Err(Fault::Theirs(why)));
    }
}

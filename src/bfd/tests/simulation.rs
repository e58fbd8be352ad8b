//! Two ends over a network that loses, delays, reorders and repeats, in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{THEM, US, config};
use crate::bfd::random::Random;
use crate::bfd::wire::{Packet, State};
use crate::bfd::{Change, Datagram, News, SessionId, Speaker};
use crate::time::Time;

const ID: SessionId = SessionId(1);

/// What the network does to packets.
#[derive(Clone, Copy)]
struct Weather {
    /// Of a thousand.
    lost: u64,
    repeated: u64,
    delay: Duration,
    /// At most so much more, by chance: packets overtake each other.
    wobble: Duration,
}

const CLEAR: Weather =
    Weather { lost: 0, repeated: 0, delay: Duration::from_millis(1), wobble: Duration::ZERO };

struct World {
    ends: [Speaker; 2],
    weather: [Weather; 2],
    /// Packets under way: when they arrive, a number, to whom, the octets.
    wire: BTreeSet<(Time, u64, usize, Vec<u8>)>,
    random: Random,
    now: Time,
    serial: u64,
    news: Vec<(usize, Time, News)>,
    last_sent: [Option<Time>; 2],
    sent: [u64; 2],
    shortest: [Duration; 2],
}

impl World {
    fn new(seed: u64, intervals: [u64; 2], multipliers: [u8; 2]) -> Self {
        let mut ends = [Speaker::new(seed), Speaker::new(seed ^ 0x55)];
        for (i, remote) in [THEM, US].into_iter().enumerate() {
            ends[i].start(ID, config(remote, intervals[i], multipliers[i]), Time::ZERO);
        }
        World {
            ends,
            weather: [CLEAR; 2],
            wire: BTreeSet::new(),
            random: Random::new(seed),
            now: Time::ZERO,
            serial: 0,
            news: Vec::new(),
            last_sent: [None; 2],
            sent: [0; 2],
            shortest: [Duration::MAX; 2],
        }
    }

    fn set_weather(&mut self, weather: Weather) {
        self.weather = [weather; 2];
    }

    fn run(&mut self, how_long: Duration) {
        let until = self.now + how_long;
        loop {
            self.flush();
            let due = self.ends.iter().filter_map(Speaker::poll_timeout);
            let arrival = self.wire.first().map(|(at, ..)| *at);
            let Some(next) = due.chain(arrival).min().map(|t| t.max(self.now)).filter(|t| *t <= until) else {
                self.now = until;
                return;
            };
            self.now = next;
            while let Some((at, _, to, octets)) = self.wire.first().cloned().filter(|(at, ..)| *at <= next) {
                self.wire.pop_first();
                let (source, destination) = if to == 0 { (THEM, US) } else { (US, THEM) };
                let datagram = Datagram {
                    source,
                    destination,
                    interface: 1,
                    ttl: Some(255),
                    multihop: false,
                    payload: &octets,
                    at,
                };
                let _ = self.ends[to].receive(&datagram, next);
            }
            self.ends.iter_mut().for_each(|e| e.handle_timeout(next));
        }
    }

    fn flush(&mut self) {
        for from in 0..2 {
            let mut out = Vec::new();
            while self.ends[from].poll_transmit(self.now, &mut out).is_some() {
                self.account(from, &out);
                self.send(1 - from, std::mem::take(&mut out));
            }
            while let Some((_, news)) = self.ends[from].poll_news() {
                self.news.push((from, self.now, news));
            }
        }
    }

    fn account(&mut self, from: usize, octets: &[u8]) {
        let packet = Packet::parse(octets).unwrap().packet;
        self.sent[from] += 1;
        if !packet.is_final {
            if let Some(last) = self.last_sent[from] {
                self.shortest[from] = self.shortest[from].min(self.now.since(last));
            }
            self.last_sent[from] = Some(self.now);
        }
    }

    fn send(&mut self, to: usize, octets: Vec<u8>) {
        let w = self.weather[to];
        let copies = 1 + u64::from(self.random.draw() % 1000 < w.repeated);
        for _ in 0..copies {
            if self.random.draw() % 1000 < w.lost {
                continue;
            }
            let wobble = self.random.draw() % (w.wobble.as_nanos() as u64 + 1);
            self.serial += 1;
            let at = self.now + w.delay + Duration::from_nanos(wobble);
            self.wire.insert((at, self.serial, to, octets.clone()));
        }
    }

    fn state(&self, end: usize) -> State {
        self.ends[end].session(ID).unwrap().state()
    }

    fn both_up(&self) -> bool {
        self.state(0) == State::Up && self.state(1) == State::Up
    }

    fn changes(&self, end: usize) -> impl Iterator<Item = (Time, &Change)> {
        self.news.iter().filter(move |(e, ..)| *e == end).filter_map(|(_, at, news)| match news {
            News::Changed(c) => Some((*at, c)),
            _ => None,
        })
    }

    fn downs(&self) -> u64 {
        self.ends.iter().map(|e| e.session(ID).unwrap().status().counters.down).sum()
    }
}

/// Up within a few slow packets, then at the slower one's speed, never faster than agreed on.
#[test]
fn two_ends_agree_on_the_slower_interval() {
    for seed in 0..50 {
        let mut world = World::new(seed, [50, 200], [3, 5]);
        world.run(Duration::from_secs(3));
        assert!(world.both_up(), "seed {seed}");
        (world.shortest, world.sent, world.last_sent) = ([Duration::MAX; 2], [0; 2], [None; 2]);
        world.run(Duration::from_secs(100));
        let status = world.ends.each_ref().map(|e| e.session(ID).unwrap().status());
        assert!(status.iter().all(|s| !s.polling && s.tx_interval == Some(Duration::from_millis(200))));
        // RFC 5880 section 6.8.4: each goes by the other's multiplier.
        let times = status.each_ref().map(|s| s.detection_time);
        assert_eq!(times, [Duration::from_millis(1000), Duration::from_millis(600)]);
        assert!(world.shortest.iter().all(|s| *s >= Duration::from_millis(150)), "{:?}", world.shortest);
        assert!(world.sent.iter().all(|n| (500..=670).contains(n)), "{:?}", world.sent);
        assert_eq!(world.downs(), 0);
    }
}

/// RFC 5880 section 6.8.4: at the detection time after the last packet, not earlier and not later.
#[test]
fn silence_is_death_after_exactly_the_detection_time() {
    for seed in 0..200 {
        let mut world = World::new(seed, [10, 10], [3, 3]);
        world.run(Duration::from_secs(5));
        assert!(world.both_up());
        let cut = world.now;
        world.set_weather(Weather { lost: 1000, ..CLEAR });
        world.run(Duration::from_secs(1));
        for end in 0..2 {
            let (at, change) = world.changes(end).last().unwrap();
            assert_eq!((change.state, change.diagnostic.0), (State::Down, 1));
            let took = at.since(cut);
            // The last packet left up to an interval before the cut, and arrived a millisecond later.
            let bound = Duration::from_millis(20)..=Duration::from_millis(31);
            assert!(bound.contains(&took), "seed {seed}: {took:?}");
            assert!(change.own_fault.is_none());
        }
        world.set_weather(CLEAR);
        world.run(Duration::from_secs(4));
        assert!(world.both_up(), "seed {seed}: up again");
    }
}

/// What a bad network does within the bounds of the protocol takes no session down.
#[test]
fn delay_reordering_and_repetition_are_no_reason() {
    for seed in 0..30 {
        let mut world = World::new(seed, [100, 100], [3, 3]);
        let delay = Duration::from_millis(40);
        world.run(Duration::from_secs(5));
        world.set_weather(Weather { lost: 0, repeated: 200, delay, wobble: Duration::from_millis(150) });
        world.run(Duration::from_secs(300));
        assert!(world.both_up() && world.downs() == 0, "seed {seed}: {} downs", world.downs());
    }
}

/// FIELD 21: BFD at multiplier 3 flaps on a lossy cross-region link; the default of 1 s x 5 there does not.
#[test]
fn a_cross_region_link_does_not_flap_at_its_default() {
    let hour = Duration::from_secs(3600);
    let lossy = Weather {
        lost: 40,
        repeated: 10,
        delay: Duration::from_millis(35),
        wobble: Duration::from_millis(40),
    };
    let downs = |interval, multiplier| -> u64 {
        let one = |seed| {
            let mut world = World::new(seed, [interval; 2], [multiplier; 2]);
            world.set_weather(lossy);
            world.run(hour);
            world.downs()
        };
        (0..4).map(one).sum()
    };
    let (fast, default) = (downs(300, 3), downs(1000, 5));
    assert!(fast > 2, "a link that does not show the trouble: {fast}");
    assert_eq!(default, 0);
}

/// RFC 5880 sections 6.5 and 6.8.3: intervals change up and down while Up, over a lossy link, and no session flaps for it.
#[test]
fn a_change_of_interval_ends_its_poll_and_flaps_nothing() {
    for seed in 0..100 {
        let mut world = World::new(seed, [300, 300], [10, 10]);
        world.set_weather(Weather { lost: 150, wobble: Duration::from_millis(20), ..CLEAR });
        world.run(Duration::from_secs(20));
        assert!(world.both_up(), "seed {seed}");
        // Coming up is no part of this: old packets may overtake new ones there.
        let before = world.downs();
        for interval in [1000, 20, 700, 50, 300] {
            let now = world.now;
            let end = (seed % 2) as usize;
            let remote = if end == 0 { THEM } else { US };
            world.ends[end].reconfigure(ID, config(remote, interval, 10), now);
            world.run(Duration::from_secs(30));
            let status = world.ends[end].session(ID).unwrap().status();
            let agreed = Duration::from_millis(interval.max(300));
            assert_eq!((status.polling, status.tx_interval), (false, Some(agreed)), "seed {seed}");
        }
        assert!(world.both_up() && world.downs() == before, "seed {seed}: {} downs", world.downs());
    }
}

/// FIELD 9: an end that did not run for a while, packets and all, forgives the silence it did not hear.
#[test]
fn who_has_slept_does_not_take_it_for_the_neighbours_silence() {
    for seed in 0..50 {
        let mut world = World::new(seed, [50, 50], [3, 3]);
        world.run(Duration::from_secs(5));
        let (now, slept) = (world.now, Duration::from_secs(10));
        // The machine is suspended: neither end runs, packets in flight are lost, the clock goes on.
        world.wire.clear();
        world.now = now + slept;
        for end in &mut world.ends {
            end.forgive(slept, "slept", world.now);
        }
        world.run(Duration::from_secs(5));
        assert!(world.both_up() && world.downs() == 0, "seed {seed}");

        // Only once in a silence: a neighbour that died meanwhile is found out.
        world.set_weather(Weather { lost: 1000, ..CLEAR });
        world.wire.clear();
        for _ in 0..10 {
            let now = world.now;
            world.ends[0].forgive(Duration::from_millis(90), "slept", now);
            world.run(Duration::from_millis(40));
        }
        assert_eq!(world.state(0), State::Down, "seed {seed}");
    }
}

/// One end sleeps while the other does not: that one says Down, and that is our fault.
#[test]
fn a_down_that_our_sleep_caused_is_marked_so() {
    let mut world = World::new(3, [50, 50], [3, 3]);
    world.run(Duration::from_secs(5));
    world.weather[1] = Weather { lost: 1000, ..CLEAR };
    world.run(Duration::from_millis(200));
    let now = world.now;
    world.ends[0].forgive(Duration::from_millis(200), "slept", now);
    world.weather[1] = CLEAR;
    world.run(Duration::from_secs(4));
    let (_, down) = world.changes(0).find(|(_, c)| c.state == State::Down).expect("the neighbour said Down");
    assert!(down.diagnostic.0 == 3 && down.own_fault.is_none(), "before we knew: {down:?}");
    assert!(world.both_up());

    world.weather[1] = Weather { lost: 1000, ..CLEAR };
    let now = world.now;
    world.ends[0].forgive(Duration::from_millis(100), "slept again", now);
    world.run(Duration::from_millis(300));
    let (_, down) = world.changes(0).last().unwrap();
    let words = down.own_fault.as_ref().map(ToString::to_string);
    assert_eq!(words.as_deref(), Some("slept again"), "{down:?}");
}

/// What we did wrong and nobody noticed excuses nobody for longer than it could have been noticed.
#[test]
fn an_absence_without_effect_excuses_no_silence_after_it() {
    let mut world = World::new(3, [50, 50], [3, 3]);
    world.run(Duration::from_secs(5));
    let now = world.now;
    world.ends[0].forgive(Duration::from_millis(50), "slept", now);
    world.run(Duration::from_millis(1500));
    assert!(world.both_up() && world.downs() == 0);
    world.set_weather(Weather { lost: 1000, ..CLEAR });
    world.run(Duration::from_millis(300));
    let (_, down) = world.changes(0).last().unwrap();
    assert!(down.state == State::Down && down.own_fault.is_none(), "{down:?}");
}

/// RFC 5880 section 6.5: Finals carry no number. One that answers an older Poll is no sign of life for a newer one.
#[test]
fn a_late_final_verifies_nothing_newer() {
    let slow = Weather { delay: Duration::from_millis(350), ..CLEAR };
    let mut world = World::new(9, [100, 100], [10, 10]);
    world.set_weather(slow);
    world.run(Duration::from_secs(10));
    assert!(world.both_up());
    world.news.clear();
    let first = world.now;
    world.ends[0].verify(ID, first);
    while world.news.is_empty() {
        world.run(Duration::from_millis(1));
    }
    assert_eq!(world.news[0].2, News::Verified { since: first });
    // More Polls of that sequence are under way, and their Finals will come; what is sent from now on does not arrive.
    world.weather[1] = Weather { lost: 1000, ..slow };
    let second = world.now;
    world.ends[0].verify(ID, second);
    world.news.clear();
    world.run(Duration::from_millis(800));
    assert!(!world.news.iter().any(|(_, _, n)| matches!(n, News::Verified { .. })), "{:?}", world.news);
    // One Poll is answered in the end, whatever was lost before it.
    world.weather[1] = slow;
    world.run(Duration::from_secs(2));
    assert!(world.news.iter().any(|(_, _, n)| *n == News::Verified { since: second }), "{:?}", world.news);
}

/// A Poll asked for by hand is answered, and says since when the neighbour is known to hear us.
#[test]
fn a_poll_is_a_sign_of_life() {
    let mut world = World::new(9, [100, 100], [3, 3]);
    world.run(Duration::from_secs(5));
    world.news.clear();
    let asked = world.now;
    world.ends[0].verify(ID, asked);
    world.run(Duration::from_millis(150));
    assert_eq!(world.news.len(), 1);
    let (end, at, news) = &world.news[0];
    assert_eq!((*end, news), (0, &News::Verified { since: asked }));
    assert!(*at > asked);
    world.set_weather(Weather { lost: 1000, ..CLEAR });
    world.wire.clear();
    world.news.clear();
    let asked = world.now;
    world.ends[0].verify(ID, asked);
    world.run(Duration::from_millis(150));
    assert!(world.news.is_empty(), "nobody answers: {:?}", world.news);
}

/// Old packets that overtake each other may take a session that comes up down again; it settles, and there is no storm.
#[test]
fn coming_up_over_a_network_that_reorders_settles() {
    for seed in 0..50 {
        let mut world = World::new(seed, [100, 100], [3, 3]);
        let delay = Duration::from_millis(40);
        world.set_weather(Weather { lost: 50, repeated: 300, delay, wobble: Duration::from_millis(150) });
        world.run(Duration::from_secs(60));
        assert!(world.both_up(), "seed {seed}");
        assert!(world.sent.iter().all(|n| *n < 60 * 20), "seed {seed}: {:?}", world.sent);
    }
}

//! What the thread promises: each fails if a turn does things in another order.

use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;

use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use socket2::{Domain, Socket, Type};
use tokio::sync::mpsc::{Receiver, channel};

use super::*;
use crate::bfd::wire::{Diagnostic, Packet, State};
use crate::bfd::{Fault, Hops};

const US: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const THEM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// A machine that stalls for three of it would spoil these tests.
const INTERVAL: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(500);
const ID: SessionId = SessionId(1);

/// What is to happen at a reading of the clock.
type Then = Rc<RefCell<Option<Box<dyn FnOnce()>>>>;

/// A worker without its loop, with a clock that is moved by hand, and a neighbour that says what it is told to.
struct Rig {
    worker: Worker,
    neighbour: Rc<Socket>,
    /// Ahead of the real clock by so much, in nanoseconds.
    ahead: Rc<Cell<i64>>,
    /// At this reading of the clock that is done first.
    at: Rc<Cell<i64>>,
    then: Then,
    _bell: UnixStream,
    events: Receiver<Event>,
}

/// In a network namespace of its own.
fn alone(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root: unshare(CLONE_NEWNET)");
        // What one processor sends over the loopback arrives in that order: see `settle`.
        let (us, mut one) = (nix::unistd::Pid::from_raw(0), CpuSet::new());
        one.set(nix::sched::sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(us, &one).unwrap();
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.expect("ip").success());
        test();
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

impl Rig {
    /// A session of 10 s x 3 that is Up at both ends' full speed.
    fn up() -> Self {
        let (ahead, at) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let then: Then = Rc::default();
        let (clock_ahead, clock_at, clock_then) = (ahead.clone(), at.clone(), then.clone());
        let clock = move || {
            clock_at.set(clock_at.get() - 1);
            if clock_at.get() == 0 {
                clock_then.borrow_mut().take().expect("something to do")();
            }
            let real = clock::now();
            Time::from_nanos(real.as_nanos() + clock_ahead.get())
        };
        let (bell, ear) = UnixStream::pair().unwrap();
        let (events, told) = channel(64);
        let shared = Arc::new(Shared::default());
        let path = Path { remote: THEM.into(), local: Some(US.into()), device: None, hops: Hops::Single };
        let config = SessionConfig { path, interval: INTERVAL, multiplier: 3, passive: false, auth: None };
        lock(&shared.mail).sessions = Some(vec![(ID, config)]);
        let alarm = wait::Alarm::new().unwrap();
        let worker = Worker::new(shared, events, ear, alarm, Box::new(clock));
        let neighbour = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        neighbour.set_ttl_v4(255).unwrap();
        neighbour.bind(&SocketAddr::new(THEM.into(), 0).into()).unwrap();
        let neighbour = Rc::new(neighbour);
        let mut rig = Rig { worker, neighbour, ahead, at, then, _bell: bell, events: told };
        rig.turn();
        rig.says(State::Down, false);
        rig.turn();
        rig.says(State::Up, false);
        rig.turn();
        // The answer to the Poll for the full speed.
        rig.says(State::Up, true);
        rig.turn();
        assert_eq!(rig.state(), State::Up);
        assert_eq!(rig.detection(), 3 * INTERVAL);
        rig
    }

    fn turn(&mut self) {
        // Nobody was late: that is another promise.
        self.worker.wake = None;
        self.worker.rung = true;
        // Our own packets come to our own port here: no socket is emptied by reading one.
        self.worker.batch = BUDGET;
        assert!(self.worker.turn());
    }

    fn state(&self) -> State {
        self.worker.speaker.session(ID).unwrap().state()
    }

    /// The newest change that was told.
    fn last_change(&mut self) -> crate::bfd::Change {
        let mut last = None;
        while let Ok(event) = self.events.try_recv() {
            if let Event::Bfd { news: News::Changed(change), .. } = event {
                last = Some(change);
            }
        }
        last.expect("a change")
    }

    /// A flood that goes on while we read.
    fn drown(&mut self, from: Ipv4Addr, ttl: u32) {
        for _ in 0..2 {
            flood(from, ttl);
            self.turn();
        }
    }

    /// In how many intervals silence is death.
    fn detection_left(&mut self) -> u32 {
        let now = self.worker.now();
        let session = self.worker.speaker.session(ID).unwrap();
        let is_death = |n: &u32| session.judges_at(now + *n * INTERVAL);
        (0..9).find(is_death).unwrap()
    }

    fn detection(&self) -> Duration {
        self.worker.speaker.session(ID).unwrap().status().detection_time
    }

    fn octets(&self, state: State, is_final: bool) -> Vec<u8> {
        let packet = Packet {
            diagnostic: Diagnostic::NONE,
            state,
            poll: false,
            is_final,
            control_plane_independent: false,
            demand: false,
            multiplier: 3,
            my_discriminator: 7,
            your_discriminator: self.worker.speaker.session(ID).unwrap().discriminator(),
            desired_min_tx: 10_000_000,
            required_min_rx: 10_000_000,
            required_min_echo_rx: 0,
        };
        let mut octets = Vec::new();
        packet.put(0, &mut octets);
        octets
    }

    fn says(&self, state: State, is_final: bool) {
        say(&self.neighbour, &self.octets(state, is_final));
    }

    fn pass(&self, time: Duration) {
        self.ahead.set(self.ahead.get() + i64::try_from(time.as_nanos()).unwrap());
    }
}

fn say(neighbour: &Socket, octets: &[u8]) {
    neighbour.send_to(octets, &SocketAddr::new(IpAddr::V4(US), 3784).into()).unwrap();
    settle();
}

/// A busy kernel delivers a moment later: waits until what was sent before is in its socket.
fn settle() {
    let socket = UdpSocket::bind((US, 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(b".", socket.local_addr().unwrap()).unwrap();
    assert_eq!(socket.recv(&mut [0]).expect("what was sent to ourselves"), 1);
}

/// "Before declaring Down, everything already in the socket is read": packets that came while the thread was kept from
/// running are no silence, and nobody had to be told that it was.
#[test]
fn what_waits_in_the_socket_is_heard_before_a_silence_is_judged() {
    alone(|| {
        let mut rig = Rig::up();
        rig.pass(LONG);
        rig.says(State::Up, false);
        rig.worker.wake = None;
        // Nor had poll(2) told of it.
        rig.worker.rung = false;
        assert!(rig.worker.turn());
        assert_eq!(rig.state(), State::Up);
        rig.pass(LONG);
        rig.turn();
        assert_eq!(rig.state(), State::Down, "a silence");
    });
}

/// At whatever point of a turn the thread is preempted for many detection times: what came meanwhile waits unread, and is
/// no silence.
#[test]
fn who_is_preempted_in_a_turn_judges_nothing_that_waits_unread() {
    alone(|| {
        for point in 1..=12 {
            let mut rig = Rig::up();
            // Late enough for a judgement, had nothing come.
            rig.pass(4 * INTERVAL);
            rig.says(State::Up, false);
            let (neighbour, octets, ahead) =
                (rig.neighbour.clone(), rig.octets(State::Up, false), rig.ahead.clone());
            rig.then.replace(Some(Box::new(move || {
                say(&neighbour, &octets);
                ahead.set(ahead.get() + 500_000_000_000);
            })));
            rig.at.set(point);
            rig.worker.wake = None;
            rig.worker.rung = false;
            assert!(rig.worker.turn());
            assert_eq!(rig.state(), State::Up, "at reading {point} of the clock");
            rig.at.set(0);
            rig.turn();
            assert_eq!(rig.state(), State::Up, "after reading {point} of the clock");
        }
    });
}

fn spend(time: Duration) {
    let since = std::time::Instant::now();
    while since.elapsed() < time {
        std::thread::yield_now();
    }
}

/// The first socket that asks for stamps makes the kernel take them from all packets, but a moment later: until then one
/// gets its stamp when it is read. Held, it stays so.
fn until_packets_are_stamped(neighbour: &Socket) -> Port {
    let mut port = Port::open(Kind { v6: false, multihop: true }).unwrap();
    let (since, late) = (std::time::Instant::now(), Duration::from_millis(5));
    let mut buffer = [0; MAX_LEN + 1];
    loop {
        neighbour.send_to(&[0; 24], &SocketAddr::new(US.into(), 4784).into()).unwrap();
        spend(late);
        let arrival = port.receive(&mut buffer).unwrap().expect("the packet");
        if arrival.age.is_some_and(|age| age >= late) {
            return port;
        }
        assert!(since.elapsed() < Duration::from_secs(10), "the kernel stamps no packets");
    }
}

/// SO_TIMESTAMPNS: a packet counts from when the kernel had it, however late it is read.
#[test]
fn a_packet_is_as_old_as_the_kernel_says() {
    alone(|| {
        let mut rig = Rig::up();
        let _port = until_packets_are_stamped(&rig.neighbour);
        rig.says(State::Up, false);
        let sent = clock::now();
        spend(Duration::from_millis(200));
        rig.turn();
        let session = rig.worker.speaker.session(ID).unwrap();
        assert!(!session.judges_at(sent - Duration::from_secs(1) + 3 * INTERVAL));
        assert!(session.judges_at(sent + Duration::from_millis(100) + 3 * INTERVAL));
    });
}

/// More packets than a socket has room for.
fn flood(from: Ipv4Addr, ttl: u32) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_ttl_v4(ttl).unwrap();
    socket.bind(&SocketAddr::new(from.into(), 0).into()).unwrap();
    for _ in 0..30_000 {
        socket.send_to(&[0; 24], &SocketAddr::new(IpAddr::V4(US), 3784).into()).unwrap();
    }
    settle();
}

/// RFC 5881 section 5, and FIELD: a primary is dead, and somebody floods us. What is from elsewhere, or was routed, takes
/// no room from the neighbour's packets and excuses nobody's silence.
#[test]
fn a_flood_from_elsewhere_changes_nothing() {
    alone(|| {
        for (from, ttl) in [(THEM, 254), (Ipv4Addr::new(127, 0, 0, 3), 255)] {
            let mut rig = Rig::up();
            rig.pass(2 * INTERVAL);
            flood(from, ttl);
            rig.says(State::Up, false);
            rig.turn();
            assert_eq!(rig.detection_left(), 3, "the neighbour was heard");
            rig.pass(2 * INTERVAL);
            rig.drown(from, ttl);
            rig.pass(2 * INTERVAL);
            rig.turn();
            let down = rig.last_change();
            assert_eq!((down.state, &down.own_fault), (State::Down, &None), "{from} {ttl}: {down:?}");
            assert_eq!(rig.worker.speaker.session(ID).unwrap().status().counters.forgiven, 0);
        }
    });
}

/// SPEC 4: "whose answer we could not have seen (...) receive-queue drops": a flood with a neighbour's own address. It is no
/// death, and no life for ever.
#[test]
fn a_flood_that_cannot_be_told_apart_is_forgiven_once() {
    alone(|| {
        let mut rig = Rig::up();
        rig.pass(2 * INTERVAL);
        rig.drown(THEM, 255);
        rig.pass(2 * INTERVAL);
        rig.turn();
        assert_eq!(rig.state(), State::Up, "what was lost may have been the neighbour's");
        rig.pass(2 * INTERVAL - Duration::from_secs(2));
        rig.drown(THEM, 255);
        rig.pass(Duration::from_secs(2));
        rig.turn();
        let down = rig.last_change();
        assert_eq!(down.state, State::Down, "after twice the detection time");
        assert!(matches!(down.own_fault, Some(Fault::Deaf(_))), "{down:?}");
    });
}

fn ip(words: &str) {
    assert!(
        std::process::Command::new("ip").args(words.split(' ')).status().expect("ip").success(),
        "ip {words}"
    );
}

/// An address that moves to another device takes the session with it: what is wrong with the device that it was on is no
/// excuse any more. Nowhere else, and reached by a default route, it is one.
#[test]
fn who_is_down_is_looked_for_where_our_address_is() {
    alone(|| {
        for name in ["one", "two"] {
            ip(&format!("link add {name} type veth peer name {name}-far"));
            ip(&format!("link set {name} up"));
            ip(&format!("link set {name}-far up"));
        }
        ip("address add 192.0.2.1/24 dev one");
        ip("address add 198.51.100.1/24 dev two");
        ip("route add default via 198.51.100.9");
        let mut rig = Rig::up();
        rig.pass(4 * INTERVAL);
        rig.turn();
        assert_eq!(rig.state(), State::Down);
        let one = nix::net::if_::if_nametoindex("one").unwrap();
        let mut config = rig.worker.configs[&ID].clone();
        (config.path.remote, config.path.local) = ([192, 0, 2, 9].into(), None);
        rig.worker.arrived.insert(ID, (one, [192, 0, 2, 1].into()));
        let until = |expected: Option<&str>, when: &str| {
            let since = std::time::Instant::now();
            while rig.worker.own_trouble(ID, &config).as_deref() != expected {
                let said = rig.worker.own_trouble(ID, &config);
                assert!(since.elapsed() < Duration::from_secs(10), "{when}: {said:?}");
                std::thread::yield_now();
            }
        };
        until(None, "at first");
        ip("link set one-far down");
        let dead = Some("our own link one has no carrier");
        until(dead, "on a dead link");
        ip("address delete 192.0.2.1/24 dev one");
        until(dead, "nowhere");
        ip("address add 192.0.2.1/32 dev lo");
        until(dead, "on no link");
        ip("address delete 192.0.2.1/32 dev lo");
        ip("address add 192.0.2.1/24 dev two");
        until(None, "on another link");
        ip("link set two-far down");
        until(Some("our own link two has no carrier"), "on another dead link");
    });
}

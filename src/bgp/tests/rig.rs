//! One peer on a bench: the test plays the network and the other side, message by message.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::view::View;
use crate::bgp::wire::capability::{Capabilities, GracefulRestart};
use crate::bgp::wire::header::{Frame, MessageType, begin, finish, frame, put_keepalive};
use crate::bgp::wire::notification::{Cause, Notification};
use crate::bgp::wire::open::Open;
use crate::bgp::{
    Attributes, Claim, ConnId, Families, GracefulRestartConfig, Origin, Peer, PeerConfig, PeerEffect,
    PeerEvent, PrefixSet, Table, Wanted,
};
use crate::net::{Asn, Prefix, RouterId};
use crate::time::Time;

pub const LOCAL: &str = "203.0.113.2:40000";

pub fn config() -> PeerConfig {
    let id = RouterId("203.0.113.2".parse().unwrap());
    let mut cfg = PeerConfig::new("isp-a", "203.0.113.1".parse().unwrap(), Asn(64500), Asn(64501), id);
    cfg.next_hop_v6 = Some("2001:db8::2".parse().unwrap());
    cfg
}

/// The OPEN of an ISP that has everything.
pub fn isp_open() -> Open {
    Open {
        asn: Asn(64500),
        hold_time: 90,
        router_id: RouterId("203.0.113.1".parse().unwrap()),
        capabilities: Capabilities {
            multiprotocol: Some(Families::BOTH),
            four_octet_as: Some(Asn(64500)),
            route_refresh: true,
            enhanced_refresh: true,
            extended_message: true,
            ..Capabilities::default()
        },
    }
}

pub struct Rig {
    pub peer: Peer,
    pub now: Time,
    pub local: SocketAddr,
    incoming: u64,
}

impl Rig {
    pub fn new(cfg: PeerConfig) -> Self {
        Self::started(cfg, false)
    }

    pub fn started(cfg: PeerConfig, restarted: bool) -> Self {
        let now = Time::from_nanos(1_000_000_000);
        Rig { peer: Peer::new(cfg, 1, restarted, now), now, local: LOCAL.parse().unwrap(), incoming: 0 }
    }

    pub fn effects(&mut self) -> Vec<PeerEffect> {
        std::iter::from_fn(|| self.peer.poll_effect()).collect()
    }

    pub fn event(&mut self, event: PeerEvent) -> Vec<PeerEffect> {
        self.peer.handle_event(event, self.now);
        self.effects()
    }

    /// Lets time pass, timer by timer; all effects, with octets fetched and thrown away.
    pub fn pass(&mut self, duration: Duration) -> Vec<(Time, PeerEffect)> {
        let end = self.now + duration;
        let mut all = Vec::new();
        while let Some(at) = self.peer.poll_timeout().filter(|at| *at <= end) {
            assert!(at >= self.now || self.peer.poll_timeout() == Some(at));
            self.now = at.max(self.now);
            self.peer.handle_timeout(self.now);
            all.extend(self.effects().into_iter().map(|effect| (self.now, effect)));
            assert!(
                self.peer.poll_timeout().is_none_or(|next| next > self.now),
                "a timer that does not move on"
            );
        }
        self.now = end;
        all
    }

    /// Waits for the peer's next try and lets it succeed.
    pub fn connect(&mut self) -> ConnId {
        for _ in 0..1000 {
            let at = self.peer.poll_timeout().expect("no try is planned");
            self.now = at.max(self.now);
            self.peer.handle_timeout(self.now);
            for effect in self.effects() {
                if let PeerEffect::Connect { conn } = effect {
                    let local = self.local;
                    assert_eq!(
                        self.event(PeerEvent::TransportConnected { conn, local }),
                        [PeerEffect::Transmit { conn }]
                    );
                    return conn;
                }
            }
        }
        panic!("no connection");
    }

    pub fn accept(&mut self) -> (ConnId, Vec<PeerEffect>) {
        let conn = ConnId { origin: Origin::Incoming, serial: self.incoming };
        self.incoming += 1;
        let local = self.local;
        (conn, self.event(PeerEvent::TransportAccepted { conn, local }))
    }

    pub fn send(&mut self, conn: ConnId, octets: Vec<u8>) -> Vec<PeerEffect> {
        self.event(PeerEvent::Received { conn, octets })
    }

    pub fn send_open(&mut self, conn: ConnId, open: &Open) -> Vec<PeerEffect> {
        let mut octets = Vec::new();
        open.put(&mut octets);
        self.send(conn, octets)
    }

    /// All octets that are ready, as messages.
    pub fn fetch(&mut self, conn: ConnId) -> Vec<u8> {
        let mut all = Vec::new();
        while self.peer.poll_transmit(conn, 65536, &mut all) > 0 {}
        all
    }

    /// The types of the messages that are ready.
    pub fn fetch_types(&mut self, conn: ConnId) -> Vec<MessageType> {
        types(&self.fetch(conn))
    }

    /// OPEN, KEEPALIVE, both ways.
    pub fn establish(&mut self, conn: ConnId, open: &Open) -> Vec<PeerEffect> {
        self.send_open(conn, open);
        let mut octets = Vec::new();
        put_keepalive(&mut octets);
        self.send(conn, octets)
    }

    /// A session with an ISP that has everything, its OPEN and KEEPALIVE fetched.
    pub fn up(cfg: PeerConfig) -> (Self, ConnId) {
        let mut rig = Rig::new(cfg);
        let conn = rig.connect();
        rig.establish(conn, &isp_open());
        assert_eq!(rig.fetch_types(conn)[..2], [MessageType::Open, MessageType::Keepalive]);
        (rig, conn)
    }

    pub fn want(&mut self, wanted: Wanted, token: u64) -> Vec<PeerEffect> {
        self.event(PeerEvent::SetWanted { wanted, token })
    }

    /// Fetches and reads.
    pub fn read(&mut self, conn: ConnId, view: &mut View) {
        let octets = self.fetch(conn);
        view.read(&octets);
    }
}

pub fn types(mut octets: &[u8]) -> Vec<MessageType> {
    let mut all = Vec::new();
    while let Ok(Frame::Message(kind, length)) = frame(octets, true) {
        all.push(kind);
        octets = &octets[length..];
    }
    all
}

pub fn message(kind: MessageType, body: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    let start = begin(&mut octets, kind);
    octets.extend_from_slice(body);
    finish(&mut octets, start);
    octets
}

pub fn notification(notification: &Notification) -> Vec<u8> {
    let mut octets = Vec::new();
    notification.put(&mut octets);
    octets
}

pub fn med(med: u32) -> Arc<Attributes> {
    Arc::new(Attributes { med: Some(med), ..Attributes::default() })
}

pub fn set(prefixes: &[&str]) -> PrefixSet {
    prefixes.iter().map(|text| text.parse::<Prefix>().unwrap()).collect()
}

/// One announcement of these prefixes.
pub fn wanted(prefixes: &[&str], claim: Claim) -> Wanted {
    Wanted { table: Arc::new(Table::new(&[set(prefixes)])), claims: vec![claim] }
}

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// The ISP's OPEN with another AS number.
pub(super) fn open_of(asn: u32) -> Open {
    let mut open = Open { asn: Asn(asn), ..isp_open() };
    open.capabilities.four_octet_as = Some(Asn(asn));
    open
}

pub(super) fn closes(conn: ConnId, cause: Cause, data: &[u8]) -> PeerEffect {
    let last_words = notification(&Notification::with_data(cause, data.to_vec()));
    PeerEffect::Close { conn, last_words }
}

pub(super) fn keepalive() -> Vec<u8> {
    message(MessageType::Keepalive, &[])
}

pub(super) fn restart_time() -> Option<GracefulRestartConfig> {
    Some(GracefulRestartConfig { restart_time: Duration::from_secs(120) })
}

pub(super) fn restarting_open() -> Open {
    let restart = GracefulRestart {
        restarting: true,
        notification: true,
        restart_time: 60,
        families: crate::bgp::PerFamily { v4: Some(true), v6: Some(true) },
    };
    let mut open = isp_open();
    open.capabilities.graceful_restart = Some(restart);
    open
}

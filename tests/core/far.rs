//! Routers at the other end of our BGP sessions: each connects when it is asked, agrees to everything, answers every
//! KEEPALIVE, and tells the story of what it hears.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use announcerd::announcer::event::PeerId;
use announcerd::bgp::wire::capability::{Capabilities, GracefulRestart};
use announcerd::bgp::wire::header::{Frame, MessageType, frame, put_keepalive};
use announcerd::bgp::wire::notification::{Cause, Notification};
use announcerd::bgp::wire::open::Open;
use announcerd::bgp::wire::update::{Update, UpdateContext};
use announcerd::bgp::{ConnId, Families, Origin, PeerEvent, PerFamily};
use announcerd::net::{Asn, RouterId};

const MULTI_EXIT_DISC: u8 = 4;
const COMMUNITIES: u8 = 8;
const GRACEFUL_SHUTDOWN: [u8; 4] = [0xff, 0xff, 0, 0];

/// What they do with our OPEN where they do not agree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Away {
    /// As BIRD does in its `error wait time`: without a word.
    Closes,
    Says(Cause),
}

/// All of them, by the name of the peer in our configuration.
#[derive(Debug, Default)]
pub struct Far {
    pub names: BTreeMap<PeerId, String>,
    /// Where octets to that peer go, and how many were written.
    live: BTreeMap<PeerId, (ConnId, u64)>,
    /// Nobody answers, and nothing that we write arrives.
    pub silent: bool,
    /// They agree to graceful restart.
    pub helps: bool,
    /// They turn us away.
    pub away: Option<Away>,
    /// KEEPALIVEs that they have heard.
    pub keepalives: usize,
    /// How often they have connected to us.
    dialled: u64,
}

impl Far {
    /// What comes back when we connect.
    pub fn connect(&mut self, peer: PeerId, conn: ConnId) -> PeerEvent {
        if self.silent {
            return PeerEvent::TransportFailed { conn, reason: "no answer".into() };
        }
        self.live.insert(peer, (conn, 0));
        let local: SocketAddr = "203.0.113.2:40000".parse().expect("an address");
        PeerEvent::TransportConnected { conn, local }
    }

    /// That one connects to us.
    pub fn dial(&mut self, name: &str) -> (PeerId, PeerEvent) {
        let (id, _) = self.names.iter().find(|(_, n)| *n == name).expect("a peer of that name");
        let conn = ConnId { origin: Origin::Incoming, serial: self.dialled };
        self.dialled += 1;
        self.live.insert(*id, (conn, 0));
        let local: SocketAddr = "203.0.113.2:179".parse().expect("an address");
        (*id, PeerEvent::TransportAccepted { conn, local })
    }

    /// We closed: the story, if that connection was alive.
    pub fn closed(&mut self, peer: PeerId, conn: ConnId, last_words: &[u8]) -> Option<String> {
        self.live.get(&peer).filter(|(live, _)| *live == conn)?;
        self.live.remove(&peer);
        let said = last_words.get(19..).map(|body| Notification::parse(body).to_string());
        Some(format!("{} closed, {}", self.names.get(&peer)?, said.unwrap_or("without a word".into())))
    }

    /// Its last words on the connection.
    pub fn notifies(&self, name: &str, cause: Cause) -> (PeerId, PeerEvent) {
        let (id, _) = self.names.iter().find(|(_, n)| *n == name).expect("a peer of that name");
        let (conn, _) = self.live[id];
        let mut octets = Vec::new();
        Notification::new(cause).put(&mut octets);
        (*id, PeerEvent::Received { conn, octets })
    }

    /// The connection breaks.
    pub fn breaks(&mut self, name: &str) -> (PeerId, PeerEvent) {
        let (id, _) = self.names.iter().find(|(_, n)| *n == name).expect("a peer of that name");
        let (conn, _) = self.live.remove(id).expect("a connection");
        (*id, PeerEvent::Closed { conn, reason: "connection reset by peer".into() })
    }

    /// Octets of ours: what comes back of each message, and the story.
    pub fn hear(&mut self, peer: PeerId, octets: &[u8]) -> (Vec<PeerEvent>, Vec<String>) {
        let Some((conn, written)) = self.live.get_mut(&peer) else { return Default::default() };
        let (conn, total) = (*conn, *written + octets.len() as u64);
        *written = total;
        let mut events = vec![PeerEvent::Written { conn, total }];
        let mut story = Vec::new();
        if self.silent {
            return (events, story);
        }
        events.push(PeerEvent::Acked { conn, total });
        let mut rest = octets;
        while let Ok(Frame::Message(kind, length)) = frame(rest, true) {
            let (message, after) = rest.split_at(length);
            rest = after;
            match kind {
                MessageType::Open if self.away.is_some() => {
                    if let Some(Away::Says(cause)) = self.away {
                        let mut octets = Vec::new();
                        Notification::new(cause).put(&mut octets);
                        events.push(PeerEvent::Received { conn, octets });
                    }
                    events.push(PeerEvent::Closed { conn, reason: "connection closed by the peer".into() });
                    self.live.remove(&peer);
                    return (events, story);
                }
                MessageType::Open => {
                    story.extend(self.restart_of(peer, &message[19..]));
                    events.push(PeerEvent::Received { conn, octets: self.open() });
                }
                MessageType::Keepalive => {
                    self.keepalives += 1;
                    let mut octets = Vec::new();
                    put_keepalive(&mut octets);
                    events.push(PeerEvent::Received { conn, octets });
                }
                MessageType::Update => story.extend(self.update(peer, &message[19..])),
                MessageType::Notification | MessageType::RouteRefresh => {}
            }
        }
        (events, story)
    }

    /// What our OPEN says of graceful restart: "OPEN to isp-a: R F", each letter only where its bit is set.
    fn restart_of(&self, peer: PeerId, body: &[u8]) -> Option<String> {
        let bits = Open::parse(body).expect("an OPEN").capabilities.graceful_restart?;
        let letter = |set: bool, letter: &'static str| if set { letter } else { "" };
        let preserved = [bits.families.v4, bits.families.v6].contains(&Some(true));
        Some(format!(
            "OPEN to {}:{}{}",
            self.names.get(&peer)?,
            letter(bits.restarting, " R"),
            letter(preserved, " F")
        ))
    }

    fn open(&self) -> Vec<u8> {
        let families = PerFamily { v4: Some(false), v6: Some(false) };
        let helper = GracefulRestart { restarting: false, notification: false, restart_time: 120, families };
        let capabilities = Capabilities {
            multiprotocol: Some(Families::BOTH),
            four_octet_as: Some(Asn(64500)),
            graceful_restart: self.helps.then_some(helper),
            ..Capabilities::default()
        };
        let router_id = RouterId("203.0.113.1".parse().expect("an address"));
        let mut octets = Vec::new();
        Open { asn: Asn(64500), hold_time: 90, router_id, capabilities }.put(&mut octets);
        octets
    }

    /// "isp-a hears 198.51.100.0/24 MED 7 GSHUT", "isp-a loses 198.51.100.0/24".
    fn update(&self, peer: PeerId, body: &[u8]) -> Vec<String> {
        let context = UpdateContext { four_octet: true, external: true };
        let update = Update::parse(body, context).expect("an UPDATE");
        assert!(update.fault.is_none());
        let name = &self.names[&peer];
        let mut more = String::new();
        for attribute in update.attributes.filter_map(Result::ok) {
            match (attribute.code, attribute.value) {
                (MULTI_EXIT_DISC, [.., med]) => more += &format!(" MED {med}"),
                (COMMUNITIES, all) if all.chunks(4).any(|c| c == GRACEFUL_SHUTDOWN) => more += " GSHUT",
                _ => {}
            }
        }
        let announced = update.announced().map(|prefix| format!("{name} hears {prefix}{more}"));
        if let Some(family) = update.end_of_rib() {
            return vec![format!("End-of-RIB of {family:?} at {name}")];
        }
        let withdrawn = update.withdrawals().map(|prefix| format!("{name} loses {prefix}"));
        withdrawn.chain(announced).collect()
    }
}

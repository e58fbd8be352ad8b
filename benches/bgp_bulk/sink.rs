//! A fast sink: an ISP's router that takes everything, and knows at any time how many prefixes it has been told.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use announcerd::bgp::Families;
use announcerd::bgp::wire::capability::Capabilities;
use announcerd::bgp::wire::header::put_keepalive;
use announcerd::bgp::wire::open::Open;
use announcerd::demo::lab::{Doing, Host};
use announcerd::net::{Asn, RouterId};

/// What an ISP says to everyone: so nobody may use messages longer than the other speakers can.
pub fn open(asn: u32, router_id: &str) -> Vec<u8> {
    let capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: Some(Asn(asn)),
        ..Capabilities::default()
    };
    let router_id = RouterId(router_id.parse().unwrap());
    let mut octets = Vec::new();
    Open { asn: Asn(asn), hold_time: 180, router_id, capabilities }.put(&mut octets);
    put_keepalive(&mut octets);
    octets
}

/// The number in one of the benchmark's prefixes: 2001:db8:NNNN:NNNN::/64.
fn number(entry: &[u8]) -> Option<usize> {
    let octets = entry.get(5..9).filter(|_| entry.starts_with(&[64, 0x20, 0x01, 0x0d, 0xb8]))?;
    Some(u32::from_be_bytes(octets.try_into().ok()?) as usize)
}

#[derive(Default)]
struct Table {
    known: Vec<bool>,
    count: usize,
}

impl Table {
    fn set(&mut self, mut nlri: &[u8], known: bool) {
        while let Some(bits) = nlri.first() {
            let (entry, rest) = nlri.split_at(1 + usize::from(bits.div_ceil(8)));
            nlri = rest;
            let Some(known_now) = number(entry).and_then(|number| self.known.get_mut(number)) else {
                continue;
            };
            if *known_now != known {
                *known_now = known;
                self.count = if known { self.count + 1 } else { self.count - 1 };
            }
        }
    }

    /// MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760) of an UPDATE.
    fn update(&mut self, body: &[u8]) {
        let length = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
        let withdrawn = length(0);
        let mut at = 2 + withdrawn;
        let end = at + 2 + length(at);
        at += 2;
        while at < end {
            let extended = body[at] & 0x10 != 0;
            let (kind, len, start) = if extended {
                (body[at + 1], length(at + 2), at + 4)
            } else {
                (body[at + 1], body[at + 2].into(), at + 3)
            };
            at = start + len;
            let value = &body[start..at];
            match kind {
                14 => self.set(&value[5 + usize::from(value[3])..], true),
                15 => self.set(&value[3..], false),
                _ => {}
            }
        }
    }
}

/// How many prefixes, and since when.
type Count = (usize, Instant);

pub struct Sink {
    news: Arc<(Mutex<Count>, Condvar)>,
}

impl Sink {
    /// Listens on the host for one speaker; `most` is one more than the greatest number of a prefix.
    pub fn start(host: &Host, most: usize) -> Self {
        let listener = host.in_network(|| TcpListener::bind("[::]:179").doing("listening")).unwrap();
        let news = Arc::new((Mutex::new((usize::MAX, Instant::now())), Condvar::new()));
        let tell = Arc::clone(&news);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                // A speaker that fails tries again, or is killed at the end of its turn.
                let _ = serve(stream, most, &tell);
                if Arc::strong_count(&tell) == 1 {
                    return;
                }
            }
        });
        Sink { news }
    }

    /// When it had exactly so many prefixes; how many it has, if that takes too long.
    pub fn wait(&self, wanted: usize, limit: Duration) -> Result<Instant, usize> {
        let (count, changed) = &*self.news;
        let count = count.lock().unwrap();
        let (count, _) = changed.wait_timeout_while(count, limit, |(count, _)| *count != wanted).unwrap();
        if count.0 == wanted { Ok(count.1) } else { Err(count.0) }
    }
}

fn serve(mut stream: TcpStream, most: usize, news: &(Mutex<Count>, Condvar)) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(&open(64500, "203.0.113.1"))?;
    let mut table = Table { known: vec![false; most], count: 0 };
    let (mut buffer, mut filled) = (vec![0; 512 * 1024], 0);
    let (mut said, mut up) = (Instant::now(), false);
    let mut keepalive = Vec::new();
    put_keepalive(&mut keepalive);
    loop {
        if said.elapsed() > Duration::from_secs(20) {
            stream.write_all(&keepalive)?;
            said = Instant::now();
        }
        let count = match stream.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        filled += count;
        let (mut at, before) = (0, table.count);
        let mut rose = false;
        while let Some(header) = buffer[at..filled].get(..19) {
            let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
            if filled - at < length {
                break;
            }
            match header[18] {
                2 => table.update(&buffer[at + 19..at + length]),
                // The speaker's first KEEPALIVE: the session is up.
                4 => rose |= !std::mem::replace(&mut up, true),
                _ => {}
            }
            at += length;
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        if rose || table.count != before {
            *news.0.lock().unwrap() = (table.count, Instant::now());
            news.1.notify_all();
        }
    }
}

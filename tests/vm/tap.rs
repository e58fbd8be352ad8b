//! Counts the packets for the service on a host: in by its uplink, out by its tunnel, and back out by its uplink.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use announcerd::demo::lab::Host;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// PACKET_OUTGOING of packet(7).
const OUTGOING: u8 = 4;

/// What was seen.
#[derive(Default, Debug)]
pub struct Counts {
    /// Came in by the uplink.
    pub arrived: AtomicU64,
    /// Went out by any other device.
    pub carried: AtomicU64,
    /// Went out by the uplink again: thrown back.
    pub bounced: AtomicU64,
}

/// Runs until dropped.
pub struct Tap {
    pub counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Tap {
    /// On `host`, whose uplink is the device with that number; of packets to 198.51.100.0/24.
    pub fn start(host: &Host, uplink: usize) -> Self {
        let socket: OwnedFd = host
            .in_network(|| {
                let kind = SockType::Datagram;
                let all = SockProtocol::EthAll;
                Ok(socket(AddressFamily::Packet, kind, SockFlag::empty(), all).expect("a packet socket"))
            })
            .unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(50)).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).unwrap();
        let (counts, stop) = (Arc::new(Counts::default()), Arc::new(AtomicBool::new(false)));
        let (seen, told) = (Arc::clone(&counts), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 64];
            while !told.load(Ordering::Relaxed) {
                let Ok((len, Some(from))) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut packet) else {
                    continue;
                };
                // IPv4, to 198.51.100.0/24.
                if len.min(64) < 20 || packet[0] >> 4 != 4 || packet[16..19] != [198, 51, 100] {
                    continue;
                }
                let counter = match (from.ifindex() == uplink, from.pkttype() == OUTGOING) {
                    (true, false) => &seen.arrived,
                    (true, true) => &seen.bounced,
                    (false, true) => &seen.carried,
                    (false, false) => continue,
                };
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Tap { counts, stop, thread: Mutex::new(Some(thread)) }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.lock().unwrap().take() {
            let _ = thread.join();
        }
    }
}

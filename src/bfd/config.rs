//! What a session is configured with, every cross-check done.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// The slowest that a session may be before it is Up (RFC 5880 section 6.8.3), and what it is then.
pub const SLOW: Duration = Duration::from_secs(1);

/// What a session takes to come up at its slow start, beside a detection time. Longer: nobody is there.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// How far away the neighbour is: it decides port and TTL rule.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Hops {
    /// On our link (RFC 5881): port 3784, TTL 255 or nothing.
    Single,
    /// Routers may lie between (RFC 5883): port 4784.
    Multi {
        /// Packets with a lower TTL come from farther than the neighbour is (RFC 5082); 0: any.
        least_ttl: u8,
    },
}

impl Hops {
    /// The UDP port of the receiving end.
    pub fn port(self) -> u16 {
        match self {
            Hops::Single => 3784,
            Hops::Multi { .. } => 4784,
        }
    }

    /// The lowest TTL (hop limit) that is taken. RFC 5881 section 5: 255.
    pub fn least_ttl(self) -> u8 {
        match self {
            Hops::Single => 255,
            Hops::Multi { least_ttl } => least_ttl,
        }
    }

    /// True for multihop.
    pub fn is_multi(self) -> bool {
        matches!(self, Hops::Multi { .. })
    }
}

/// Between whom a session runs: there is one session for each.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Path {
    /// The neighbour's address.
    pub remote: IpAddr,
    /// Ours; absent: the kernel's choice.
    pub local: Option<IpAddr>,
    /// The device that the packets have to leave and come by; absent: the kernel's choice.
    pub device: Option<String>,
    /// How far.
    pub hops: Hops,
}

impl Path {
    /// True if a neighbour, and we, can tell a session on this path from one on that: by the address at either end, by the
    /// port, by the link. Two that are not apart are one session to the neighbour.
    pub fn is_apart(&self, other: &Path) -> bool {
        fn differ<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.zip(b).is_some_and(|(a, b)| a != b)
        }
        self.remote != other.remote
            || self.hops.is_multi() != other.hops.is_multi()
            || differ(self.local.as_ref(), other.local.as_ref())
            || differ(self.device.as_ref(), other.device.as_ref())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        if let Some(local) = self.local {
            write!(f, " from {local}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " on {device}")?;
        }
        if self.hops.is_multi() { f.write_str(" (multihop)") } else { Ok(()) }
    }
}

/// How packets are authenticated (RFC 5880 section 4.2 to 4.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AuthType {
    /// Simple Password.
    Simple,
    /// Keyed MD5.
    Md5,
    /// Meticulous Keyed MD5: a new sequence number in each packet.
    MeticulousMd5,
    /// Keyed SHA1.
    Sha1,
    /// Meticulous Keyed SHA1.
    MeticulousSha1,
}

impl AuthType {
    /// Auth Type.
    pub fn number(self) -> u8 {
        match self {
            AuthType::Simple => 1,
            AuthType::Md5 => 2,
            AuthType::MeticulousMd5 => 3,
            AuthType::Sha1 => 4,
            AuthType::MeticulousSha1 => 5,
        }
    }

    /// The longest key, in octets.
    pub fn longest_key(self) -> usize {
        match self {
            AuthType::Sha1 | AuthType::MeticulousSha1 => 20,
            _ => 16,
        }
    }

    /// True if each packet has a sequence number of its own.
    pub fn is_meticulous(self) -> bool {
        matches!(self, AuthType::MeticulousMd5 | AuthType::MeticulousSha1)
    }

    /// As the configuration calls it.
    pub fn word(self) -> &'static str {
        match self {
            AuthType::Simple => "simple",
            AuthType::Md5 => "keyed-md5",
            AuthType::MeticulousMd5 => "meticulous-keyed-md5",
            AuthType::Sha1 => "keyed-sha1",
            AuthType::MeticulousSha1 => "meticulous-keyed-sha1",
        }
    }
}

/// A key, and how it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Authentication {
    /// Auth Type.
    pub kind: AuthType,
    /// Auth Key ID.
    pub key_id: u8,
    /// 1 to [`AuthType::longest_key`] octets.
    pub key: Vec<u8>,
}

impl fmt::Debug for Authentication {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.kind.word(), self.key_id)
    }
}

/// One session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Between whom.
    pub path: Path,
    /// How often we want to send, and can take packets: bfd.DesiredMinTxInterval and bfd.RequiredMinRxInterval, while Up.
    pub interval: Duration,
    /// bfd.DetectMult: packets of ours in a row that may be lost before the neighbour gives us up.
    pub multiplier: u8,
    /// Wait for the neighbour to speak first (section 6.1).
    pub passive: bool,
    /// Absent: none.
    pub auth: Option<Authentication>,
}

impl SessionConfig {
    /// The detection time if the neighbour is configured alike.
    pub fn detection_time(&self) -> Duration {
        self.interval.saturating_mul(u32::from(self.multiplier))
    }

    /// How long a session may take to come up (again) before it is held against the neighbour.
    pub fn patience(&self) -> Duration {
        HANDSHAKE + self.detection_time()
    }
}

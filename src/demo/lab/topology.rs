//! The four hosts of the story, wired.
//!
//! ```text
//!  client 192.0.2.10 ── 192.0.2.1 ISP router ── 203.0.113.1/30 ── 203.0.113.2 standby
//!                                     └──────── 198.18.0.2/30 ─── 198.18.0.1 primary
//! ```
//!
//! 198.51.100.0/24 is the service: the primary announces it from afar, the standby when the primary is dead.

use std::net::Ipv4Addr;

use super::wire::{self, End};
use super::{Bird, Host, Result};
use crate::net::Prefix;

/// The client's own address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const ISP_TO_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The ISP router, as the standby's uplink.
pub const ISP_TO_STANDBY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// The standby.
pub const STANDBY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const ISP_TO_PRIMARY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The primary.
pub const PRIMARY: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// What the client talks to.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// The ISP router's BIRD. It prefers its customer's route to the one it hears from afar, as ISPs do.
pub const ISP_CONFIG: &str = r#"
log stderr all;
router id 203.0.113.1;
protocol device {}
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
template bgp customer {
    local as 64500;
    passive on;
    hold time 6;
    error wait time 1, 2;
    startup hold time 6;
}
protocol bgp from_standby from customer {
    neighbor 203.0.113.2 as 64501;
    ipv4 { import filter { if net = 198.51.100.0/24 then { bgp_local_pref = 200; accept; } reject; }; export none; };
}
protocol bgp from_primary from customer {
    neighbor 198.18.0.1 as 64501;
    ipv4 { import filter { if net = 198.51.100.0/24 then { bgp_local_pref = 100; accept; } reject; }; export none; };
}
"#;

/// The primary's BIRD: it announces as long as it lives.
pub const PRIMARY_CONFIG: &str = r#"
log stderr all;
router id 198.18.0.1;
protocol device {}
protocol static service { ipv4; route 198.51.100.0/24 blackhole; }
protocol bgp isp {
    local as 64501;
    neighbor 198.18.0.2 as 64500;
    hold time 6;
    connect retry time 1;
    connect delay time 1;
    error wait time 1, 2;
    ipv4 { import none; export where source = RTS_STATIC; };
}
"#;

/// The lab.
#[derive(Debug)]
pub struct Topology {
    /// Wants the service.
    pub client: Host,
    /// The ISP's router.
    pub isp: Host,
    /// Far away; serves when all is well.
    pub primary: Host,
    /// Serves when the primary is dead.
    pub standby: Host,
}

/// The prefix that the story is about.
pub fn prefix() -> Prefix {
    Prefix::containing(SERVICE.into(), 24).expect("24 bits fit")
}

impl Topology {
    /// Makes the hosts and the cables; no daemon runs yet. The folders of `standby_private` are private to the
    /// standby, besides the usual ones.
    pub fn build(standby_private: &[&str]) -> Result<Self> {
        let lab = Topology {
            client: Host::new("client", &[])?,
            isp: Host::new("isp", &[])?,
            primary: Host::new("primary", &[])?,
            standby: Host::new("standby", standby_private)?,
        };
        let isp = |interface, address| End { host: &lab.isp, interface, address };
        let far = |host, address| End { host, interface: "uplink", address };
        wire::connect(isp("client", ISP_TO_CLIENT), far(&lab.client, CLIENT), 24)?;
        wire::connect(isp("standby", ISP_TO_STANDBY), far(&lab.standby, STANDBY), 30)?;
        wire::connect(isp("primary", ISP_TO_PRIMARY), far(&lab.primary, PRIMARY), 30)?;
        wire::add_default_route(&lab.client, ISP_TO_CLIENT)?;
        wire::add_default_route(&lab.standby, ISP_TO_STANDBY)?;
        wire::add_default_route(&lab.primary, ISP_TO_PRIMARY)?;
        wire::add_address(&lab.primary, "lo", SERVICE, 32)?;
        wire::cuttable(&lab.isp)?;
        lab.isp.sysctl("net/ipv4/ip_forward", "1")?;
        for host in [&lab.client, &lab.isp, &lab.primary, &lab.standby] {
            // A new network takes these from the machine; the lab must not depend on that.
            host.sysctl("net/ipv4/conf/all/rp_filter", "0")?;
            host.sysctl("net/ipv4/ping_group_range", "0 0")?;
        }
        Ok(lab)
    }

    /// Starts the ISP's BIRD.
    pub fn start_isp(&self) -> Result<Bird> {
        Bird::start(&self.isp, ISP_CONFIG)
    }

    /// Starts the primary's BIRD.
    pub fn start_primary(&self) -> Result<Bird> {
        Bird::start(&self.primary, PRIMARY_CONFIG)
    }

    /// The primary's site falls silent: nothing that it sends arrives any more, and no link goes down.
    pub fn primary_dies(&self) -> Result<()> {
        wire::cut(&self.isp, "primary")
    }

    /// The primary's site is back.
    pub fn primary_returns(&self) -> Result<()> {
        wire::mend(&self.isp, "primary")
    }

    /// The standby alone is cut off: it hears nobody any more.
    pub fn standby_isolated(&self) -> Result<()> {
        wire::cut(&self.isp, "standby")
    }

    /// The standby is back.
    pub fn standby_rejoins(&self) -> Result<()> {
        wire::mend(&self.isp, "standby")
    }
}

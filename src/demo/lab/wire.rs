//! Cables, addresses and routes by rtnetlink, and the silent cut.

use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt;
use netlink_packet_route::link::{InfoData, InfoVeth, LinkMessage};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::{Doing, Host, Result};
use crate::net::Prefix;

/// Where [`cuttable`] puts the lookup of local addresses, so that a cut may come before it.
const LOCAL_PRIORITY: u32 = 100;
/// The kernel's table of local addresses.
const LOCAL_TABLE: u32 = 255;

/// One end of a cable: an interface to be made.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// On this host.
    pub host: &'a Host,
    /// With this name.
    pub interface: &'a str,
    /// And this address.
    pub address: Ipv4Addr,
}

/// Runs netlink requests in the host's network.
pub fn netlink<T: Send>(
    host: &Host,
    what: &str,
    f: impl AsyncFnOnce(Handle) -> std::result::Result<T, Error> + Send,
) -> Result<T> {
    let doing = || format!("{what} on {}", host.name());
    host.in_network(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().doing(doing())?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().doing(doing())?;
            tokio::spawn(connection);
            f(handle).await.doing(doing())
        })
    })
}

/// The number of an interface.
async fn index_of(handle: &Handle, interface: &str) -> std::result::Result<u32, Error> {
    let mut links = handle.link().get().match_name(interface.to_owned()).execute();
    links.try_next().await?.map(|link| link.header.index).ok_or(Error::RequestFailed)
}

/// Connects two hosts by a veth pair with addresses of one prefix of `len` bits, both ends up.
pub fn connect(a: End<'_>, b: End<'_>, len: u8) -> Result<()> {
    // The kernel makes the other end where it belongs: the two names need not differ.
    let init = b.host.init().as_raw() as u32;
    let peer = LinkMessageBuilder::<LinkUnspec>::new().name(b.interface).setns_by_pid(init).build();
    let veth = LinkMessageBuilder::<LinkVeth>::new(a.interface, b.interface)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .build();
    netlink(a.host, "making a veth pair", async |h| h.link().add(veth).execute().await)?;
    for end in [a, b] {
        add_address(end.host, end.interface, end.address, len)?;
        set_link_up(end.host, end.interface)?;
    }
    Ok(())
}

/// Adds an address to an interface.
pub fn add_address(host: &Host, interface: &str, address: Ipv4Addr, len: u8) -> Result<()> {
    netlink(host, &format!("adding {address} to {interface}"), async |h| {
        let index = index_of(&h, interface).await?;
        h.address().add(index, IpAddr::V4(address), len).execute().await
    })
}

/// Sets an interface up.
pub fn set_link_up(host: &Host, interface: &str) -> Result<()> {
    set_link(host, interface, |link| link.up().build())
}

/// Sets an interface down: the other end of its cable sees the carrier go.
pub fn set_link_down(host: &Host, interface: &str) -> Result<()> {
    set_link(host, interface, |link| link.down().build())
}

fn set_link(
    host: &Host,
    interface: &str,
    change: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessage + Send,
) -> Result<()> {
    netlink(host, &format!("setting {interface}"), async |h| {
        let index = index_of(&h, interface).await?;
        h.link().set(change(LinkMessageBuilder::<LinkUnspec>::new().index(index))).execute().await
    })
}

/// Adds the default route.
pub fn add_default_route(host: &Host, via: Ipv4Addr) -> Result<()> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(via).build();
    netlink(host, "adding the default route", async |h| h.route().add(route).execute().await)
}

/// Adds a route out of an interface as `ip route add PREFIX dev INTERFACE` does; with `protocol` as its mark.
pub fn add_device_route(host: &Host, to: Prefix, interface: &str, protocol: u8) -> Result<()> {
    netlink(host, &format!("adding {to} dev {interface}"), async |h| {
        let index = index_of(&h, interface).await?;
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(to.address(), to.len())
            .map_err(|_| Error::RequestFailed)?
            .output_interface(index)
            .scope(netlink_packet_route::route::RouteScope::Link)
            .protocol(protocol.into())
            .build();
        h.route().add(route).execute().await
    })
}

/// Makes [`cut`] possible on a host: the lookup of local addresses, always first otherwise, moves behind the cut.
pub fn cuttable(host: &Host) -> Result<()> {
    netlink(host, "moving the rule of the local table", async |h| {
        let mut moved = h.rule().add().v4().priority(LOCAL_PRIORITY).table_id(LOCAL_TABLE);
        moved.message_mut().header.action = RuleAction::ToTable;
        moved.execute().await?;
        let mut first = RuleMessage::default();
        first.header.family = netlink_packet_route::AddressFamily::Inet;
        first.header.action = RuleAction::ToTable;
        first.attributes.push(RuleAttribute::Priority(0));
        first.attributes.push(RuleAttribute::Table(LOCAL_TABLE));
        h.rule().del(first).execute().await
    })
}

/// Silently drops everything that comes in by `interface`, ARP requests included: no link goes down, nobody is
/// told. To the other end the host is dead, and to this host the other end is.
pub fn cut(host: &Host, interface: &str) -> Result<()> {
    netlink(host, &format!("cutting {interface}"), async |h| {
        let rule = h.rule().add().v4().priority(0).input_interface(interface).action(RuleAction::Blackhole);
        rule.execute().await
    })
}

/// Undoes [`cut`].
pub fn mend(host: &Host, interface: &str) -> Result<()> {
    netlink(host, &format!("mending {interface}"), async |h| {
        let mut rule =
            h.rule().add().v4().priority(0).input_interface(interface).action(RuleAction::Blackhole);
        let message = rule.message_mut().clone();
        h.rule().del(message).execute().await
    })
}

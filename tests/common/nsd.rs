//! NSD, an authoritative name server from Debian, for tests: example.com, and a zone whose file is not there.

#![allow(dead_code, reason = "every test binary uses a part of it")]

/// Its configuration; `folder` holds the zone ([`ZONE`], as `example.com.zone`) and may be written to.
pub fn config(folder: &str, addresses: &[&str]) -> String {
    let addresses: String = addresses.iter().map(|a| format!("  ip-address: {a}\n")).collect();
    format!(
        "server:\n  server-count: 1\n{addresses}  username: \"\"\n  zonesdir: \"{folder}\"\n  database: \"\"\n  pidfile: \"\"\n  \
         xfrdir: \"{folder}\"\n  xfrdfile: \"\"\n  zonelistfile: \"{folder}/zone.list\"\n  rrl-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: example.com\n  zonefile: example.com.zone\n\
         zone:\n  name: broken.example\n  zonefile: absent.zone\n"
    )
}

/// example.com, with a name of each type, and `big`, whose answer no datagram holds.
pub fn zone() -> String {
    let big: String =
        (0..40).map(|n| format!("big TXT \"number {n:02} of many that are too much\"\n")).collect();
    format!(
        "$ORIGIN example.com.\n$TTL 60\n\
         @ SOA ns1 admin 7 3600 600 86400 300\n@ NS ns1\n@ MX 10 mail\n\
         @ TXT \"v=spf1 \" \"-all\"\n@ CAA 0 issue \"ca.example.net\"\n\
         ns1 A 192.0.2.53\nmail A 192.0.2.25\n\
         www A 192.0.2.1\nwww A 192.0.2.2\nwww AAAA 2001:db8::80\n\
         alias CNAME www\n_sip._udp SRV 0 5 5060 mail\n1.in PTR www\nodd TYPE65 \\# 3 000100\n{big}"
    )
}

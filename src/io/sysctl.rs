//! Kernel parameters that contradict the tunnels: seen at start, at a reload and by `--check`, and warned of.

use std::fs;

use crate::config::model::{Config, Instance, Route, Tunnel};
use crate::net::Family;

/// One sentence for each contradiction, with its mend. `read` gives the value of a parameter by its path under
/// /proc/sys; None if there is none.
///
/// - ip_forward: packets that arrive here are carried on through a tunnel only if the kernel forwards.
/// - rp_filter: a strict one drops what comes out of a tunnel unless the way back to its sender leads into it.
pub fn warnings(config: &Config, read: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let tunnels: Vec<&Tunnel> = config.instances.iter().flat_map(|i| &i.tunnels).collect();
    let is = |path: &str, value: &str| read(path).is_some_and(|found| found.trim() == value);
    let mut words = Vec::new();
    let families =
        [(Family::V4, "net.ipv4.ip_forward", "IPv4"), (Family::V6, "net.ipv6.conf.all.forwarding", "IPv6")];
    for (family, name, says) in families {
        let forwards = config.instances.iter().any(|i| leads_into_a_tunnel(i, &tunnels, family));
        if forwards && is(&path(name), "0") {
            words.push(format!(
                "{name} is 0: {says} packets that arrive for a tunnel are dropped, not carried on; sysctl -w {name}=1, and in /etc/sysctl.d"
            ));
        }
    }
    for tunnel in tunnels.iter().filter(|t| t.mode.carries(Family::V4)) {
        if let Some(name) = strict(&tunnel.name, &is) {
            words.push(format!(
                "{name} is 1 (strict): what comes out of {} is dropped unless the way back to its sender leads into it; sysctl -w {name}=2 (loose)",
                tunnel.name
            ));
        }
    }
    words
}

/// The parameters of this machine.
pub fn of_this_machine(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok()
}

fn path(name: &str) -> String {
    name.replace('.', "/")
}

fn leads_into_a_tunnel(instance: &Instance, tunnels: &[&Tunnel], family: Family) -> bool {
    let is_tunnel = |dev: &Option<String>| tunnels.iter().any(|t| Some(&t.name) == dev.as_ref());
    let leads = |r: &Route| {
        let hops = r.nexthops.iter().flat_map(|n| &n.hops);
        r.to.family() == family && (is_tunnel(&r.dev) || hops.map(|hop| &hop.dev).any(is_tunnel))
    };
    instance.routes.iter().any(leads)
}

/// The larger of "all" and the device's own counts; a device that is not there yet begins with "default".
fn strict(dev: &str, is: &dyn Fn(&str, &str) -> bool) -> Option<String> {
    let of = |who: &str| format!("net/ipv4/conf/{who}/rp_filter");
    let own = of(dev);
    let loose = is(&of("all"), "2") || is(&own, "2");
    let there = ["0", "1", "2"].iter().any(|value| is(&own, value));
    let name = match there {
        _ if loose => return None,
        _ if is(&of("all"), "1") => "all",
        true if is(&own, "1") => dev,
        false if is(&of("default"), "1") => "default",
        _ => return None,
    };
    Some(format!("net.ipv4.conf.{name}.rp_filter"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Env, ScriptVerdict, parse};

    fn of(set: &[(&str, &str)]) -> Vec<String> {
        let env = Env {
            hostname: "here".into(),
            inspect_script: &|_| ScriptVerdict::Ok,
            read_secret: &|_| Err(String::new()),
            read_prefixes: &|_| Err(String::new()),
        };
        let source = "[[instance]]\nname = \"i\"\n[[instance.tunnel]]\nname = \"gre1\"\nmode = \"gre\"\n\
            local = \"203.0.113.2\"\nremote = \"198.18.0.1\"\n[[instance.route]]\nto = \"198.51.100.0/24\"\ndev = \"gre1\"\n";
        let (config, _) = parse("test.toml", source, &env).unwrap_or_else(|e| panic!("{e}"));
        let found = |path: &str| {
            let value = set.iter().find(|(key, _)| path.ends_with(key)).map(|(_, value)| *value);
            Some(format!("{}\n", value.unwrap_or("0")))
        };
        warnings(&config, &found)
    }

    #[test]
    fn parameters_that_contradict_the_tunnels_are_named() {
        let forwarding = ("ipv4/ip_forward", "1");
        assert!(of(&[])[0].contains("net.ipv4.ip_forward is 0"), "{:?}", of(&[]));
        assert!(of(&[forwarding]).is_empty());
        let strict = of(&[forwarding, ("all/rp_filter", "1")]);
        assert!(strict[0].contains("net.ipv4.conf.all.rp_filter is 1"), "{strict:?}");
        let own = of(&[forwarding, ("gre1/rp_filter", "1")]);
        assert!(own[0].contains("net.ipv4.conf.gre1.rp_filter=2"), "{own:?}");
        assert!(of(&[forwarding, ("all/rp_filter", "1"), ("gre1/rp_filter", "2")]).is_empty());
    }
}

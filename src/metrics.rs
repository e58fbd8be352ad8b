//! `/metrics`: the copy of what is counted ([`Measures`]) in OpenMetrics text.
//!
//! Names begin with `announcerd_` and end with their unit. Labels are names from the configuration and words from fixed
//! lists: nothing that a peer, a probe's answer or time can multiply.

mod bfd;

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use crate::announcer::journal::State;
use crate::announcer::measure::{BOUNDS_US, Histogram, Measures};
use crate::bgp::counters::MessageCounts;

/// The `Content-Type` of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All states of an instance, for a series each.
const STATES: [State; 5] = [State::Init, State::Backup, State::Master, State::Fault, State::Stop];

/// How a script can end, for a series each; as [`Tally::scripts`](crate::announcer::measure::Tally::scripts) has it.
const SCRIPT_ENDS: [&str; 4] = ["ok", "failed", "killed", "not_started"];

/// The text of a scrape.
pub fn render(measures: Measures) -> String {
    let mut registry = Registry::with_prefix("announcerd");
    registry.register_collector(Box::new(Scrape(measures)));
    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => text,
        // Writing to memory does not fail; what it might leave must not look whole.
        Err(fmt::Error) => String::new(),
    }
}

#[derive(Debug)]
struct Scrape(Measures);

/// Labels of one series.
type Labels<'a> = &'a [(&'a str, &'a str)];

/// One family being written.
struct Out<'a, 'e> {
    encoder: &'a mut DescriptorEncoder<'e>,
}

impl Out<'_, '_> {
    fn counters<'s>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Vec<(&'s str, &'s str)>, u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            let labels = labels.as_slice();
            family.encode_family(&labels)?.encode_counter(&value, None::<&Exemplar<NoLabelSet, u64>>)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        family.encode_counter(&value, None::<&Exemplar<NoLabelSet, u64>>)
    }

    fn gauges<'s>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        series: impl Iterator<Item = (Vec<(&'s str, &'s str)>, f64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in series {
            let labels = labels.as_slice();
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn histograms<'s>(
        &mut self,
        name: &str,
        help: &str,
        series: impl Iterator<Item = (Vec<(&'s str, &'s str)>, impl Into<Buckets<'s>>)>,
    ) -> fmt::Result {
        let mut family =
            self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (labels, h) in series {
            let (labels, h): (Labels<'_>, Buckets<'_>) = (labels.as_slice(), h.into());
            let bounds = h.bounds_us.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(h.counts.iter().copied()).collect();
            let (sum, count) = (h.sum_us as f64 / 1e6, h.counts.iter().sum());
            let exemplars = None::<&std::collections::HashMap<usize, Exemplar<NoLabelSet, f64>>>;
            family.encode_family(&labels)?.encode_histogram(sum, count, &buckets, exemplars)?;
        }
        Ok(())
    }
}

/// A histogram to be written: upper bounds, and the count of each bucket alone, with that of what is above them all last.
struct Buckets<'a> {
    bounds_us: &'a [u64],
    counts: &'a [u64],
    sum_us: u64,
}

impl<'a> From<&'a Histogram> for Buckets<'a> {
    fn from(h: &'a Histogram) -> Self {
        Buckets { bounds_us: &BOUNDS_US, counts: &h.counts, sum_us: h.sum_us }
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Out { encoder: &mut encoder };
        self.node(&mut out)?;
        self.instances(&mut out)?;
        self.checks(&mut out)?;
        self.sessions(&mut out)?;
        bfd::write(&self.0.status.bfd, &mut out)?;
        self.kernel(&mut out)?;
        self.scripts(&mut out)?;
        self.hooks(&mut out)
    }
}

impl Scrape {
    fn node(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let (m, node) = (&self.0, &self.0.status.node);
        let build = vec![("version", node.version.as_str()), ("node", node.name.as_str())];
        out.gauges(
            "build_info",
            "The version that runs, and the node's name",
            None,
            [(build, 1.0)].into_iter(),
        )?;
        out.gauge("uptime", "Since the start", Some(&Unit::Seconds), m.uptime.as_secs_f64())?;
        out.gauge("maintenance", "1 while everything is drained", None, flag(m.maintenance))?;
        out.counter(
            "absences",
            "Times that the daemon found that it had not run: a suspended machine, no CPU time",
            m.tally.absences,
        )?;
        out.histograms(
            "timer_lateness",
            "How late the driver acted on its timers",
            [(Vec::new(), &m.lateness)].into_iter(),
        )
    }

    fn instances(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let instances = &self.0.status.instances;
        let of_each = |value: fn(&crate::status::InstanceStatus) -> Option<f64>| {
            instances.iter().filter_map(move |i| Some((vec![("name", i.name.as_str())], value(i)?)))
        };
        out.gauges(
            "instance_state",
            "1 for the state that an instance is in",
            None,
            instances.iter().flat_map(|i| {
                STATES
                    .iter()
                    .map(|s| (vec![("name", i.name.as_str()), ("state", s.word())], flag(*s == i.state)))
            }),
        )?;
        out.gauges(
            "instance_forced",
            "1 while an operator forces a state",
            None,
            of_each(|i| Some(flag(i.forced.is_some()))),
        )?;
        out.gauges("instance_drill", "1 while a drill runs", None, of_each(|i| Some(flag(i.drill))))?;
        out.gauges(
            "instance_flaps",
            "Flaps that lengthen the failback delay",
            None,
            of_each(|i| Some(f64::from(i.flaps))),
        )?;
        out.gauges(
            "primary_down",
            "1 while the primary is down",
            None,
            of_each(|i| i.primary.as_deref().map(|p| flag(p == "down"))),
        )?;
        out.gauges(
            "require_met",
            "1 while what the instance requires is met; 0: it would not take over",
            None,
            of_each(|i| i.require.as_deref().map(|r| flag(r == "met"))),
        )?;
        let tally = &self.0.tally;
        let zeros = instances.iter().flat_map(|i| STATES.map(|to| ((i.name.as_str(), to.word()), 0)));
        let mut transitions: BTreeMap<(&str, &str), u64> = zeros.collect();
        transitions.extend(tally.transitions.iter().map(|((name, to), n)| ((&**name, to.word()), *n)));
        out.counters(
            "transitions",
            "Changes of state, by the state that they led to",
            transitions.into_iter().map(|((name, to), n)| (vec![("name", name), ("to", to)], n)),
        )?;
        out.histograms(
            "detection",
            "From the first bad probe to the decision",
            [(Vec::new(), &tally.detection)].into_iter(),
        )?;
        out.histograms(
            "reaction",
            "From the decision to each step of it: the kernel's word, the UPDATE in the socket and at the peer, the scripts",
            tally.reaction.iter().map(|((to, step), h)| (vec![("to", to.word()), ("step", step.word())], h)),
        )
    }

    fn checks(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let tallies = &self.0.checks;
        out.counters(
            "check_results",
            "Results of probes; blind: it could not be made, or its answer not be seen",
            tallies.iter().flat_map(|(name, t)| {
                let results = [("success", t.successes), ("failure", t.failures), ("blind", t.blind)];
                results.map(|(word, n)| (vec![("check", &**name), ("result", word)], n))
            }),
        )?;
        out.gauges(
            "check_verdict",
            "1 for the verdict of a check",
            None,
            self.0.status.checks.iter().flat_map(|c| {
                ["up", "down", "unknown"].map(|verdict| {
                    let labels =
                        vec![("check", c.name.as_str()), ("type", c.kind.as_str()), ("verdict", verdict)];
                    (labels, flag(c.verdict == verdict))
                })
            }),
        )?;
        out.histograms(
            "probe_rtt",
            "Round-trip times of good answers",
            tallies
                .iter()
                .filter(|(_, t)| t.rtt.count() > 0)
                .map(|(name, t)| (vec![("check", &**name)], &t.rtt)),
        )
    }

    fn sessions(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let status = &self.0.status;
        let up = |state: &str| flag(state == "Established" || state == "Up");
        out.gauges(
            "bgp_session_up",
            "1 while the session is Established",
            None,
            status.bgp.iter().map(|p| (vec![("peer", p.name.as_str())], up(&p.state))),
        )?;
        out.gauges(
            "bgp_advertised_prefixes",
            "Prefixes that the peer has been told",
            None,
            status.bgp.iter().map(|p| (vec![("peer", p.name.as_str())], p.advertised as f64)),
        )?;
        out.counters(
            "bgp_messages",
            "BGP messages",
            self.0.bgp.iter().flat_map(|(name, c)| {
                let both = [("sent", c.sent), ("received", c.received)];
                both.into_iter().flat_map(move |(direction, counts)| {
                    by_type(counts).map(|(kind, n)| {
                        (vec![("peer", name.as_str()), ("direction", direction), ("type", kind)], n)
                    })
                })
            }),
        )?;
        out.counters(
            "bgp_sessions_established",
            "Sessions that reached Established",
            self.0.bgp.iter().map(|(name, c)| (vec![("peer", name.as_str())], c.established)),
        )?;
        out.counters(
            "bgp_update_faults",
            "UPDATEs that RFC 7606 had to mend",
            self.0.bgp.iter().map(|(name, c)| (vec![("peer", name.as_str())], c.faults)),
        )
    }

    fn kernel(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let (tally, census) = (&self.0.tally, &self.0.kernel);
        out.gauges(
            "kernel_objects",
            "Routes, addresses and the like: wanted; wanted and missing; refused by the kernel; there and to go",
            None,
            [
                ("wanted", census.wanted),
                ("missing", census.missing),
                ("refused", census.refused),
                ("leaving", census.leaving),
            ]
            .into_iter()
            .map(|(what, n)| (vec![("what", what)], n as f64)),
        )?;
        out.counters(
            "netlink_operations",
            "Operations given to the kernel",
            tally.kernel_ops.iter().map(|((verb, kind), n)| (vec![("verb", *verb), ("kind", *kind)], *n)),
        )?;
        out.counter(
            "netlink_errors",
            "Operations that the kernel refused or did not answer",
            tally.kernel_errors,
        )?;
        out.counter("netlink_dumps", "Readings of the kernel's routes", tally.dumps)?;
        out.counter("netlink_dump_failures", "Readings that failed", tally.dump_failures)
    }

    /// From 0 on, or the first failure would be no increase to Prometheus. Of an instance that has gone, what it had.
    fn scripts(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let instances = self.0.status.instances.iter().map(|i| i.name.as_str());
        let zeros = instances.flat_map(|name| SCRIPT_ENDS.map(|end| ((name, end), 0)));
        let mut runs: BTreeMap<(&str, &str), u64> = zeros.collect();
        runs.extend(self.0.tally.scripts.iter().map(|((name, end), n)| ((&**name, *end), *n)));
        let series = runs.into_iter().map(|((name, end), n)| (vec![("name", name), ("result", end)], n));
        out.counters("script_runs", "Notify scripts that ended, or did not start", series)
    }

    fn hooks(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let results = self.0.hooks.iter().flat_map(|(name, t)| {
            [("delivered", t.delivered), ("failed", t.failed), ("dropped", t.dropped)]
                .map(|(result, n)| (vec![("name", &**name), ("result", result)], n))
        });
        out.counters(
            "notify_url_posts",
            "Posts to notify_url: delivered, failed tries, and transitions given up",
            results,
        )?;
        let waiting = self.0.hooks.iter().map(|(name, t)| (vec![("name", &**name)], t.waiting as f64));
        out.gauges("notify_url_waiting", "Transitions that notify_url has not been told yet", None, waiting)
    }
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

fn by_type(counts: MessageCounts) -> [(&'static str, u64); 5] {
    let MessageCounts { open, update, notification, keepalive, route_refresh } = counts;
    [
        ("open", open),
        ("update", update),
        ("notification", notification),
        ("keepalive", keepalive),
        ("route_refresh", route_refresh),
    ]
}

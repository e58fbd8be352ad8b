//! BFD sessions: what the core knows of them, and what their own thread has counted.

use std::fmt;

use prometheus_client::registry::Unit;

use super::{Buckets, Out, flag};
use crate::status::{BfdDetail, BfdStatus, HistogramStatus};

impl<'a> From<&'a HistogramStatus> for Buckets<'a> {
    fn from(h: &'a HistogramStatus) -> Self {
        Buckets { bounds_us: &h.bounds_us, counts: &h.counts, sum_us: h.sum_us }
    }
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

fn session(row: &BfdStatus) -> Labels<'_> {
    vec![("session", row.name.as_str())]
}

/// A count of each session, with one more label.
fn counted<'a>(
    rows: &'a [BfdStatus],
    label: &'static str,
    counts: impl Fn(&BfdDetail) -> Vec<(&'static str, u64)> + 'a,
) -> impl Iterator<Item = (Labels<'a>, u64)> {
    let details = rows.iter().filter_map(|row| Some((row, row.detail.as_ref()?)));
    details.flat_map(move |(row, detail)| {
        let each = counts(detail).into_iter();
        each.map(move |(value, n)| ([session(row), vec![(label, value)]].concat(), n)).collect::<Vec<_>>()
    })
}

/// A duration of each session; none: no series.
fn seconds<'a>(
    rows: &'a [BfdStatus],
    of: impl Fn(&BfdDetail) -> Option<u64> + 'a,
) -> impl Iterator<Item = (Labels<'a>, f64)> {
    rows.iter().filter_map(move |row| Some((session(row), of(row.detail.as_ref()?)? as f64 / 1e6)))
}

fn spread<'a>(
    rows: &'a [BfdStatus],
    of: impl Fn(&'a BfdDetail) -> &'a HistogramStatus + 'a,
) -> impl Iterator<Item = (Labels<'a>, &'a HistogramStatus)> {
    rows.iter().filter_map(move |row| Some((session(row), of(row.detail.as_ref()?))))
}

/// Writes them all.
pub(super) fn write(rows: &[BfdStatus], out: &mut Out<'_, '_>) -> fmt::Result {
    let up = rows.iter().map(|row| (session(row), flag(row.state == "Up")));
    out.gauges("bfd_session_up", "1 while the BFD session is Up", None, up)?;
    let why =
        rows.iter().map(|row| ([session(row), vec![("diagnostic", row.diagnostic.as_str())]].concat(), 1.0));
    out.gauges(
        "bfd_session_diagnostic",
        "Why the session last changed, in the words of RFC 5880",
        None,
        why,
    )?;
    out.counters(
        "bfd_packets",
        "BFD packets sent; received; for the session, and discarded",
        counted(rows, "result", |d| {
            vec![("sent", d.sent), ("received", d.received), ("discarded", d.discarded)]
        }),
    )?;
    out.counters(
        "bfd_transitions",
        "Times that the session came Up; left Up; and that a silence was forgiven since we ourselves had not run or had no room",
        counted(rows, "to", |d| vec![("up", d.up), ("down", d.down), ("forgiven", d.forgiven)]),
    )?;
    let unit = Some(&Unit::Seconds);
    out.gauges(
        "bfd_tx_interval",
        "Between our packets, as negotiated",
        unit,
        seconds(rows, |d| d.tx_interval_us),
    )?;
    let rx = seconds(rows, |d| Some(d.rx_interval_us));
    out.gauges("bfd_rx_interval", "Between the neighbour's packets, as negotiated", unit, rx)?;
    let detection = seconds(rows, |d| Some(d.detection_time_us));
    out.gauges("bfd_detection_time", "Silence of this length is Down", unit, detection)?;
    out.histograms(
        "bfd_transmit_lateness",
        "How late our periodic packets left",
        spread(rows, |d| &d.lateness),
    )?;
    out.histograms(
        "bfd_receive_jitter",
        "By how much gaps between the neighbour's packets were longer than agreed",
        spread(rows, |d| &d.jitter),
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::super::render;
    use super::*;
    use crate::announcer::{Announcer, Legacy};
    use crate::bfd::histogram::Histogram;
    use crate::config::{Env, ScriptVerdict, parse};
    use crate::status::WallClock;
    use crate::time::Time;

    const CONFIG: &str = "[[check]]\nname = \"gw\"\ntype = \"bfd\"\nhost = \"192.0.2.1\"";

    fn histogram(us: &[u64]) -> HistogramStatus {
        let mut h = Histogram::default();
        us.iter().for_each(|us| h.record(Duration::from_micros(*us)));
        HistogramStatus::new(&h)
    }

    fn detail() -> BfdDetail {
        BfdDetail {
            local_discriminator: 1,
            remote_discriminator: 2,
            tx_interval_us: None,
            rx_interval_us: 300_000,
            detection_time_us: 900_000,
            multiplier: 3,
            remote_multiplier: 3,
            polling: false,
            remote_diagnostic: String::new(),
            sent: 10,
            received: 9,
            discarded: 1,
            last_discard: None,
            up: 2,
            down: 1,
            forgiven: 0,
            lateness: histogram(&[40, 60]),
            jitter: histogram(&[2_000_000]),
        }
    }

    #[test]
    fn a_session_is_shown_with_what_its_thread_has_counted() {
        let env = Env {
            hostname: "host".into(),
            inspect_script: &|_| ScriptVerdict::Ok,
            read_secret: &|_| Err("there is none".into()),
            read_prefixes: &|_| Err("there is none".into()),
        };
        let (config, _) = parse("test.toml", CONFIG, &env).unwrap_or_else(|e| panic!("{e}"));
        let mut core = Announcer::new(config, &Legacy::default(), Time::ZERO);
        while core.poll_effect().is_some() {}
        let clock = WallClock { at: Time::ZERO, wall: SystemTime::UNIX_EPOCH };
        let mut measures = core.measure(Time::ZERO, &clock);
        let text = render(measures.clone());
        assert!(text.contains("announcerd_bfd_session_up{session=\"192.0.2.1\"} 0.0"), "{text}");
        assert!(!text.contains("bfd_packets_total{"), "the thread has not reported yet");

        measures.status.bfd[0].detail = Some(detail());
        let text = render(measures);
        for line in [
            "bfd_packets_total{session=\"192.0.2.1\",result=\"received\"} 9",
            "bfd_transitions_total{session=\"192.0.2.1\",to=\"up\"} 2",
            "bfd_session_diagnostic{session=\"192.0.2.1\",diagnostic=\"No Diagnostic\"} 1.0",
            "bfd_detection_time_seconds{session=\"192.0.2.1\"} 0.9",
            "bfd_transmit_lateness_seconds_bucket{le=\"0.00005\",session=\"192.0.2.1\"} 1",
            "bfd_transmit_lateness_seconds_count{session=\"192.0.2.1\"} 2",
            "bfd_receive_jitter_seconds_bucket{le=\"1.0\",session=\"192.0.2.1\"} 0",
            "bfd_receive_jitter_seconds_bucket{le=\"+Inf\",session=\"192.0.2.1\"} 1",
        ] {
            assert!(text.contains(&format!("announcerd_{line}\n")), "no {line} in\n{text}");
        }
        assert!(!text.contains("bfd_tx_interval_seconds{"), "the neighbour wants no packets");
    }
}

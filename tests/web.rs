//! The HTTP edge over real sockets, with a driver that only answers; and the text of a scrape.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use announcerd::announcer::event::{Dump, Event, Outcome};
use announcerd::announcer::measure::Measures;
use announcerd::announcer::{Announcer, Effect, Legacy};
use announcerd::config::{Env, ScriptVerdict, parse};
use announcerd::io::web::{Answer, Page, Web};
use announcerd::metrics;
use announcerd::status::{BfdStatus, BgpStatus, WallClock};
use announcerd::time::Time;

const LONG: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
[node]
name = "hk-\"1\""
[[check]]
name = "ping"
type = "ping"
host = "198.18.0.1"
[[check]]
name = "uplink"
type = "ping"
host = "203.0.113.1"
[[instance]]
name = "mainland"
primary = { checks = ["ping"] }
require = { checks = ["uplink"] }
[[instance.route]]
to = "198.51.100.0/24"
dev = "lo"
"#;

/// A core that has lived for a moment: everything answered, and one probe of the primary failed.
fn measures() -> Measures {
    let env = Env {
        hostname: "host".into(),
        inspect_script: &|_| ScriptVerdict::Ok,
        read_secret: &|_| Err("there is none".into()),
        read_prefixes: &|_| Err("there is none".into()),
    };
    let (config, _) = parse("test.toml", CONFIG, &env).unwrap_or_else(|e| panic!("{e}"));
    let mut now = Time::ZERO;
    let mut core = Announcer::new(config, &Legacy::default(), now);
    for _ in 0..200 {
        while let Some(effect) = core.poll_effect() {
            let event = match effect {
                Effect::Dump(id) => Event::Dump { id, result: Ok(Dump::default()) },
                Effect::Kernel(ops) => Event::Ops(ops.iter().map(|op| (op.id, Ok(()))).collect()),
                Effect::Probe { id, check, .. } if &*check.name == "ping" && now > Time::ZERO => {
                    Event::Probe { id, outcome: Outcome::Failure("no".into()) }
                }
                Effect::Probe { id, .. } => {
                    let rtt = Some(Duration::from_millis(3));
                    Event::Probe { id, outcome: Outcome::Success { rtt } }
                }
                _ => continue,
            };
            core.handle_event(event, now);
        }
        let Some((at, _)) = core.poll_timeout() else { break };
        now = now.max(at);
        core.handle_timeout(now);
    }
    core.measure(now, &WallClock { at: Time::ZERO, wall: SystemTime::UNIX_EPOCH })
}

#[test]
fn a_scrape_tells_what_happened_in_openmetrics() {
    let text = metrics::render(measures());
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
    has("# TYPE announcerd_probe_rtt_seconds histogram");
    has("# UNIT announcerd_probe_rtt_seconds seconds");
    has("announcerd_build_info{version=\"0.1.0\",node=\"hk-\\\"1\\\"\"} 1.0");
    has("announcerd_instance_state{name=\"mainland\",state=\"MASTER\"} 1.0");
    has("announcerd_instance_state{name=\"mainland\",state=\"BACKUP\"} 0.0");
    has("announcerd_primary_down{name=\"mainland\"} 1.0");
    has("announcerd_require_met{name=\"mainland\"} 1.0");
    has("announcerd_check_verdict{check=\"ping\",type=\"ping\",verdict=\"down\"} 1.0");
    has("announcerd_transitions_total{name=\"mainland\",to=\"MASTER\"} 1");
    // From 0: what is first seen as 1 is no increase to Prometheus.
    has("announcerd_transitions_total{name=\"mainland\",to=\"FAULT\"} 0");
    for result in ["ok", "failed", "killed", "not_started"] {
        has(&format!("announcerd_script_runs_total{{name=\"mainland\",result=\"{result}\"}} 0"));
    }
    has("announcerd_check_results_total{check=\"ping\",result=\"blind\"} 0");
    // More than one: the kernel of this test forgets what it is told.
    assert!(text.contains("announcerd_netlink_operations_total{verb=\"add\",kind=\"route\"} "), "{text}");
    has("announcerd_kernel_objects{what=\"wanted\"} 1.0");
    has("announcerd_kernel_objects{what=\"missing\"} 0.0");
    has("announcerd_reaction_seconds_count{to=\"MASTER\",step=\"kernel_acked\"} 1");
    assert!(text.contains("announcerd_probe_rtt_seconds_bucket{le=\"0.005\",check=\"uplink\"}"), "{text}");
    assert!(text.contains("announcerd_probe_rtt_seconds_bucket{le=\"+Inf\",check=\"uplink\"}"), "{text}");
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        assert!(line.starts_with("announcerd_"), "{line}");
    }
}

/// Serves at a port of its own with a driver that answers (or does not), in a thread.
struct Server {
    address: SocketAddr,
    /// How often the driver was asked.
    asked: Arc<AtomicUsize>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(turns: bool) -> Self {
        // The port is free a moment later too, or the test says so by failing to connect.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let count = Arc::clone(&asked);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let mut web = Web::start(Some(address));
                let mut kept = Vec::new();
                loop {
                    tokio::select! {
                        _ = &mut stopped => break,
                        visit = web.next() => {
                            count.fetch_add(1, SeqCst);
                            match (turns, visit.page) {
                                (false, _) => kept.push(visit),
                                (true, Page::Metrics) => visit.answer(|| Answer {
                                    code: 200,
                                    content_type: metrics::CONTENT_TYPE,
                                    body: metrics::render(measures()),
                                }),
                                (true, page) => visit.answer(move || Answer::text(200, format!("{page:?}"))),
                            }
                        }
                    }
                }
            });
        };
        let server = Server { address, asked, stop: Some(stop), thread: Some(thread::spawn(run)) };
        server.connect();
        server
    }

    fn connect(&self) -> TcpStream {
        let deadline = Instant::now() + LONG;
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(LONG)).unwrap();
                    return stream;
                }
                Err(e) => assert!(Instant::now() < deadline, "{e}"),
            }
            thread::yield_now();
        }
    }

    fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn get(&self, path: &str) -> String {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|s| s.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[test]
fn pages_are_served_and_all_else_is_refused() {
    let server = Server::start(true);
    let text = server.get("/metrics");
    assert_eq!(first_line(&text), "HTTP/1.1 200 OK");
    assert!(text.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
    assert!(body.ends_with("# EOF\n"));
    assert!(server.get("/healthz").ends_with("Health"));
    assert!(server.get("/status?x=1").ends_with("Status"));
    assert_eq!(first_line(&server.get("/")), "HTTP/1.1 404 Not Found");
    assert_eq!(
        first_line(&server.ask(b"DELETE /metrics HTTP/1.1\r\n\r\n")),
        "HTTP/1.1 405 Method Not Allowed"
    );
    assert_eq!(first_line(&server.ask(b"\x16\x03\x01 tls?\r\n\r\n")), "HTTP/1.1 400 Bad Request");
    let head = server.ask(b"HEAD /status HTTP/1.1\r\n\r\n");
    assert!(head.ends_with("\r\n\r\n"), "{head}");
    let endless = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &[b'x'; 20_000]].concat();
    assert_eq!(first_line(&server.ask(&endless)), "HTTP/1.1 431 Request Header Fields Too Large");
}

#[test]
fn a_crowd_asks_the_driver_once() {
    let server = Server::start(true);
    for _ in 0..100 {
        assert!(server.get("/status").starts_with("HTTP/1.1 200"));
    }
    // Four a second at most, however many come; the bound is far above what a slow machine makes of it.
    let asked = server.asked.load(SeqCst);
    assert!(asked < 100, "{asked}");
}

/// Who connects and says nothing takes a place for a few seconds, and gives way to whoever comes: a scrape does not wait.
#[test]
fn silent_clients_give_way() {
    let server = Server::start(true);
    let silent: Vec<TcpStream> = (0..100).map(|_| server.connect()).collect();
    assert!(server.get("/healthz").starts_with("HTTP/1.1 200"));
    let said = |mut stream: &TcpStream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(said(&silent[0]), "", "closed for another, before its time was over");
    assert_eq!(first_line(&said(&silent[99])), "HTTP/1.1 408 Request Timeout");
}

#[test]
fn a_driver_that_does_not_turn_is_unhealthy() {
    let server = Server::start(false);
    let text = server.get("/healthz");
    assert_eq!(first_line(&text), "HTTP/1.1 503 Service Unavailable");
    assert!(text.contains("does not turn"), "{text}");
}

#[test]
fn a_session_that_is_down_is_unhealthy() {
    let mut status = measures().status;
    let peer = |state: &str| BgpStatus {
        name: "isp-a".into(),
        state: state.into(),
        uptime_s: 0,
        advertised: 0,
        last_error: None,
    };
    assert_eq!(Answer::health(&status).code, 200);
    status.bgp = vec![peer("Established")];
    assert_eq!(Answer::health(&status).code, 200);
    status.bgp = vec![peer("Active")];
    assert_eq!(Answer::health(&status), Answer::text(503, "BGP session isp-a is Active\n"));
    status.bgp = vec![peer("Established")];

    let session = |state: &str, remote_state: &str| BfdStatus {
        id: 1,
        name: "203.0.113.1".into(),
        state: state.into(),
        remote_state: remote_state.into(),
        since: String::new(),
        diagnostic: String::new(),
        reason: String::new(),
        trouble: None,
        checks: Vec::new(),
        peers: Vec::new(),
        detail: None,
    };
    status.bfd = vec![session("Up", "Up")];
    assert_eq!(Answer::health(&status), Answer::text(200, "ok\n"));
    let down = Answer::text(503, "BFD session 203.0.113.1 is Down\n");
    for sessions in [
        vec![session("Down", "Down")],
        // No failure (RFC 5882 section 3.2), but nothing is guarded.
        vec![session("Down", "AdminDown")],
        vec![session("Up", "Up"), session("Down", "Down")],
    ] {
        status.bfd = sessions;
        assert_eq!(Answer::health(&status), down);
    }
    status.bgp = vec![peer("Active")];
    let both = "BGP session isp-a is Active\nBFD session 203.0.113.1 is Down\n";
    assert_eq!(Answer::health(&status), Answer::text(503, both));
}

//! The control socket and announcerctl, over a real socket, against a driver that only answers.

mod daemon;

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

use announcerd::announcer::event;
use announcerd::announcer::event::Forced;
use announcerd::io::control::Ask;
use daemon::{Connection, Daemon, LONG, event};
use serde_json::{Value, json};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it exits, it is not killed")
}

#[test]
fn requests_are_answered_in_order_on_one_connection() {
    let daemon = Daemon::start(None);
    let mut client = daemon.connect();
    assert_eq!(client.ask(json!({"command": "status"}))["ok"]["node"]["name"], "hk-1");
    assert_eq!(client.ask(json!({"command": "events", "after": 1}))["ok"].as_array().unwrap().len(), 2);
    let done =
        client.ask(json!({"command": "force", "instance": "mainland", "state": "master", "for": "1h"}));
    assert!(done["ok"].as_str().unwrap().contains("3600s"), "{done}");
    client.send(b"{\"command\":\"status\"}\n\n{\"command\":\"dance\"}\n").unwrap();
    assert!(client.line().unwrap()["ok"].is_object());
    assert!(client.line().unwrap()["error"].as_str().unwrap().contains("unknown variant `dance`"));
    let unknown = client.ask(json!({"command": "explain", "instance": "mars"}));
    assert_eq!(
        unknown,
        json!({"error": "there is no instance `mars`; there is: mainland", "kind": "failed"})
    );
}

#[test]
fn a_last_request_without_a_newline_is_answered_after_the_client_is_done_writing() {
    let daemon = Daemon::start(None);
    let mut client = daemon.connect();
    client.send(br#"{"command":"status"}"#).unwrap();
    client.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.line().unwrap()["ok"].is_object());
    assert_eq!(client.line(), None);
}

#[test]
fn a_follower_gets_the_past_then_the_present_nothing_lost_or_twice() {
    let mut daemon = Daemon::start(None);
    let mut client = daemon.connect();
    let past = client.ask(json!({"command": "events", "follow": true}));
    let seqs = past["ok"].as_array().unwrap().iter().map(|e| e["seq"].as_u64().unwrap());
    assert_eq!(seqs.collect::<Vec<_>>(), [1, 2, 3]);
    for seq in [4, 5, 5, 6] {
        daemon.publish(event(seq));
    }
    for seq in [4, 5, 5, 6] {
        assert_eq!(client.line().unwrap()["event"]["seq"], seq);
    }
    daemon.close();
    assert_eq!(client.line(), Some(json!({"end": "announcerd is stopping"})));
    assert_eq!(client.line(), None);
    assert!(!daemon.socket().exists(), "the socket is gone with the daemon");
}

/// FIELD 16: a reader that blocks must not freeze the daemon.
#[test]
fn a_slow_follower_is_dropped_and_told_and_nobody_waits_for_it() {
    let daemon = Daemon::start(None);
    let mut slow = daemon.connect();
    slow.ask(json!({"command": "events", "follow": true}));
    for seq in 4..20_000 {
        daemon.publish(event(seq));
    }
    let mut other = daemon.connect();
    assert!(other.ask(json!({"command": "status"}))["ok"].is_object(), "others are served");
    let mut last = None;
    let mut seen = 3;
    while let Some(line) = slow.line() {
        if let Some(seq) = line["event"]["seq"].as_u64() {
            assert_eq!(seq, seen + 1, "no gap before the end");
            seen = seq;
        }
        last = Some(line);
    }
    let last = last.unwrap();
    assert!(last["error"].as_str().unwrap().contains("fell more than 4096 events behind"), "{last}");
    assert!(seen < 19_999);
}

/// A drill must not outlive whoever asked for it, however they left.
#[test]
fn the_driver_hears_of_the_end_of_a_drills_connection() {
    let daemon = Daemon::start(None);
    let mut client = daemon.connect();
    let answer = client.ask(json!({"command": "drill", "instance": "mainland", "hold": "5m"}));
    assert_eq!(answer["ok"], "it follows");
    let hold = std::time::Duration::from_secs(300);
    assert_eq!(daemon.asked.recv_timeout(LONG).unwrap(), Ask::Drill { instance: "mainland".into(), hold });
    assert!(daemon.asked.try_recv().is_err(), "while it is there it has not left");
    drop(client);
    assert_eq!(daemon.asked.recv_timeout(LONG).unwrap(), Ask::LeaveDrill);
    let mut client = daemon.connect();
    let wrong = client.ask(json!({"command": "drill", "instance": "mainland", "hold": "2h"}));
    assert!(wrong["error"].as_str().unwrap().contains("1h at most"), "{wrong}");
    let forged = client.ask(json!({"command": "leavedrill"}));
    assert!(forged["error"].as_str().unwrap().contains("unknown variant"), "{forged}");
}

#[test]
fn a_follower_asks_nothing_more() {
    let daemon = Daemon::start(None);
    let mut client = daemon.connect();
    client.ask(json!({"command": "events", "follow": true}));
    let answer = client.ask(json!({"command": "status"}));
    assert!(answer["error"].as_str().unwrap().contains("takes no further requests"), "{answer}");
    assert_eq!(client.line(), None);
}

#[test]
fn a_driver_that_hangs_is_told_apart_from_none() {
    let daemon = Daemon::start(None);
    let answer = daemon.connect().ask(json!({"command": "explain", "instance": "mute"}));
    assert_eq!(answer["error"], "announcerd is up, but did not answer within 10s");
}

fn is_too_long(answer: &serde_json::Value) -> bool {
    answer["error"].as_str().is_some_and(|e| e.contains("at most 65536 bytes"))
}

#[test]
fn hostile_clients_are_bounded_and_others_are_served() {
    let daemon = Daemon::start(None);
    let mut endless = daemon.connect();
    // The daemon hangs up in the middle of it.
    let _ = endless.send(&vec![b'x'; 1 << 20]);
    let told = endless.line();
    assert!(told.as_ref().is_none_or(is_too_long), "{told:?}");
    assert!(told.is_none() || endless.line().is_none());
    // Where it has read all that came, the answer is not lost with the connection.
    let mut long = daemon.connect();
    long.send(&vec![b' '; 65_536]).unwrap();
    let told = long.line();
    assert!(told.as_ref().is_some_and(is_too_long), "{told:?}");
    assert_eq!(long.line(), None);
    // The longest that there may be.
    let mut padded = br#"{"command": "status"}"#.to_vec();
    padded.resize(65_535, b' ');
    padded.push(b'\n');
    let mut client = daemon.connect();
    client.send(&padded).unwrap();
    assert!(client.line().unwrap()["ok"].is_object());
    let nested = format!("{}\n", "[".repeat(60_000));
    for garbage in [&b"\xff\xfe\x00\n"[..], b"{}\n", b"null\n", b"\"status\"\n", nested.as_bytes()] {
        let mut client = daemon.connect();
        client.send(garbage).unwrap();
        assert!(client.line().unwrap()["error"].as_str().unwrap().starts_with("not a request"));
        assert!(client.ask(json!({"command": "status"}))["ok"].is_object());
    }
    let _half = daemon.connect().send(b"{\"comm");
    assert!(daemon.connect().ask(json!({"command": "status"}))["ok"].is_object());
}

#[test]
fn connections_are_bounded() {
    let daemon = Daemon::start(None);
    let mut held: Vec<Connection> = (0..64).map(|_| daemon.connect()).collect();
    for client in &mut held {
        client.ask(json!({"command": "status"}));
    }
    let refused = daemon.connect().line().unwrap();
    assert!(refused["error"].as_str().unwrap().contains("too many connections"), "{refused}");
    let output = daemon.ctl(&["status"]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stderr).contains("too many connections"), "{output:?}");
    held.clear();
    let deadline = std::time::Instant::now() + LONG;
    while code(&daemon.ctl(&["status"])) != 0 {
        assert!(std::time::Instant::now() < deadline, "places that are free again are not given away");
    }
}

#[test]
fn an_idle_client_does_not_hold_up_the_stop() {
    let mut daemon = Daemon::start(None);
    let mut idle = daemon.connect();
    idle.ask(json!({"command": "status"}));
    daemon.close();
    assert_eq!(idle.line(), None);
    assert!(UnixStream::connect(daemon.socket()).is_err());
}

/// announcerctl as another user.
fn as_user(daemon: &Daemon, uid: u32, gid: u32, args: &[&str]) -> Output {
    assert!(nix::unistd::geteuid().is_root(), "this test needs root: it becomes other users");
    let mut command = Command::new(daemon.public_ctl());
    command.arg("--control").arg(daemon.socket()).args(args);
    command.uid(uid).gid(gid);
    let deadline = std::time::Instant::now() + LONG;
    loop {
        match command.output() {
            // A process that another test forked just now still has our copy open for writing.
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                assert!(std::time::Instant::now() < deadline, "{e}");
            }
            other => break other.unwrap(),
        }
    }
}

#[test]
fn everyone_may_read_and_members_of_the_group_may_change() {
    let daemon = Daemon::start(Some("daemon"));
    let group = nix::unistd::Group::from_name("daemon").unwrap().expect("the group daemon").gid.as_raw();
    let force = ["force", "mainland", "master", "--for", "1h"];
    let stranger = as_user(&daemon, 65534, 65534, &force);
    assert_eq!(code(&stranger), 1);
    let said = text(&stranger.stderr);
    assert!(said.contains("uid 65534 may not change state") && said.contains("the group `daemon`"), "{said}");
    for change in [&["auto", "mainland"][..], &["failback", "mainland"], &["reload"]] {
        let refused = as_user(&daemon, 65534, 65534, change);
        assert!(text(&refused.stderr).contains("may not change state"), "{refused:?}");
    }
    assert!(daemon.asked.try_recv().is_err(), "none of it reached the driver");
    for read in [&["status"][..], &["events"], &["explain", "mainland"]] {
        assert_eq!(code(&as_user(&daemon, 65534, 65534, read)), 0);
    }
    assert_eq!(code(&as_user(&daemon, 65534, group, &force)), 0);
    let asked: Vec<Ask> = daemon.asked.try_iter().collect();
    let forced = event::Command::Force {
        instance: "mainland".into(),
        state: Forced::Master,
        lasting: Some(std::time::Duration::from_secs(3600)),
    };
    assert_eq!(asked.last(), Some(&Ask::Change(forced)));
}

#[test]
fn exit_codes_tell_what_happened() {
    let mut daemon = Daemon::start(None);
    assert_eq!(code(&daemon.ctl(&["status"])), 0);
    assert_eq!(code(&daemon.ctl(&["explain", "mars"])), 1);
    for usage in
        [&["dance"][..], &[], &["force", "mainland", "fault"], &["force", "a", "master", "--for", "soon"]]
    {
        assert_eq!(code(&daemon.ctl(usage)), 2, "{usage:?}");
    }
    let reload = daemon.ctl(&["reload"]);
    assert_eq!(
        (code(&reload), text(&reload.stderr)),
        (78, "announcerctl: /etc/announcer.toml:3:1: nod: unknown key\n".into())
    );
    daemon.close();
    let gone = daemon.ctl(&["status"]);
    assert_eq!(code(&gone), 3);
    assert!(text(&gone.stderr).contains("no announcerd answers at"), "{gone:?}");
    // A dead daemon's socket.
    drop(std::os::unix::net::UnixListener::bind(daemon.socket()).unwrap());
    assert_eq!(code(&daemon.ctl(&["status"])), 3);
}

#[test]
fn announcerctl_shows_what_the_daemon_says() {
    let daemon = Daemon::start(None);
    let status = daemon.ctl(&["status"]);
    assert!(text(&status.stdout).starts_with("hk-1  announcerd 0.1.0, up "), "{status:?}");
    assert!(!text(&status.stdout).contains('\x1b'), "no colour into a pipe");
    let json: Value = serde_json::from_slice(&daemon.ctl(&["status", "-j"]).stdout).unwrap();
    assert_eq!(json["node"]["name"], "hk-1");
    let explained = daemon.ctl(&["explain", "mainland"]);
    assert_eq!(text(&explained.stdout), "mainland is BACKUP\n  the primary is well\n");
    let events = text(&daemon.ctl(&["events", "-j"]).stdout);
    let seqs = events.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["seq"].as_u64().unwrap());
    assert_eq!(seqs.collect::<Vec<_>>(), [1, 2, 3]);
    let failback = text(&daemon.ctl(&["failback", "mainland", "--reset-flaps"]).stdout);
    assert!(failback.contains("reset_flaps: true"), "{failback}");
}

#[test]
fn events_follow_until_the_daemon_stops() {
    let mut daemon = Daemon::start(None);
    let mut ctl =
        daemon.ctl_command(&["events", "-f"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(ctl.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.nth(2).unwrap().contains("#3 mainland: BACKUP -> MASTER"));
    daemon.publish(event(4));
    assert!(lines.next().unwrap().contains("#4 "));
    let mut more = event(4);
    more.timeline_us.kernel_acked = Some(412);
    daemon.publish(more);
    assert_eq!(lines.next().unwrap(), "    #4 kernel +0.412ms");
    daemon.close();
    let output = ctl.wait_with_output().unwrap();
    assert_eq!((code(&output), text(&output.stderr)), (3, "announcerctl: announcerd is stopping\n".into()));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let daemon = Daemon::start(None);
    for args in [&["events", "-f"][..], &["status"], &["status", "-j"]] {
        let mut ctl = daemon.ctl_command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(ctl.stdout.take());
        let output = ctl.wait_with_output().unwrap();
        assert_eq!((code(&output), text(&output.stderr)), (0, String::new()), "{args:?}");
    }
}

/// `events -f | head -n 3` ends when `head` does, though no transition follows.
#[test]
fn a_follower_whose_reader_has_left_does_not_wait_for_the_next_transition() {
    let daemon = Daemon::start(None);
    let mut ctl = daemon.ctl_command(&["events", "-f", "-j"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(ctl.stdout.take().unwrap()).lines();
    assert_eq!(lines.by_ref().take(3).map(Result::unwrap).count(), 3, "all that has happened");
    drop(lines);
    assert_eq!(ctl.wait().unwrap().code(), Some(0));
}

#[test]
fn sweep_leaves_a_running_daemon_alone() {
    let daemon = Daemon::start(None);
    let refused = daemon.ctl(&["sweep"]);
    assert_eq!(code(&refused), 1);
    assert!(text(&refused.stderr).contains("announcerd is running"), "{refused:?}");
}

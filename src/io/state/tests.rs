use proptest::prelude::*;
use std::time::Instant;

use super::file::tests::{clock, memory, seconds};
use super::*;

const LONG: Duration = Duration::from_secs(20);

fn open(path: &Path, boot: i64, id: &str) -> (StateDir, Loaded) {
    StateDir::open_in_boot(path, &clock(boot, 1_800_000_000 + boot as u64), id).unwrap()
}

fn names(path: &Path, prefix: &str) -> Vec<String> {
    let names = fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| n.starts_with(prefix)).collect()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// Opens again: the writer of the last one ends by itself.
fn reopen(path: &Path, boot: i64, id: &str) -> (StateDir, Loaded) {
    let deadline = Instant::now() + LONG;
    loop {
        match StateDir::open_in_boot(path, &clock(boot, 1_800_000_000 + boot as u64), id) {
            Ok(opened) => return opened,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
    }
}

#[test]
fn overrides_and_flaps_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("var/lib/announcerd");
    let (state, loaded) = open(&path, 1000, "boot");
    assert_eq!(loaded, Loaded::default());
    state.save(&memory(1, 2), &clock(1000, 1_800_001_000));
    state.save(&Memory { kept_until: Some(seconds(1300)), ..memory(900, 2000) }, &clock(1000, 1_800_001_000));
    assert!(state.flush(LONG));
    drop(state);
    let (_state, loaded) = reopen(&path, 1059, "boot");
    let want = Loaded {
        memory: Memory { kept_until: Some(seconds(1300)), ..memory(900, 2000) },
        resumable: true,
        note: None,
        events: Vec::new(),
    };
    assert_eq!(loaded, want);
}

/// The decision journal goes on where it was; the numbers too, which the driver takes from its last entry.
#[test]
fn the_journal_survives_a_restart() {
    use crate::announcer::journal::State;
    let dir = tempfile::tempdir().unwrap();
    let event = |seq, to| EventStatus {
        seq,
        time: "2026-11-22T04:00:00.000000Z".into(),
        instance: "a".into(),
        from: State::Init,
        to,
        reason: "why".into(),
        timeline_us: crate::status::TimelineStatus::default(),
    };
    let (state, loaded) = open(dir.path(), 1, "boot");
    assert!(loaded.events.is_empty());
    state.journal(event(1, State::Backup));
    state.journal(event(2, State::Master));
    assert!(state.flush(LONG));
    drop(state);
    let (state, loaded) = reopen(dir.path(), 2, "another boot");
    assert_eq!(loaded.events, [event(1, State::Backup), event(2, State::Master)]);
    state.journal(event(3, State::Stop));
    assert!(state.flush(LONG));
    drop(state);
    assert_eq!(reopen(dir.path(), 3, "boot").1.events.len(), 3);
}

#[test]
fn resumable_means_the_same_boot_and_alive_a_minute_ago() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, _) = open(dir.path(), 1000, "boot");
    state.save(&memory(900, 2000), &clock(1000, 1_800_001_000));
    assert_eq!(state.tick(seconds(5000)), seconds(5005));
    assert_eq!(state.tick(seconds(5004)), seconds(5005), "no sign of life is due");
    assert!(state.flush(LONG));
    let alive = dir.path().join("alive");
    eventually("a sign of life", || fs::read_to_string(&alive).is_ok_and(|t| t.contains("5000000000000")));
    drop(state);
    let resumable = |boot, id| reopen(dir.path(), boot, id).1.resumable;
    assert!(resumable(5060, "boot"));
    assert!(!resumable(5061, "boot"), "away too long");
    assert!(!resumable(5010, "other"), "another boot");
    assert!(!resumable(5010, ""), "an unknown boot");
    fs::write(&alive, "garbage").unwrap();
    assert!(!resumable(5010, "boot"), "alive when it last saved, no later");
}

#[test]
fn a_save_cut_short_leaves_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    let (state, _) = open(dir.path(), 1000, "boot");
    state.save(&memory(900, 2000), &clock(1000, 1_800_001_000));
    assert!(state.flush(LONG));
    drop(state);
    // What kill -9 in the middle of a save leaves: half of the next file beside the whole old one.
    fs::write(dir.path().join("state.json.new"), &fs::read(dir.path().join("state.json")).unwrap()[..40])
        .unwrap();
    let (state, loaded) = reopen(dir.path(), 1001, "boot");
    assert_eq!((loaded.memory, loaded.note), (memory(900, 2000), None));
    state.save(&memory(950, 2000), &clock(1001, 1_800_001_001));
    assert!(state.flush(LONG));
    drop(state);
    assert_eq!(reopen(dir.path(), 1002, "boot").1.memory, memory(950, 2000));
}

#[test]
fn two_daemons_never_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (_state, _) = open(dir.path(), 1, "boot");
    let error = StateDir::open(dir.path(), &clock(1, 1)).unwrap_err().to_string();
    assert!(error.contains(&format!("another announcerd (pid {}) uses", std::process::id())), "{error}");
}

#[test]
fn at_most_five_broken_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..8 {
        fs::write(dir.path().join("state.json"), format!("broken {n}")).unwrap();
        let note = reopen(dir.path(), n, "boot").1.note.unwrap();
        assert!(note.contains("set aside as") && note.contains("state.json.broken-"), "{note}");
    }
    let kept = names(dir.path(), "state.json.broken-");
    assert_eq!(kept.len(), 5, "{kept:?}");
    let last = format!("state.json.broken-{}", 1_800_000_007);
    assert_eq!(fs::read_to_string(dir.path().join(last)).unwrap(), "broken 7");
}

#[test]
fn a_folder_in_the_place_of_the_file_is_set_aside_too() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("state.json")).unwrap();
    let (state, loaded) = open(dir.path(), 1, "boot");
    assert!(loaded.note.is_some_and(|n| n.contains("set aside")));
    state.save(&memory(900, 2000), &clock(2, 2));
    assert!(state.flush(LONG));
}

#[test]
fn a_folder_that_cannot_be_made_stops_nothing_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("var");
    fs::write(&in_the_way, "").unwrap();
    let (state, loaded) = open(&in_the_way.join("announcerd"), 1, "boot");
    assert!(loaded.note.is_some_and(|n| n.contains("state is not saved")));
    state.save(&memory(900, 2000), &clock(1, 1));
    assert!(!state.flush(Duration::from_millis(10)));
    fs::remove_file(&in_the_way).unwrap();
    assert!(state.flush(LONG), "tried again");
    assert!(in_the_way.join("announcerd/state.json").exists());
}

#[test]
fn a_full_disk_stops_nothing_and_leaves_the_old_state() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    // A mount namespace of this thread and of those it starts; it ends with them.
    let test = move || {
        unshare(CloneFlags::CLONE_NEWNS).expect("this test needs root: it mounts a small tmpfs of its own");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
        let (state, _) = open(&path, 1000, "boot");
        state.save(&memory(900, 2000), &clock(1000, 1));
        assert!(state.flush(LONG));
        let filler = path.join("filler");
        assert!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "the disk is full");
        state.save(&memory(950, 2000), &clock(1001, 2));
        assert!(!state.flush(Duration::from_millis(10)));
        let on_disk = StateFile::parse(&fs::read(path.join("state.json")).unwrap()).unwrap();
        assert_eq!(on_disk.saved_boot_ns, seconds(1000).as_nanos());
        fs::remove_file(&filler).unwrap();
        assert!(state.flush(LONG), "tried again");
        let on_disk = StateFile::parse(&fs::read(path.join("state.json")).unwrap()).unwrap();
        assert_eq!(on_disk.saved_boot_ns, seconds(1001).as_nanos());
    };
    std::thread::spawn(test).join().unwrap();
}

/// Anything, or a real file with damage: torn, a byte changed, a number out of bounds.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let real = StateFile::new(
        &Memory { kept_until: Some(seconds(3)), ..memory(900, 2000) },
        &clock(1000, 5),
        "boot",
    )
    .render();
    let torn = real.clone();
    let numbers = String::from_utf8(real.clone()).unwrap();
    prop_oneof![
        any::<Vec<u8>>(),
        (0..real.len()).prop_map(move |n| torn[..n].to_vec()),
        (0..real.len(), any::<u8>()).prop_map(move |(at, byte)| {
            let mut bytes = real.clone();
            bytes[at] = byte;
            bytes
        }),
        any::<i64>().prop_map(move |n| numbers.replace("000000000", &n.to_string()).into_bytes()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_lies_there_the_start_goes_on(bytes in damaged(), alive in any::<Vec<u8>>(), boot in any::<i32>()) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("state.json"), &bytes).unwrap();
        fs::write(dir.path().join("alive"), &alive).unwrap();
        let now = clock(i64::from(boot.unsigned_abs()), 1_800_000_000);
        let (state, loaded) = StateDir::open_in_boot(dir.path(), &now, "boot").unwrap();
        let aside = names(dir.path(), "state.json.broken-");
        prop_assert_eq!(loaded.note.is_some(), !aside.is_empty());
        if let Some(name) = aside.first() {
            prop_assert_eq!(fs::read(dir.path().join(name)).unwrap(), bytes);
        }
        state.save(&loaded.memory, &now);
        prop_assert!(state.flush(LONG));
    }
}

/// A daemon run once by root, by hand, must not lock out the service's user for ever.
#[test]
fn the_lock_belongs_to_the_owner_of_the_folder() {
    use std::os::unix::fs::{MetadataExt, chown};
    assert!(nix::unistd::geteuid().is_root(), "this test changes owners: run it as root");
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(4242), Some(4243)).unwrap();
    let (_state, _) = open(dir.path(), 1, "boot");
    let lock = fs::metadata(dir.path().join("lock")).unwrap();
    assert_eq!((lock.uid(), lock.gid()), (4242, 4243));
}

/// What is to be seen of a folder without touching it: for the process that sweeps after the daemon.
#[test]
fn what_was_kept_is_read_without_a_change() {
    let dir = tempfile::tempdir().unwrap();
    let now = clock(1000, 1_800_001_000);
    assert_eq!(kept_until(dir.path(), &now), None);
    fs::write(dir.path().join("state.json"), "{ broken").unwrap();
    assert_eq!(kept_until(dir.path(), &now), None);
    assert_eq!(names(dir.path(), ""), ["state.json"]);
    fs::remove_file(dir.path().join("state.json")).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let (state, _) = open(dir.path(), 1000, boot.trim());
    state.save(&Memory { kept_until: Some(seconds(1300)), ..memory(900, 2000) }, &now);
    assert!(state.flush(LONG));
    assert_eq!(kept_until(dir.path(), &now), Some(seconds(1300)));
}

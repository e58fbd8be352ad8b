//! The lab with everything in it: the primary serves HTTP and HTTPS, announcerd watches it with a file of conf/, an exporter
//! watches announcerd's routes with a file of conf/, the ISP watches the exporter.

use std::path::Path;
use std::time::Duration;

use announcerd::announcer::journal::State;
use announcerd::demo::lab::bird::Received;
use announcerd::demo::lab::topology::{PRIMARY, prefix};
use announcerd::demo::lab::web::{Web, answer_ok, http};
use announcerd::demo::lab::{Bird, Node, Topology, routes, wait_for};
use announcerd::status::EventStatus;
use toml::{Table, Value};

use crate::frr::{self, Frr};
use crate::tls;

/// Nothing that the tests wait for takes longer, unless something is wrong.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Where the recipe's scripts lie.
pub const SCRIPTS: &str = "/usr/local/bin";
const PREFIX: &str = "198.51.100.0/24";

/// The daemon under test.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_announcerd"))
}

/// The examples of conf/, with the waiting cut short. THE ONE PLACE where tests change what the files say: checks
/// each 300 ms, two seconds until failback, no drain.
pub fn hurried(example: &str) -> Table {
    let mut config: Table = example.parse().unwrap();
    for check in tables(&mut config, "check") {
        check.insert("interval".into(), "300ms".into());
        check.insert("timeout".into(), "290ms".into());
    }
    for instance in tables(&mut config, "instance") {
        instance.insert("failback_delay".into(), "2s".into());
        instance.insert("drain".into(), "0s".into());
    }
    config
}

/// The tables of an array of tables.
fn tables<'a>(config: &'a mut Table, key: &str) -> impl Iterator<Item = &'a mut Table> {
    let list = config.get_mut(key).and_then(Value::as_array_mut).expect("an array of tables");
    list.iter_mut().filter_map(Value::as_table_mut)
}

/// The example's check of that name.
pub fn check<'a>(config: &'a mut Table, name: &str) -> &'a mut Table {
    tables(config, "check").find(|c| c["name"].as_str() == Some(name)).expect("that check")
}

/// The example's one instance.
pub fn instance(config: &mut Table) -> &mut Table {
    tables(config, "instance").next().expect("an instance")
}

/// What tells the ISP.
#[allow(dead_code)] // held, not read
enum Exporter {
    Bird(Bird),
    Frr(Frr),
    /// announcerd itself.
    Own,
}

/// Everything, running: announcerd in BACKUP, the session with the ISP established.
pub struct Rig {
    // Dropped in this order: daemons first, the hosts under them last.
    pub node: Node,
    _exporter: Exporter,
    pub isp: Bird,
    _webs: [Web; 2],
    pub config: Table,
    pub lab: Topology,
}

impl Rig {
    /// With conf/standby-bird.toml and conf/bird.conf.
    pub fn bird() -> Self {
        Self::bird_with(|_, _| {})
    }

    /// The same, with what the test wants otherwise.
    pub fn bird_with(edit: impl FnOnce(&mut Table, &Topology)) -> Self {
        let start = |lab: &Topology| {
            Exporter::Bird(Bird::start(&lab.standby, include_str!("../../conf/bird.conf")).unwrap())
        };
        Self::build(include_str!("../../conf/standby-bird.toml"), edit, start)
    }

    /// With conf/standby-frr.toml and conf/frr.conf.
    pub fn frr() -> Self {
        let start = |lab: &Topology| {
            Exporter::Frr(Frr::start(&lab.standby, include_str!("../../conf/frr.conf")).unwrap())
        };
        Self::build(include_str!("../../conf/standby-frr.toml"), |_, _| {}, start)
    }

    /// With conf/standby-bgp.toml: announcerd is the speaker.
    pub fn own_with(edit: impl FnOnce(&mut Table, &Topology)) -> Self {
        Self::build(include_str!("../../conf/standby-bgp.toml"), edit, |_| Exporter::Own)
    }

    fn build(
        example: &str,
        edit: impl FnOnce(&mut Table, &Topology),
        start: impl FnOnce(&Topology) -> Exporter,
    ) -> Self {
        let lab = Topology::build(&[&frr::PRIVATE[..], &[tls::AUTHORITIES, SCRIPTS]].concat()).unwrap();
        let webs = [
            tls::serve(&lab.primary, PRIMARY, &lab.standby),
            Web::start(&lab.primary, http(PRIMARY), answer_ok).unwrap(),
        ];
        let isp = lab.start_isp().unwrap();
        let exporter = start(&lab);
        let mut config = hurried(example);
        edit(&mut config, &lab);
        let node = Node::start(&lab.standby, program(), &config.to_string()).unwrap();
        let rig = Rig { node, _exporter: exporter, isp, _webs: webs, config, lab };
        rig.isp.wait_established("from_standby").unwrap();
        rig.wait_state(State::Backup);
        rig
    }

    /// The name of the example's instance.
    pub fn instance(&self) -> String {
        let instances = self.config["instance"].as_array().unwrap();
        instances[0]["name"].as_str().unwrap().to_owned()
    }

    /// Waits until the instance is in that state.
    pub fn wait_state(&self, state: State) {
        self.node.wait_state(&self.instance(), state, LIMIT).unwrap();
    }

    /// The primary dies, and the ISP learns the prefix from the standby.
    pub fn take_over(&self) {
        self.lab.primary_dies().unwrap();
        self.wait_state(State::Master);
        self.wait_isp_has(true);
    }

    /// Waits until the ISP has the prefix from the standby, or has it no more.
    pub fn wait_isp_has(&self, wanted: bool) {
        let what = if wanted { "the ISP to learn the prefix" } else { "the ISP to forget the prefix" };
        wait_for(what, LIMIT, || (self.isp_has() == wanted).then_some(()))
            .unwrap_or_else(|e| panic!("{e}\n{}", self.node.log()));
    }

    /// True if the ISP has the prefix from the standby.
    pub fn isp_has(&self) -> bool {
        self.isp.route(PREFIX, "from_standby").is_some()
    }

    /// What the ISP has been told so far.
    pub fn told(&self) -> Received {
        self.isp.received("from_standby").unwrap()
    }

    /// True if the standby's kernel has the route.
    pub fn kernel_has(&self) -> bool {
        !routes::routes_to(&self.lab.standby, prefix()).unwrap().is_empty()
    }

    /// Waits until it has it, or has it no more.
    pub fn wait_kernel_has(&self, wanted: bool) {
        let what = if wanted { "the route in the kernel" } else { "the route to leave the kernel" };
        wait_for(what, LIMIT, || (self.kernel_has() == wanted).then_some(()))
            .unwrap_or_else(|e| panic!("{e}\n{}", self.node.log()));
    }

    /// Waits until each check has `more` further results in a row (or as many anew, if its count began anew).
    pub fn wait_probes(&self, more: u32) {
        let counts = || -> Vec<u32> {
            self.node.status().unwrap().checks.iter().map(|c| c.successes + c.failures).collect()
        };
        let before = counts();
        let went_on = |(now, before): (u32, u32)| now >= before + more || (more..before).contains(&now);
        wait_for("further probes", LIMIT, || {
            counts().into_iter().zip(before.clone()).all(went_on).then_some(())
        })
        .unwrap_or_else(|e| panic!("{e}: {before:?} became {:?}\n{}", counts(), self.node.log()));
    }

    /// Writes an executable script into [`SCRIPTS`] and returns its path.
    pub fn script(lab: &Topology, name: &str, body: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = format!("{SCRIPTS}/{name}");
        lab.standby.write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(lab.standby.path(&path), executable).unwrap();
        path
    }

    /// Puts another configuration in place.
    pub fn configure(&self, config: &str) {
        self.lab.standby.write(announcerd::demo::lab::node::CONFIG, config).unwrap();
    }

    /// The transitions of the instance, as "FROM-TO".
    pub fn transitions(&self) -> Vec<String> {
        let word = |e: &EventStatus| format!("{}-{}", e.from.word(), e.to.word());
        self.node.events().unwrap().iter().map(word).collect()
    }
}

/// The only wait that is for time itself: for a test that something does NOT happen meanwhile.
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

//! Who may change state: root, the daemon's own user, and the members of `control_group`.

use nix::unistd::{Group, Uid, User};

use super::protocol::{ErrorKind, Refusal};

/// `[node] control_group`: the group whose members may change state; None: nobody but root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ControlGroup(pub Option<String>);

/// Who is at the other end of a connection, by the kernel's word (SO_PEERCRED).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its effective user when it connected.
    pub uid: u32,
    /// Its effective group when it connected.
    pub gid: u32,
    /// Its process, if it lives in our pid namespace.
    pub pid: Option<i32>,
}

impl Peer {
    /// True for root and for the daemon's own user: no look-up needed.
    pub fn is_ours(&self) -> bool {
        self.uid == 0 || self.uid == Uid::effective().as_raw()
    }
}

/// Whether `peer` may change state. Asks the user and group databases, which may be slow (LDAP): call it
/// where blocking is allowed.
pub fn may_change(peer: &Peer, group: &ControlGroup) -> Result<(), Refusal> {
    if peer.is_ours() {
        return Ok(());
    }
    let Some(name) = &group.0 else {
        return Err(denied(
            peer,
            "only root may; set control_group in [node] to allow the members of a group",
        ));
    };
    match Group::from_name(name) {
        Ok(Some(found)) if found.gid.as_raw() == peer.gid || lists(&found, peer.uid) => Ok(()),
        Ok(Some(_)) => {
            Err(denied(peer, &format!("only root and the members of the group `{name}` (control_group) may")))
        }
        Ok(None) => {
            Err(denied(peer, &format!("there is no group `{name}` (control_group), so only root may")))
        }
        Err(e) => Err(denied(
            peer,
            &format!("the group `{name}` (control_group) could not be looked up ({e}), so only root may"),
        )),
    }
}

fn lists(group: &Group, uid: u32) -> bool {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.gid == group.gid || group.mem.contains(&user.name),
        _ => false,
    }
}

fn denied(peer: &Peer, who: &str) -> Refusal {
    let error = format!("uid {} may not change state: {who}", peer.uid);
    Refusal { error, kind: ErrorKind::Denied }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Peer = Peer { uid: 54_321, gid: 54_321, pid: None };

    fn group(name: &str) -> ControlGroup {
        ControlGroup(Some(name.to_owned()))
    }

    #[test]
    fn root_and_the_daemons_user_may() {
        let own = Uid::effective().as_raw();
        assert_eq!(may_change(&Peer { uid: 0, ..NOBODY }, &ControlGroup(None)), Ok(()));
        assert_eq!(may_change(&Peer { uid: own, ..NOBODY }, &group("no-such-group")), Ok(()));
    }

    #[test]
    fn members_of_the_group_may_and_others_are_told_its_name() {
        let daemon = Group::from_name("daemon").unwrap().expect("every Debian has the group daemon");
        assert_eq!(may_change(&Peer { gid: daemon.gid.as_raw(), ..NOBODY }, &group("daemon")), Ok(()));
        let user = User::from_name("daemon").unwrap().expect("every Debian has the user daemon");
        assert_eq!(may_change(&Peer { uid: user.uid.as_raw(), ..NOBODY }, &group("daemon")), Ok(()));
        let refusal = may_change(&NOBODY, &group("daemon")).unwrap_err();
        assert_eq!(refusal.kind, ErrorKind::Denied);
        assert!(refusal.error.contains("uid 54321") && refusal.error.contains("`daemon`"), "{refusal:?}");
    }

    #[test]
    fn a_missing_group_lets_nobody_in() {
        assert!(may_change(&NOBODY, &ControlGroup(None)).unwrap_err().error.contains("control_group"));
        let refusal = may_change(&NOBODY, &group("no-such-group")).unwrap_err();
        assert!(refusal.error.contains("there is no group `no-such-group`"), "{refusal:?}");
    }
}

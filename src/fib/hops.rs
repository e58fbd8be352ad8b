//! Which of a route's next hops are used. A pure decision; who is healthy is told from outside.

use std::collections::BTreeMap;

use crate::config::model::{HopMode, NextHops, WhenNone};

/// What is known of a next hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Its check is up (or it has none), and so is its link.
    Up,
    /// Nothing speaks against it, nothing for it: its check has no verdict.
    Unknown,
    /// Nothing has been known of it for as long as its check needs to fall: as bad as down if another is up. (A dead link
    /// of our own makes probes blind, not failed.)
    Lapsed,
    /// Its check is down, or its link.
    Down,
}

/// The next hops in use, by the place of their route in the instance: places in the route's `nexthops`, ascending. None
/// at all: the route is not wanted now.
pub type Choices = BTreeMap<usize, Vec<usize>>;

/// Chooses anew. `health` has one for each next hop; `current` is what is in use, nothing at first.
///
/// A next hop of which nothing is known is neither taken up in the place of a healthy one nor given up: only evidence
/// moves traffic, or the lack of any for too long. (At the start, with no evidence at all, that means the file's first.)
pub fn choose(config: &NextHops, health: &[Health], current: &[usize]) -> Vec<usize> {
    let lapsed = if health.contains(&Health::Up) { Health::Down } else { Health::Unknown };
    let judged = |health: Health| if health == Health::Lapsed { lapsed } else { health };
    let is = |n: usize, wanted: Health| health.get(n).copied().map(judged) == Some(wanted);
    let all = || 0..config.hops.len();
    match config.mode {
        HopMode::Failover => {
            let held = current.first().copied().filter(|n| is(*n, Health::Unknown));
            let first = |wanted| all().find(|n| is(*n, wanted));
            let up = first(Health::Up);
            let stays = held.filter(|held| up.is_none_or(|up| *held < up));
            let chosen = stays.or(up).or_else(|| first(Health::Unknown));
            chosen.map_or_else(|| without_health(config, current, 1), |n| vec![n])
        }
        HopMode::Ecmp => {
            let used = |n: &usize| is(*n, Health::Up) || (is(*n, Health::Unknown) && current.contains(n));
            let mut chosen: Vec<usize> = all().filter(used).collect();
            if chosen.is_empty() {
                chosen = all().filter(|n| !is(*n, Health::Down)).collect();
            }
            if chosen.is_empty() { without_health(config, current, config.hops.len()) } else { chosen }
        }
    }
}

/// None is left: the last ones stay, the first `most` of the file if there were none, or the route goes.
fn without_health(config: &NextHops, current: &[usize], most: usize) -> Vec<usize> {
    match config.when_none {
        WhenNone::Remove => Vec::new(),
        WhenNone::Keep if current.is_empty() => (0..config.hops.len().min(most)).collect(),
        WhenNone::Keep => current.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::Health::{Down, Lapsed, Unknown, Up};
    use super::*;
    use crate::config::model::NextHop;
    use proptest::prelude::*;

    fn three(mode: HopMode, when_none: WhenNone) -> NextHops {
        let hop = NextHop { via: None, dev: None, check: None, weight: 1 };
        NextHops { hops: vec![hop.clone(), hop.clone(), hop], mode, when_none }
    }

    #[test]
    fn failover_takes_the_first_healthy_one_and_moves_by_evidence_only() {
        let config = three(HopMode::Failover, WhenNone::Keep);
        let is = |health: [Health; 3], current: &[usize]| choose(&config, &health, current);
        assert_eq!(is([Up, Up, Up], &[]), [0]);
        assert_eq!(is([Down, Up, Up], &[0]), [1]);
        assert_eq!(is([Up, Up, Up], &[1]), [0]);
        // At the start nothing is known: the first, and it stays until something speaks against it.
        assert_eq!(is([Unknown; 3], &[]), [0]);
        assert_eq!(is([Unknown, Up, Up], &[0]), [0]);
        // Adopted after a crash: what was in use stays until the first is known to be well.
        assert_eq!(is([Unknown, Unknown, Up], &[1]), [1]);
        assert_eq!(is([Unknown, Up, Up], &[1]), [1]);
        assert_eq!(is([Up, Unknown, Up], &[1]), [0]);
        assert_eq!(is([Down, Unknown, Up], &[0]), [2]);
    }

    /// Our own link has died: probes see nothing, and never fail.
    #[test]
    fn who_is_unknown_for_too_long_gives_way_to_a_healthy_one_only() {
        for mode in [HopMode::Failover, HopMode::Ecmp] {
            for when_none in [WhenNone::Keep, WhenNone::Remove] {
                let config = three(mode, when_none);
                let is = |health: [Health; 3], current: &[usize]| choose(&config, &health, current);
                assert_eq!(is([Lapsed, Up, Down], &[0]), [1]);
                assert_eq!(is([Lapsed, Lapsed, Down], &[1]), [1]);
                assert_eq!(is([Lapsed, Down, Down], &[1]), [0]);
            }
        }
    }

    #[test]
    fn ecmp_takes_all_healthy_ones() {
        let config = three(HopMode::Ecmp, WhenNone::Keep);
        let is = |health: [Health; 3], current: &[usize]| choose(&config, &health, current);
        assert_eq!(is([Unknown; 3], &[]), [0, 1, 2]);
        assert_eq!(is([Up, Down, Up], &[0, 1, 2]), [0, 2]);
        assert_eq!(is([Up, Unknown, Up], &[0, 2]), [0, 2]);
        assert_eq!(is([Up, Unknown, Up], &[0, 1, 2]), [0, 1, 2]);
        assert_eq!(is([Down, Unknown, Down], &[0]), [1]);
        // After `when_none = "remove"`, or at the start: a healthy one is not joined by one of which nothing is known.
        assert_eq!(is([Unknown, Up, Down], &[]), [1]);
    }

    #[test]
    fn the_last_one_standing_stays_or_the_route_goes() {
        for mode in [HopMode::Failover, HopMode::Ecmp] {
            assert_eq!(choose(&three(mode, WhenNone::Keep), &[Down; 3], &[2]), [2]);
            assert!(choose(&three(mode, WhenNone::Remove), &[Down; 3], &[2]).is_empty());
            assert_eq!(choose(&three(mode, WhenNone::Remove), &[Down, Down, Up], &[]), [2]);
        }
        assert_eq!(choose(&three(HopMode::Failover, WhenNone::Keep), &[Down; 3], &[]), [0]);
    }

    fn health() -> impl Strategy<Value = [Health; 3]> {
        prop::array::uniform3(prop_oneof![Just(Up), Just(Unknown), Just(Lapsed), Just(Down)])
    }

    proptest! {
        #[test]
        fn a_choice_holds_while_nothing_changes_and_never_is_a_dead_one_beside_a_better(
            steps in prop::collection::vec(health(), 1..20), ecmp in any::<bool>(), keep in any::<bool>(),
        ) {
            let mode = if ecmp { HopMode::Ecmp } else { HopMode::Failover };
            let when_none = if keep { WhenNone::Keep } else { WhenNone::Remove };
            let config = three(mode, when_none);
            let mut current = Vec::new();
            for health in steps {
                current = choose(&config, &health, &current);
                prop_assert_eq!(&choose(&config, &health, &current), &current);
                let dead = current.iter().any(|n| health[*n] == Down);
                prop_assert!(!dead || (keep && health == [Down; 3]));
                prop_assert!(!current.is_empty() || (!keep && health == [Down; 3]));
                if mode == HopMode::Failover {
                    prop_assert!(current.len() <= 1);
                }
            }
        }
    }
}

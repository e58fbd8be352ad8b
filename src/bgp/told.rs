//! What a peer was told about the prefixes of one piece of the table: runs of equal routes.

use std::sync::Arc;

use super::attributes::Attributes;

/// What is said about prefixes: everything that makes two announcements differ within one session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Route {
    pub attributes: Arc<Attributes>,
    /// With RFC 8326's community.
    pub graceful_shutdown: bool,
}

/// Prefixes up to `end` (from the end of the run before) were told `route`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Run {
    end: usize,
    route: Option<Route>,
    /// A refresh wants it told again.
    repeat: bool,
}

/// Covers the indices `0..len` of a piece without a gap; neighbours differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told(Vec<Run>);

impl Told {
    pub fn nothing(len: usize) -> Self {
        Told(vec![Run { end: len, route: None, repeat: false }])
    }

    /// Of what was told of single indices under an earlier table, in ascending order.
    pub fn of<'a>(len: usize, told: impl IntoIterator<Item = (usize, &'a Route, bool)>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut extend = |end, route: Option<&Route>, repeat| match runs.last_mut() {
            Some(last) if last.repeat == repeat && last.route.as_ref() == route => last.end = end,
            _ => runs.push(Run { end, route: route.cloned(), repeat }),
        };
        let mut next = 0;
        for (index, route, repeat) in told {
            if index > next {
                extend(index, None, false);
            }
            extend(index + 1, Some(route), repeat);
            next = index + 1;
        }
        if next < len || next == 0 {
            extend(len, None, false);
        }
        Told(runs)
    }

    fn spans(&self) -> impl Iterator<Item = (usize, &Run)> {
        let starts = std::iter::once(0).chain(self.0.iter().map(|run| run.end));
        starts.zip(&self.0).filter(|(start, run)| *start < run.end)
    }

    /// The runs that were told something: from, to, what, to be repeated.
    pub fn runs(&self) -> impl Iterator<Item = (usize, usize, &Route, bool)> {
        self.spans()
            .filter_map(|(start, run)| run.route.as_ref().map(|route| (start, run.end, route, run.repeat)))
    }

    /// How many prefixes the peer knows.
    pub fn count(&self) -> usize {
        self.runs().map(|(start, end, ..)| end - start).sum()
    }

    /// True if the peer knows none of them.
    pub fn is_nothing(&self) -> bool {
        self.runs().next().is_none()
    }

    /// The last run that was told anything.
    ///
    /// Work goes from the end to the front: so runs that become equal merge at the end, which costs nothing however
    /// many there are.
    pub fn last_told(&self) -> Option<(usize, usize)> {
        self.last(|run| run.route.is_some())
    }

    /// The last run that does not know `route`, or is to hear it again.
    pub fn last_other_than(&self, route: &Route) -> Option<(usize, usize)> {
        self.last(|run| run.repeat || run.route.as_ref() != Some(route))
    }

    fn last(&self, wanted: impl Fn(&Run) -> bool) -> Option<(usize, usize)> {
        let at = self.0.iter().rposition(|run| wanted(run) && run.end > 0)?;
        let start = at.checked_sub(1).and_then(|before| self.0.get(before)).map_or(0, |run| run.end);
        Some((start, self.0.get(at)?.end))
    }

    /// `from..to`, within one run, has been told `route`.
    pub fn set(&mut self, from: usize, to: usize, route: Option<Route>) {
        let at = self.0.partition_point(|run| run.end <= from);
        let Some(old) = self.0.get(at).cloned() else { return };
        let start = at.checked_sub(1).and_then(|before| self.0.get(before)).map_or(0, |run| run.end);
        let new = [
            (from > start).then(|| Run { end: from, ..old.clone() }),
            Some(Run { end: to, route, repeat: false }),
            (to < old.end).then_some(old),
        ];
        self.0.splice(at..=at, new.into_iter().flatten());
        // At most four runs can have become neighbours of an equal one.
        let mut index = at.saturating_sub(1);
        for _ in 0..4 {
            let (Some(left), Some(right)) = (self.0.get(index), self.0.get(index + 1)) else { break };
            if left.route == right.route && left.repeat == right.repeat {
                self.0.remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Everything that was told is to be told again.
    pub fn repeat(&mut self) {
        for run in &mut self.0 {
            run.repeat = run.route.is_some();
        }
    }

    #[cfg(test)]
    fn shown(&self) -> String {
        let mut text = String::new();
        for (start, run) in self.spans() {
            let route = run.route.as_ref().and_then(|route| route.attributes.med);
            text += &format!(
                "{start}-{}:{}{} ",
                run.end,
                route.map_or("none".into(), |m| m.to_string()),
                if run.repeat { "!" } else { "" }
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(med: u32) -> Route {
        Route {
            attributes: Arc::new(Attributes { med: Some(med), ..Attributes::default() }),
            graceful_shutdown: false,
        }
    }

    #[test]
    fn runs_split_and_merge() {
        let mut told = Told::nothing(10);
        told.set(0, 4, Some(route(1)));
        told.set(4, 10, Some(route(1)));
        assert_eq!(told.shown(), "0-10:1 ");
        told.set(2, 5, Some(route(2)));
        assert_eq!(told.shown(), "0-2:1 2-5:2 5-10:1 ");
        assert_eq!(told.last_other_than(&route(1)), Some((2, 5)));
        told.repeat();
        assert_eq!(told.last_other_than(&route(1)), Some((5, 10)));
        told.set(0, 2, Some(route(1)));
        told.set(2, 5, None);
        assert_eq!(told.shown(), "0-2:1 2-5:none 5-10:1! ");
        assert_eq!(told.count(), 7);
        told.set(5, 10, None);
        told.set(0, 2, None);
        assert_eq!(told.shown(), "0-10:none ");
        assert!(told.is_nothing());
        let (one, two) = (route(1), route(2));
        let told = Told::of(
            8,
            [(1, &one, false), (2, &one, false), (3, &one, true), (4, &two, true), (7, &one, false)],
        );
        assert_eq!(told.shown(), "0-1:none 1-3:1 3-4:1! 4-5:2! 5-7:none 7-8:1 ");
        assert_eq!((Told::of(3, []), Told::of(0, [])), (Told::nothing(3), Told::nothing(0)));
        assert_eq!(Told::nothing(0).last_other_than(&route(1)), None);
    }
}

//! Something for each of the two address families.

use crate::net::Family;

/// A set of address families.
pub type Families = PerFamily<bool>;

/// One `T` for IPv4 and one for IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct PerFamily<T> {
    /// For IPv4.
    pub v4: T,
    /// For IPv6.
    pub v6: T,
}

/// Both, in the order in which they are always visited.
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl<T> PerFamily<T> {
    /// The one for `family`.
    pub fn get(&self, family: Family) -> &T {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The one for `family`, to change.
    pub fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Makes one for each family.
    pub fn from_fn(mut make: impl FnMut(Family) -> T) -> Self {
        PerFamily { v4: make(Family::V4), v6: make(Family::V6) }
    }
}

impl Families {
    /// Neither.
    pub const NONE: Families = PerFamily { v4: false, v6: false };
    /// Both.
    pub const BOTH: Families = PerFamily { v4: true, v6: true };
    /// IPv4 alone.
    pub const V4: Families = PerFamily { v4: true, v6: false };
    /// IPv6 alone.
    pub const V6: Families = PerFamily { v4: false, v6: true };

    /// True if `family` is in the set.
    pub fn contains(self, family: Family) -> bool {
        *self.get(family)
    }

    /// True if neither is.
    pub fn is_empty(self) -> bool {
        !self.v4 && !self.v6
    }

    /// Those in both sets.
    pub fn and(self, other: Families) -> Families {
        Self::from_fn(|family| self.contains(family) && other.contains(family))
    }

    /// Its members.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        FAMILIES.into_iter().filter(move |family| self.contains(*family))
    }
}

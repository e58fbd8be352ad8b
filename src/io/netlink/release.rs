//! What an old kernel cannot do for us.

/// The first kernel that keeps an owner's mark on addresses (IFA_PROTO).
const MARKS_ADDRESSES: (u32, u32) = (5, 18);

/// What the operator should know of this machine's kernel; None if nothing. An unknown release counts as a new one.
pub fn shortcoming() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    lacks_marks(release.trim())
}

fn lacks_marks(release: &str) -> Option<String> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let version = (numbers.next()?, numbers.next()?);
    (version < MARKS_ADDRESSES).then(|| {
        format!(
            "Linux {release} cannot mark addresses as ours (5.18 can): after a crash, addresses of [[instance.address]] that are no longer wanted stay, and `announcerctl sweep` does not find them; routes are not concerned"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        for old in ["4.19.0-26-amd64", "5.10.0-30-cloud-amd64", "5.17"] {
            assert!(lacks_marks(old).is_some_and(|words| words.contains(old)), "{old}");
        }
        for new in ["5.18.0-rc1", "6.1.0-18-amd64", "6.18.5+deb13", "10.0", "", "weird"] {
            assert_eq!(lacks_marks(new), None, "{new}");
        }
    }
}

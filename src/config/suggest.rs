//! Did you mean …?

/// Longer words are not compared: the time goes with the product of both lengths.
const LONGEST: usize = 64;

/// The candidate that `word` is probably a slip of the pen for; `None` if none is near.
pub fn nearest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let length = word.chars().count();
    if length > LONGEST {
        return None;
    }
    let limit = (length / 3).max(1);
    let near = |candidate: &'c str| {
        let apart = candidate.chars().count().abs_diff(length);
        if apart > limit || candidate.len() > 4 * LONGEST {
            return None;
        }
        let distance = strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
        (distance <= limit).then_some((distance, candidate))
    };
    candidates
        .into_iter()
        .filter_map(near)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_suggested_and_far_is_not() {
        let keys = ["interval", "timeout", "host", "fall", "rise", "to"];
        assert_eq!(nearest("intervall", keys), Some("interval"));
        assert_eq!(nearest("tiemout", keys), Some("timeout"));
        assert_eq!(nearest("Host", keys), Some("host"));
        assert_eq!(nearest("fal", keys), Some("fall"));
        assert_eq!(nearest("bandwidth", keys), None);
        assert_eq!(nearest(&"x".repeat(100), keys), None);
        assert_eq!(nearest("x", []), None);
    }
}

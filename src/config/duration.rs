//! Durations as an operator writes them: `"300ms"`, `"1s"`, `"1m30s"`.

use std::time::Duration;

/// The units, longest first, in nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
];

/// Reads a duration: whole numbers with units (`d h m s ms us`), the longer unit first.
///
/// # Errors
///
/// Words for the operator that say what is wrong and what to write.
pub fn parse(text: &str) -> Result<Duration, String> {
    if text.is_empty() {
        return Err("is empty; write a duration such as \"1s\"".to_owned());
    }
    if text.starts_with('-') {
        return Err("is negative; a duration is never less than \"0s\"".to_owned());
    }
    let mut total: u64 = 0;
    let mut ceiling = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, tail) = part(rest, text)?;
        if unit >= ceiling {
            return Err(format!("has its units out of order in `{text}`; write them as in \"1m30s\""));
        }
        ceiling = unit;
        let nanos = number.checked_mul(unit).and_then(|n| total.checked_add(n));
        total = nanos.ok_or("is far too long")?;
        rest = tail;
    }
    Ok(Duration::from_nanos(total))
}

/// One number and its unit (in nanoseconds), and what follows.
fn part<'t>(rest: &'t str, whole: &str) -> Result<(u64, u64, &'t str), String> {
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, tail) = rest.split_at(digits);
    if number.is_empty() {
        return Err(not_a_duration(rest, whole));
    }
    let end = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
    let (unit, tail) = tail.split_at(end);
    if unit.is_empty() {
        return Err(match tail.starts_with('.') {
            true => {
                "has a fraction; use a smaller unit, such as \"1500ms\" for one and a half seconds".into()
            }
            false => format!("has no unit; write \"{number}s\" if seconds are meant"),
        });
    }
    let nanos = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos);
    let nanos =
        nanos.ok_or_else(|| format!("has the unknown unit `{unit}`; the units are d, h, m, s, ms, us"))?;
    let number = number.parse().map_err(|_| "is far too long")?;
    Ok((number, nanos, tail))
}

fn not_a_duration(rest: &str, whole: &str) -> String {
    match rest.chars().next() {
        Some(c) if c.is_whitespace() => "has a space in it; write it as in \"1m30s\"".to_owned(),
        _ => format!("`{whole}` is not a duration; write one as \"300ms\", \"1s\" or \"1m30s\""),
    }
}

/// The duration in the way that [`parse`] reads; nanoseconds below one microsecond are dropped.
pub fn show(duration: Duration) -> String {
    let mut nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, unit) in UNITS {
        let count = nanos / unit;
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
            nanos %= unit;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_that_operators_write() {
        for (text, micros) in [
            ("300ms", 300_000),
            ("1s", 1_000_000),
            ("2m", 120_000_000),
            ("1h", 3_600_000_000),
            ("1d", 86_400_000_000),
            ("500us", 500),
            ("1m30s", 90_000_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_the_mend() {
        for (text, words) in [
            ("", "is empty"),
            ("5", "write \"5s\""),
            ("1m30", "write \"30s\""),
            ("-1s", "negative"),
            ("0.5s", "fraction"),
            ("1 s", "has no unit"),
            (" 1s", "space"),
            ("1sec", "unknown unit `sec`"),
            ("1s1m", "out of order"),
            ("1s1s", "out of order"),
            ("soon", "`soon` is not a duration"),
            ("99999999999999999999s", "far too long"),
            ("999999999999d", "far too long"),
        ] {
            let err = parse(text).unwrap_err();
            assert!(err.contains(words), "{text}: {err}");
        }
    }

    #[test]
    fn shown_durations_read_back() {
        for micros in [0, 1, 999, 1_000, 90_000_000, 86_461_001_001] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }
}

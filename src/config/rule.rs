//! Reads `[[instance.rule]]`.

use super::instance::misplaced;
use super::model::{Rule, When};
use super::probe::family_words;
use super::reader::Item;
use super::report::{Span, brief};
use super::route::{WHENS, routing_table};
use super::values;
use crate::net::{Family, Prefix};

/// Before the kernel's own rules (main is 32766), with room on both sides.
const PRIORITY: u32 = 10_000;
/// The kernel's own: 0 is the local table, without which nothing reaches this machine.
const PRIORITIES: std::ops::RangeInclusive<u64> = 1..=32_765;

/// A rule as it was read.
pub(super) struct ReadRule {
    /// Dotted path.
    pub path: String,
    /// Where its header stands.
    pub span: Span,
    /// The rule.
    pub rule: Rule,
}

/// Reads the rules of an instance; the wrong ones are left out (and recorded).
pub(super) fn read_all(item: &Item<'_, '_>) -> Option<Vec<ReadRule>> {
    let items = item.tables("instance.rule")?;
    Some(items.iter().filter_map(read).collect())
}

fn read(item: &Item<'_, '_>) -> Option<ReadRule> {
    let before = item.report.errors();
    let mut table = item.table("instance.rule")?;
    let from = table.get("from", |i| values::prefix(&i));
    let to = table.get("to", |i| values::prefix(&i));
    let fwmark = table.get("fwmark", |i| mark(&i));
    let iif = table.get("iif", |i| values::device(&i));
    let lookup = table.need("table", "100", |i| routing_table(&i));
    let priority = table.or("priority", PRIORITY, |i| i.integer(PRIORITIES));
    let when = table.or("when", When::Master, |i| i.one_of(&WHENS));
    let families = [("ipv4", Family::V4), ("ipv6", Family::V6)];
    let family = table.get("family", |i| i.one_of(&families));
    let of_prefix = from.or(to).map(Prefix::family);
    for (key, prefix) in [("to", to), ("from", from)] {
        let want = family.or(of_prefix);
        if let (Some(prefix), Some(want)) = (prefix, want.filter(|f| Some(*f) != prefix.map(Prefix::family)))
        {
            let is = family_words(prefix.family());
            table.error(key, format!("{prefix} is {is}, but the rule is {}", family_words(want)));
        }
    }
    if !["from", "to", "fwmark", "iif"].iter().any(|key| table.has(key)) {
        table.missing("from", "is missing: a rule for every packet would take this machine's own traffic along; say which with `from`, `to`, `fwmark` or `iif`");
    }
    let (path, span) = (table.path.clone(), table.span.clone());
    table.finish_with(misplaced);
    let family = family.or(of_prefix).unwrap_or(Family::V4);
    let rule = Rule { family, from, to, fwmark, iif, table: lookup?, priority, when };
    (item.report.errors() == before).then_some(ReadRule { path, span, rule })
}

/// A number, or "value/mask".
fn mark(item: &Item<'_, '_>) -> Option<(u32, u32)> {
    if !item.is_string() {
        return item.integer(1..=u64::from(u32::MAX)).map(|mark: u32| (mark, u32::MAX));
    }
    let text = item.word()?;
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    match (number(value), number(mask)) {
        (Some(_), Some(0)) => item.fail("has a mask of 0, which matches every packet"),
        (Some(value), Some(mask)) if value & !mask == 0 => Some((value, mask)),
        (Some(_), Some(_)) => item.fail("has bits outside of its mask, so it would never match"),
        _ => item.fail(format!("{} is no mark; write a number, \"0x10\" or \"0x10/0xff\"", brief(text))),
    }
}

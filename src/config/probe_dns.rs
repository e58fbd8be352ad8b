//! Reads the keys of a dns check.

use super::model::Dns;
use super::probe::{agree, origin};
use super::reader::{Item, Table};
use super::report::brief;
use super::values;
use crate::dns::{Expect, Name, Question, Rcode, Record};

pub(super) fn read(table: &mut Table<'_, '_>) -> Option<Dns> {
    let server = table.need("server", "\"127.0.0.1\"", |i| values::host(&i));
    let port = table.or("port", 53, |i| i.integer(1..=65_535));
    let name = table.need("query", "\"www.example.com\"", |i| name(&i));
    let record = table.or("record", Record::A, |i| record(&i));
    let record_is_wrong = table.is_wrong("record");
    let expect = table.or("expect", Expect::Records, |i| match record_is_wrong {
        // What an answer looks like is not known.
        true => Some(Expect::Records),
        false => expect(&i, record),
    });
    let tcp = table.or("transport", false, |i| i.one_of(&[("udp", false), ("tcp", true)]));
    let origin = origin(table, true);
    agree(table, server.as_ref(), &origin, "server");
    Some(Dns { server: server?, port, question: Question { name: name?, record }, expect, tcp, origin })
}

fn name(item: &Item<'_, '_>) -> Option<Name> {
    let text = item.text()?;
    text.parse().or_else(|e: crate::dns::NameError| item.fail(e.to_string()).ok_or(())).ok()
}

fn record(item: &Item<'_, '_>) -> Option<Record> {
    let text = item.word()?;
    Record::named(text).or_else(|| {
        let known: Vec<&str> = Record::names().collect();
        item.fail(format!(
            "{} is no type of record: {}; others by number, as TYPE65",
            brief(text),
            known.join(", ")
        ))
    })
}

/// One text or several: answers, or a code such as NXDOMAIN alone.
fn expect(item: &Item<'_, '_>, record: Record) -> Option<Expect> {
    let texts = if item.is_array() { item.elements()? } else { return one(item, record) };
    if texts.is_empty() {
        return item.fail("is empty; leave it out if any answer will do");
    }
    let answer = |item: &Item<'_, '_>| match one(item, record)? {
        Expect::Answers(mut answers) => answers.pop(),
        _ if texts.len() == 1 => item.fail("is a response code: write it alone, without the brackets"),
        _ => item.fail("is a response code, which excludes answers: write it alone"),
    };
    let answers: Vec<Option<String>> = texts.iter().map(answer).collect();
    answers.into_iter().collect::<Option<Vec<_>>>().map(Expect::Answers)
}

fn one(item: &Item<'_, '_>, record: Record) -> Option<Expect> {
    let text = item.word()?;
    if let Some(rcode) = Rcode::named(text) {
        return Some(Expect::Rcode(rcode));
    }
    match record.normal(text) {
        Ok(answer) => Some(Expect::Answers(vec![answer])),
        Err(shape) => item.fail(format!(
            "{} is no answer of type {record}: write {shape}, or a response code such as \"NXDOMAIN\"",
            brief(text)
        )),
    }
}

//! What is expected of an answer, and whether one is it.

use std::fmt;

use super::{Record, Reply};

/// How a query went (RFC 1035 section 4.1.1, RFC 6895 section 2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rcode(u8);

const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET", "NXRRSET",
    "NOTAUTH", "NOTZONE",
];

impl Rcode {
    /// No error; there may be no records all the same.
    pub const NOERROR: Rcode = Rcode(0);

    pub(super) fn from_flags(flags: u16) -> Self {
        Rcode((flags & 0x000f) as u8)
    }

    /// The one of that name, in capitals as everybody writes them.
    pub fn named(name: &str) -> Option<Self> {
        let at = RCODES.iter().position(|known| *known == name)?;
        u8::try_from(at).ok().map(Rcode)
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RCODES.get(usize::from(self.0)) {
            Some(name) => f.write_str(name),
            None => write!(f, "RCODE{}", self.0),
        }
    }
}

/// `expect` of a dns check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Nothing said: NOERROR, and at least one record of the type.
    Records,
    /// This code, whatever else is in the answer.
    Rcode(Rcode),
    /// NOERROR, and all of these among the records; there may be others.
    Answers(Vec<String>),
}

impl Expect {
    /// Judges an answer.
    ///
    /// # Errors
    /// What it is, and what was expected, in words.
    pub fn judge(&self, record: Record, reply: &Reply) -> Result<(), String> {
        let Reply { rcode, answers, .. } = reply;
        match self {
            Expect::Rcode(wanted) if rcode == wanted => Ok(()),
            Expect::Rcode(wanted) => Err(format!("{rcode}, expected {wanted}")),
            _ if *rcode != Rcode::NOERROR => Err(format!("{rcode}, expected {}", self.words(record))),
            _ if answers.is_empty() => Err(format!("no {record} record, expected {}", self.words(record))),
            Expect::Records => Ok(()),
            Expect::Answers(wanted) if wanted.iter().all(|w| answers.contains(w)) => Ok(()),
            Expect::Answers(_) => Err(format!("{}, expected {}", brief(answers), self.words(record))),
        }
    }

    fn words(&self, record: Record) -> String {
        match self {
            Expect::Records => format!("a record of type {record}"),
            Expect::Rcode(rcode) => rcode.to_string(),
            Expect::Answers(answers) => answers.join(", "),
        }
    }
}

/// The first few, which come from the network, in a line of bounded length.
fn brief(answers: &[String]) -> String {
    const LONGEST: usize = 80;
    let shown: Vec<String> = answers.iter().take(4).map(|a| a.chars().take(LONGEST).collect()).collect();
    match answers.len().saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

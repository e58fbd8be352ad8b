//! Messages: the question out, an answer in (RFC 1035 section 4).

use super::Question;
use super::expect::Rcode;
use super::name::Name;
use super::rdata::{self, Record};

/// Class IN.
const IN: u16 = 1;
const RESPONSE: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const TRUNCATED: u16 = 0x0200;
const RECURSION_DESIRED: u16 = 0x0100;

/// It ends too early, or says what cannot be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// Why a message is no answer to the question: whoever asked goes on waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Foreign {
    /// Not a DNS message, or a broken one.
    #[error("it was malformed")]
    Malformed,
    /// RFC 5452 section 9.1: the answer to another query, or a guess.
    #[error("it had another query's id")]
    OtherId,
    /// A query.
    #[error("it was no response")]
    NoResponse,
    /// RFC 5452 section 9.1: the question must come back as it was asked.
    #[error("it answered another question")]
    OtherQuestion,
}

/// An answer to the question.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// How it went.
    pub rcode: Rcode,
    /// TC: there is more than a datagram holds, and what is there counts for nothing (RFC 2181 section 9).
    pub truncated: bool,
    /// The records of the type that was asked for, in words. Those that an alias (CNAME) leads to are among them.
    pub answers: Vec<String>,
}

impl Question {
    /// The query, with recursion desired: an authoritative server ignores that.
    pub fn query(&self, id: u16) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.name.octets().len());
        for word in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
            out.extend(word.to_be_bytes());
        }
        out.extend(self.name.octets());
        out.extend(self.record.code().to_be_bytes());
        out.extend(IN.to_be_bytes());
        out
    }

    /// Reads an answer to the query of that id.
    ///
    /// # Errors
    /// It is none.
    pub fn reply(&self, id: u16, message: &[u8]) -> Result<Reply, Foreign> {
        let mut reader = Reader { message, at: 0 };
        let mut header = [0; 6];
        for word in &mut header {
            *word = reader.word()?;
        }
        let [of, flags, questions, answers, ..] = header;
        if flags & RESPONSE == 0 || flags & OPCODE != 0 {
            return Err(Foreign::NoResponse);
        }
        if of != id {
            return Err(Foreign::OtherId);
        }
        let rcode = Rcode::from_flags(flags);
        match questions {
            // A server that could not read the question need not repeat it.
            0 if rcode != Rcode::NOERROR => {}
            1 if self.is_at(&mut reader)? => {}
            _ => return Err(Foreign::OtherQuestion),
        }
        let truncated = flags & TRUNCATED != 0;
        let answers = match self.answers(answers, &mut reader) {
            Err(Malformed) if truncated => Vec::new(),
            answers => answers?,
        };
        Ok(Reply { rcode, truncated, answers })
    }

    fn is_at(&self, reader: &mut Reader<'_>) -> Result<bool, Malformed> {
        let name = Name::read(reader)?;
        let (record, class) = (reader.word()?, reader.word()?);
        Ok(name == self.name && record == self.record.code() && class == IN)
    }

    fn answers(&self, count: u16, reader: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
        let mut found = Vec::new();
        for _ in 0..count {
            let _owner = Name::read(reader)?;
            let (record, class) = (reader.word()?, reader.word()?);
            let _ttl = (reader.word()?, reader.word()?);
            let length = usize::from(reader.word()?);
            let data = reader.part(length)?;
            if (Record::from(record), class) == (self.record, IN) {
                found.push(rdata::words(self.record, data)?);
            }
        }
        Ok(found)
    }
}

impl From<Malformed> for Foreign {
    fn from(Malformed: Malformed) -> Self {
        Foreign::Malformed
    }
}

/// A place in a message.
#[derive(Clone, Debug)]
pub(super) struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    /// How far in the message it stands.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The same elsewhere in the message.
    pub fn moved_to(&self, at: usize) -> Self {
        Reader { message: self.message, at }
    }

    /// The next octets.
    pub fn take(&mut self, length: usize) -> Result<&'m [u8], Malformed> {
        let end = self.at.checked_add(length).ok_or(Malformed)?;
        let taken = self.message.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    /// All octets up to the end.
    pub fn rest(&mut self) -> &'m [u8] {
        let rest = self.message.get(self.at..).unwrap_or_default();
        self.at = self.message.len();
        rest
    }

    /// One octet.
    pub fn octet(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed)
    }

    /// Two octets.
    pub fn word(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes([self.octet()?, self.octet()?]))
    }

    /// Four octets.
    pub fn long(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from(self.word()?) << 16 | u32::from(self.word()?))
    }

    /// True at the end.
    pub fn is_at_end(&self) -> bool {
        self.at >= self.message.len()
    }

    /// A reader of the next octets alone (names in them may still point back into the message); this one stands behind
    /// them then.
    pub fn part(&mut self, length: usize) -> Result<Self, Malformed> {
        let at = self.at;
        self.take(length)?;
        Ok(Reader { message: self.message.get(..self.at).ok_or(Malformed)?, at })
    }
}

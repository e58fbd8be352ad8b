//! Which answer belongs to which operation, and what silence means. No sockets here.
//!
//! The kernel carries a batch out in order, always answers a failure, and answers a success only where asked: at the
//! last message. So the last answer proves that all before it were carried out, and that those not named succeeded
//! — provided that no answer was lost (ENOBUFS), which the socket tells.

/// What became of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// Done.
    Done,
    /// Refused: errno (positive), and the kernel's own words if it had any.
    Refused(i32, Option<String>),
    /// No answer, or it may have been lost.
    Unknown,
}

/// A batch in flight.
#[derive(Debug)]
pub(super) struct Batch {
    first: u32,
    fates: Vec<Option<Fate>>,
    lost: bool,
}

impl Batch {
    /// A batch of `len` messages whose sequence numbers count up (and wrap) from `first`.
    pub fn new(first: u32, len: usize) -> Self {
        Batch { first, fates: vec![None; len], lost: false }
    }

    /// True if this sequence number is one of ours.
    pub fn position(&self, seq: u32) -> Option<usize> {
        let at = seq.wrapping_sub(self.first) as usize;
        (at < self.fates.len()).then_some(at)
    }

    /// An answer: 0 or a negative errno. Answers to other batches (late ones) are ignored.
    pub fn answer(&mut self, seq: u32, status: i32, words: Option<String>) {
        let Some(slot) = self.position(seq).and_then(|at| self.fates.get_mut(at)) else { return };
        *slot = Some(if status == 0 { Fate::Done } else { Fate::Refused(status.saturating_neg(), words) });
    }

    /// Answers were lost.
    pub fn overrun(&mut self) {
        self.lost = true;
    }

    /// True once the last message has its answer.
    pub fn complete(&self) -> bool {
        self.fates.last().is_none_or(Option::is_some)
    }

    /// True if answers were lost.
    pub fn lost(&self) -> bool {
        self.lost
    }

    /// The end, for whatever reason: every message's fate, in order.
    pub fn finish(self) -> Vec<Fate> {
        let silence = if self.complete() && !self.lost { Fate::Done } else { Fate::Unknown };
        self.fates.into_iter().map(|f| f.unwrap_or_else(|| silence.clone())).collect()
    }
}

/// The message of an extended acknowledgement, from the payload of NLMSG_ERROR.
pub(super) fn words(flags: u16, payload: &[u8]) -> Option<String> {
    use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NlasIterator, parse_string};
    /// NLMSGERR_ATTR_MSG.
    const MESSAGE: u16 = 1;
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = payload.get(4..20)?;
    // Capped, only the request's header is repeated; else the whole of it.
    let repeated = match request.first_chunk() {
        Some(len) if flags & NLM_F_CAPPED == 0 => (u32::from_ne_bytes(*len) as usize).next_multiple_of(4),
        _ => 16,
    };
    let tlvs = payload.get(4usize.checked_add(repeated)?..)?;
    NlasIterator::new(tlvs)
        .flatten()
        .find(|nla| nla.kind() == MESSAGE)
        .and_then(|nla| parse_string(nla.value()).ok())
        .map(|words| words.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_vouches_for_the_silent_ones() {
        let mut batch = Batch::new(u32::MAX, 4);
        batch.answer(0, -17, Some("File exists".into()));
        assert!(!batch.complete());
        batch.answer(2, 0, None);
        assert!(batch.complete());
        let exists = Fate::Refused(17, Some("File exists".into()));
        assert_eq!(batch.finish(), [Fate::Done, exists, Fate::Done, Fate::Done]);
    }

    #[test]
    fn after_a_lost_answer_silence_means_nothing() {
        let mut batch = Batch::new(10, 3);
        batch.answer(11, -3, None);
        batch.overrun();
        batch.answer(12, 0, None);
        assert_eq!(batch.finish(), [Fate::Unknown, Fate::Refused(3, None), Fate::Done]);
    }

    #[test]
    fn without_the_last_answer_nothing_is_known_but_what_was_said() {
        let mut batch = Batch::new(10, 3);
        batch.answer(10, -3, None);
        assert_eq!(batch.finish(), [Fate::Refused(3, None), Fate::Unknown, Fate::Unknown]);
    }

    #[test]
    fn answers_to_others_are_ignored() {
        let mut batch = Batch::new(10, 1);
        batch.answer(9, 0, None);
        batch.answer(11, -1, None);
        assert!(!batch.complete());
        batch.answer(10, i32::MIN, None);
        assert_eq!(batch.finish(), [Fate::Refused(i32::MAX, None)]);
    }
}

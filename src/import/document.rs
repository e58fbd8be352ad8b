//! The announcer.toml that is printed: pieces that stand or fall on their own, so that it is always valid.
//!
//! Each piece remembers which line of keepalived.conf it comes from. The whole is checked by the reader of configurations
//! itself; a piece that it refuses becomes a comment with the reader's own words, and what hangs on it with it.

use std::fmt::Write;

use super::source::Place;
use crate::config::{Diagnostics, Severity};

/// Some lines of TOML, or of comment, that belong together.
#[derive(Clone, Debug)]
struct Piece {
    from: Option<Place>,
    lines: Vec<String>,
    /// Why it is a comment; None if it counts.
    comment: Option<String>,
    /// The piece that it hangs on: a route on its instance.
    owner: Option<usize>,
}

/// The pieces, in order.
#[derive(Clone, Default, Debug)]
pub struct Document {
    pieces: Vec<Piece>,
}

/// Names a piece within its document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PieceId(usize);

impl Document {
    /// Lines that count, for what stands at `from`; `owner` is what they hang on.
    pub fn add(&mut self, from: &Place, lines: Vec<String>, owner: Option<PieceId>) -> PieceId {
        self.push(Some(from.clone()), lines, None, owner)
    }

    /// Lines that would count, but for `why`.
    pub fn add_comment(
        &mut self,
        from: &Place,
        lines: Vec<String>,
        why: &str,
        owner: Option<PieceId>,
    ) -> PieceId {
        self.push(Some(from.clone()), lines, Some(why.to_owned()), owner)
    }

    /// Words for the reader, about what stands at `from`.
    pub fn note(&mut self, from: &Place, words: &str) {
        self.push(Some(from.clone()), Vec::new(), Some(words.to_owned()), None);
    }

    fn push(
        &mut self,
        from: Option<Place>,
        lines: Vec<String>,
        comment: Option<String>,
        owner: Option<PieceId>,
    ) -> PieceId {
        self.pieces.push(Piece { from, lines, comment, owner: owner.map(|o| o.0) });
        PieceId(self.pieces.len() - 1)
    }

    /// The text. `check` reads a configuration and says what is wrong with it; it is asked until nothing is.
    pub fn finish(mut self, check: impl Fn(&str) -> Result<(), Diagnostics>) -> String {
        loop {
            let (text, places) = self.render();
            let Err(wrong) = check(&text) else { return text };
            let before = self.living();
            for item in wrong.items.iter().filter(|i| i.severity == Severity::Error) {
                let line = item.place.map_or(1, |p| p.line);
                if let Some(index) = places.get(line - 1).copied().flatten() {
                    self.kill(index, &item.message);
                }
            }
            if self.living() == before {
                // Said of no piece (an empty file, say): then nothing of it can count.
                (0..self.pieces.len()).for_each(|index| self.kill(index, "it cannot stand without the rest"));
                return self.render().0;
            }
        }
    }

    fn living(&self) -> usize {
        self.pieces.iter().filter(|p| p.comment.is_none()).count()
    }

    fn kill(&mut self, index: usize, why: &str) {
        let piece = &mut self.pieces[index];
        if piece.comment.is_some() {
            return;
        }
        piece.comment = Some(why.to_owned());
        let hanging: Vec<usize> =
            (0..self.pieces.len()).filter(|i| self.pieces[*i].owner == Some(index)).collect();
        for other in hanging {
            self.kill(other, "belongs to what is a comment above");
        }
    }

    /// The text, and for each of its lines the piece that it belongs to, if that counts.
    fn render(&self) -> (String, Vec<Option<usize>>) {
        let (mut text, mut places) = (String::new(), Vec::new());
        let mut line = |words: &str, piece: Option<usize>| {
            // Nothing of a foreign file may end a comment.
            let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            // Writing to a String never fails.
            let _ = writeln!(text, "{}", words.trim_end());
            places.push(piece);
        };
        for (index, piece) in self.pieces.iter().enumerate() {
            let from = piece.from.as_ref().map(|p| format!("{p}: ")).unwrap_or_default();
            match &piece.comment {
                Some(why) => {
                    line(&format!("# {from}{why}"), None);
                    piece.lines.iter().for_each(|l| line(&format!("#   {l}"), None));
                }
                None => {
                    line(&format!("# {}", from.trim_end_matches(": ")), None);
                    piece.lines.iter().for_each(|l| line(l, Some(index)));
                }
            }
            line("", None);
        }
        (text, places)
    }
}

/// `key = "value"`, quoted as TOML wants it.
pub fn text(key: &str, value: &str) -> String {
    format!("{key} = {}", toml::Value::String(value.replace(char::is_control, " ")))
}

/// `key = ["a", "b"]`.
pub fn list(key: &str, values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|v| toml::Value::String(v.clone()).to_string()).collect();
    format!("{key} = [{}]", values.join(", "))
}

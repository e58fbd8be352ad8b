//! From lines to blocks: words, quotes, braces.

use super::source::{Line, Place};

/// A statement: its words, and the block behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// Without quotes; never empty.
    pub words: Vec<String>,
    /// What stands between its braces.
    pub block: Vec<Node>,
}

impl Node {
    /// The first word.
    pub fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The n-th word after the first.
    pub fn arg(&self, n: usize) -> Option<&str> {
        self.words.get(n + 1).map(String::as_str)
    }

    /// The statement of that name in the block; the last one, as keepalived takes it.
    pub fn get(&self, keyword: &str) -> Option<&Node> {
        self.block.iter().rev().find(|n| n.keyword() == keyword)
    }
}

/// Blocks within blocks; beyond that everything counts as if it stood in the innermost.
const MAX_DEPTH: usize = 32;

/// The statements of a file. A brace without its partner closes at the end, or is left out.
pub fn parse(lines: &[Line]) -> Vec<Node> {
    let mut open: Vec<Vec<Node>> = vec![Vec::new()];
    for line in lines {
        let mut words = Vec::new();
        for token in tokens(&line.text) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    statement(&mut open, &line.place, &mut words);
                    if open.len() < MAX_DEPTH {
                        open.push(Vec::new());
                    }
                }
                Token::Close => {
                    statement(&mut open, &line.place, &mut words);
                    close(&mut open);
                }
            }
        }
        statement(&mut open, &line.place, &mut words);
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().unwrap_or_default()
}

fn statement(open: &mut [Vec<Node>], place: &Place, words: &mut Vec<String>) {
    let words = std::mem::take(words);
    if let (false, Some(block)) = (words.is_empty(), open.last_mut()) {
        block.push(Node { place: place.clone(), words, block: Vec::new() });
    }
}

fn close(open: &mut Vec<Vec<Node>>) {
    if open.len() < 2 {
        return;
    }
    let inner = open.pop().unwrap_or_default();
    if let Some(owner) = open.last_mut().and_then(|block| block.last_mut()) {
        owner.block.extend(inner);
    }
}

enum Token {
    Word(String),
    Open,
    Close,
}

/// A brace is one only where it stands alone: within a word it belongs to that (`${X}`).
fn tokens(text: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.peek().copied() {
        if c.is_whitespace() {
            chars.next();
            continue;
        }
        let (mut word, mut quoted) = (String::new(), false);
        while let Some(c) = chars.peek().copied().filter(|c| !c.is_whitespace()) {
            chars.next();
            match c {
                '"' | '\'' => {
                    quoted = true;
                    for inner in chars.by_ref() {
                        if inner == c {
                            break;
                        }
                        word.push(inner);
                    }
                }
                '\\' => word.extend(chars.next()),
                _ => word.push(c),
            }
        }
        found.push(match (&*word, quoted) {
            ("{", false) => Token::Open,
            ("}", false) => Token::Close,
            _ => Token::Word(word),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Node> {
        let place = |line| Place { file: "f".into(), line };
        let lines: Vec<Line> =
            text.lines().enumerate().map(|(n, t)| Line { place: place(n + 1), text: t.into() }).collect();
        parse(&lines)
    }

    #[test]
    fn braces_stand_where_they_like() {
        for text in ["a b {\n c d\n}\ne", "a b\n{\n c d }\ne", "a b { c d }\ne"] {
            let nodes = parsed(text);
            assert_eq!(nodes[0].words, ["a", "b"], "{text}");
            assert_eq!(nodes[0].block[0].words, ["c", "d"], "{text}");
            assert_eq!(nodes[1].words, ["e"], "{text}");
        }
    }

    #[test]
    fn quotes_keep_words_together() {
        let nodes = parsed("script \"/bin/ping -c 1 ${HOST}\" 'a { b' \"\"");
        assert_eq!(nodes[0].words, ["script", "/bin/ping -c 1 ${HOST}", "a { b", ""]);
    }

    #[test]
    fn braces_without_a_partner_lose_nothing_else() {
        assert_eq!(parsed("}\na {\n b\n").len(), 1);
        let deep = "x {\n".repeat(1000) + "y";
        assert_eq!(parsed(&deep).len(), 1);
    }
}

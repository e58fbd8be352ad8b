//! Splits a command as a shell would split plain words, and knows nothing else of shells.

/// Characters that a shell gives a meaning and that are passed on as they stand here.
const SHELL_ONLY: &str = "|&;<>$`";

/// A command in words.
#[derive(PartialEq, Eq, Debug)]
pub struct Words {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// The first unquoted character that only a shell would understand.
    pub shell: Option<char>,
}

/// Why a command cannot be split.
#[derive(PartialEq, Eq, Debug)]
pub struct SplitError {
    /// Byte offset of the offender in the command.
    pub at: usize,
    /// What is wrong with it.
    pub message: &'static str,
}

/// Splits at white space. `'…'` keeps everything; `"…"` keeps everything but `\"`, `\\`, `\$` and `` \` ``;
/// outside of quotes a backslash keeps the next character.
///
/// # Errors
///
/// The place of a quote that is never closed, or of a last backslash with nothing after it.
pub fn split(command: &str) -> Result<Words, SplitError> {
    let mut splitter = Splitter { chars: command.char_indices().peekable(), word: None, shell: None };
    let mut words = Vec::new();
    while let Some((at, c)) = splitter.chars.next() {
        if c.is_whitespace() {
            words.extend(splitter.word.take());
        } else {
            splitter.take(at, c)?;
        }
    }
    words.extend(splitter.word.take());
    Ok(Words { words, shell: splitter.shell })
}

struct Splitter<'c> {
    chars: std::iter::Peekable<std::str::CharIndices<'c>>,
    /// The word that is being put together; `Some("")` after an empty pair of quotes.
    word: Option<String>,
    shell: Option<char>,
}

impl Splitter<'_> {
    fn take(&mut self, at: usize, c: char) -> Result<(), SplitError> {
        let word = self.word.get_or_insert_default();
        match c {
            '\'' => loop {
                match self.chars.next() {
                    Some((_, '\'')) => return Ok(()),
                    Some((_, c)) => word.push(c),
                    None => return Err(unclosed(at)),
                }
            },
            '"' => self.double_quoted(at),
            '\\' => {
                let nothing = SplitError { at, message: "this backslash has nothing after it" };
                word.push(self.chars.next().ok_or(nothing)?.1);
                Ok(())
            }
            c => {
                if SHELL_ONLY.contains(c) {
                    self.shell.get_or_insert(c);
                }
                word.push(c);
                Ok(())
            }
        }
    }

    fn double_quoted(&mut self, at: usize) -> Result<(), SplitError> {
        let word = self.word.get_or_insert_default();
        loop {
            match self.chars.next() {
                Some((_, '"')) => return Ok(()),
                Some((_, '\\')) => match self.chars.next_if(|(_, c)| "\"\\$`".contains(*c)) {
                    Some((_, c)) => word.push(c),
                    None => word.push('\\'),
                },
                Some((_, c)) => word.push(c),
                None => return Err(unclosed(at)),
            }
        }
    }
}

fn unclosed(at: usize) -> SplitError {
    SplitError { at, message: "this quote is never closed" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &str) -> Vec<String> {
        split(command).unwrap().words
    }

    #[test]
    fn words_quotes_and_backslashes() {
        assert_eq!(words("/bin/x  -a\tb\n"), ["/bin/x", "-a", "b"]);
        assert_eq!(words(r#"x 'a "b" \' "c 'd' \" \\ \n""#), ["x", r#"a "b" \"#, r#"c 'd' " \ \n"#]);
        assert_eq!(words(r"x a\ b \'c"), ["x", "a b", "'c"]);
        assert_eq!(words(r#"x '' "" a''b"#), ["x", "", "", "ab"]);
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(words("x 中文 é"), ["x", "中文", "é"]);
    }

    #[test]
    fn an_open_quote_has_a_place() {
        assert_eq!(split("x 'a").unwrap_err().at, 2);
        assert_eq!(split("é \"a").unwrap_err().at, 3);
        assert_eq!(
            split("x \\").unwrap_err(),
            SplitError { at: 2, message: "this backslash has nothing after it" }
        );
    }

    #[test]
    fn what_only_a_shell_understands_is_noticed_unless_quoted() {
        assert_eq!(split("x a | y").unwrap().shell, Some('|'));
        assert_eq!(split("x '|' \"$A\" \\;").unwrap().shell, None);
    }
}

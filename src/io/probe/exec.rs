//! `exec`: a program whose exit status 0 is a success.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use tokio::io::AsyncReadExt;

use super::target::cannot;
use super::{Fault, Kit, Verdict};
use crate::config::model::{Exec, Name};
use crate::io::child;

/// Bytes of its last output that are kept for the reason.
const TAIL: usize = 200;
/// Reads of what is left in the pipe after its end.
const LAST_READS: usize = 16;

/// Runs it to its end; what it leaves behind in its process group is killed. So is all of it when the task is cancelled.
pub async fn probe(kit: &Kit, check: &Name, exec: &Exec) -> Verdict {
    let start = Instant::now();
    let (command, inspect) = (exec.command.clone(), kit.inspect);
    let start_it = move |place| {
        let (program, output) = child::spawn(&command, &[], inspect)?;
        // A killed program that hangs in the kernel keeps its place: no second one joins it there.
        Ok((program.holding(place), output))
    };
    let started: Result<_, String> = kit.threads.run(check, start_it).await?;
    let (mut program, mut output) = started.map_err(Fault::Ours)?;
    let mut tail = Tail::default();
    let mut buffer = [0; 4096];
    let mut open = true;
    let status = loop {
        tokio::select! {
            status = program.wait() => break status,
            read = output.read(&mut buffer), if open => match read {
                Ok(n @ 1..) => tail.push(buffer.get(..n).unwrap_or_default()),
                _ => open = false,
            },
        }
    };
    program.kill_group();
    for _ in 0..LAST_READS {
        match output.try_read(&mut buffer) {
            Ok(n @ 1..) => tail.push(buffer.get(..n).unwrap_or_default()),
            _ => break,
        }
    }
    judge(exec, status.map_err(|e| cannot("wait for it", &e))?, &tail.text())?;
    Ok(Some(start.elapsed()))
}

fn judge(exec: &Exec, status: ExitStatus, output: &str) -> Result<(), Fault> {
    let said = if output.is_empty() { String::new() } else { format!(": {output}") };
    match (status.code(), exec.invert) {
        (Some(0), false) => Ok(()),
        (Some(1..), true) => Ok(()),
        (Some(0), true) => Err(Fault::Theirs(format!("exit status 0, inverted{said}"))),
        (Some(code), _) => Err(Fault::Theirs(format!("exit status {code}{said}"))),
        (None, _) => {
            Err(Fault::Theirs(format!("killed by signal {}{said}", status.signal().unwrap_or_default())))
        }
    }
}

/// The last bytes of a stream, however long it is.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let excess = self.0.len().saturating_sub(TAIL);
        self.0.drain(..excess);
    }

    /// On one line, without what a terminal could mistake for a command.
    fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let words: Vec<&str> = text.split(|c: char| c.is_control() || c.is_whitespace()).collect();
        words.join(" ").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_bounded_and_on_one_line() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 4096]);
            assert!(tail.0.len() <= TAIL);
        }
        tail.push(b"\nno route\n\x1b[31mto the mainland\r\n");
        assert!(tail.text().ends_with("x no route [31mto the mainland"), "{}", tail.text());
    }

    #[test]
    fn exit_statuses() {
        let exec = |invert| Exec { command: vec![], invert };
        let status = ExitStatus::from_raw;
        assert_eq!(judge(&exec(false), status(0), "x"), Ok(()));
        assert_eq!(judge(&exec(true), status(3 << 8), "x"), Ok(()));
        let failed = Err(Fault::Theirs("exit status 3: x".into()));
        assert_eq!(judge(&exec(false), status(3 << 8), "x"), failed);
        assert!(matches!(judge(&exec(true), status(0), ""), Err(Fault::Theirs(_))));
        // A crash is no answer, inverted or not.
        for invert in [false, true] {
            assert_eq!(judge(&exec(invert), status(9), ""), Err(Fault::Theirs("killed by signal 9".into())));
        }
    }
}

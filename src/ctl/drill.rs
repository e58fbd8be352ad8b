//! `announcerctl drill`: asks for a failover exercise and prints its report, to be filed.

use std::io::Write;
use std::path::Path;

use super::client::Client;
use super::style::{Style, Tone, clean};
use super::{Failure, Out, text_of};
use crate::io::control::protocol::{Line, Request};
use crate::status::DrillStatus;

/// Ends when the drill has, with an error unless every step was verified. Should this process end before (Ctrl-C, or nobody
/// reads the report any more), the daemon notices the end of the connection and hands back.
pub(super) fn run(
    control: &Path,
    instance: &str,
    hold: &str,
    dry_run: bool,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    // To the last line: exit status 0 is the proof that somebody files.
    let told = tell(control, instance, hold, dry_run, out).and_then(|()| Ok(out.flush()?));
    told.map_err(|failure| match failure {
        Failure::OutputClosed if dry_run => Failure::failed("nobody read the answer to its end"),
        Failure::OutputClosed => Failure::failed(format!(
            "drill of {instance}: nobody reads its report any more; announcerd hands back"
        )),
        other => other,
    })
}

fn tell(control: &Path, instance: &str, hold: &str, dry_run: bool, out: &mut Out<'_>) -> Result<(), Failure> {
    let style = Style::of_stdout();
    let mut client = Client::connect(control)?;
    let request = Request::Drill { instance: instance.to_owned(), hold: hold.to_owned(), dry_run };
    let answer = client.ask(&request)?;
    for line in text_of(&answer) {
        writeln!(out, "{}", clean(&line))?;
    }
    if dry_run {
        return Ok(());
    }
    loop {
        out.flush()?;
        match client.next_line(out.get_ref())? {
            Some(Line::Drill(news)) => {
                writeln!(out, "{}", line(&news, style))?;
                match (news.done, news.ok) {
                    (true, Some(true)) => return Ok(()),
                    (true, _) => return Err(Failure::failed(format!("drill of {instance}: {}", news.text))),
                    (false, _) => {}
                }
            }
            Some(Line::End(why)) => return Err(Failure::failed(why)),
            Some(Line::Error { error, kind }) => return Err(Failure::refused(error, kind)),
            Some(_) => {}
            None => {
                return Err(Failure::failed("the connection ended before the drill; announcerd hands back"));
            }
        }
    }
}

fn line(news: &DrillStatus, style: Style) -> String {
    let (tone, mark) = match news.ok {
        Some(true) => (Tone::Good, "ok    "),
        Some(false) => (Tone::Bad, "FAILED"),
        None => (Tone::Plain, "      "),
    };
    let ms = |us: u64| format!("{}.{:03}", us / 1000, us % 1000);
    let mark = if news.done && news.ok == Some(true) { "DONE  " } else { mark };
    format!(
        "{} {:>12} ms  {}  {}",
        clean(&news.time),
        ms(news.in_phase_us),
        style.paint(tone, mark),
        clean(&news.text)
    )
}

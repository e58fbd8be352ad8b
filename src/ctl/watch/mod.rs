//! `announcerctl watch`: the status, live, in the terminal.
//!
//! Three connections feed it ([`feed`]): the status each second (more rarely if the daemon takes long to tell it), the results of
//! probes, the decision journal. [`screen`] makes lines of that; here are the terminal and its keys. A terminal that does not
//! take what we write holds up nobody but us.

mod feed;
mod history;
mod screen;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, poll, read};
use crossterm::terminal::{self, ClearType};
use crossterm::{cursor, queue};

use super::style::Style;
use super::{Failure, Out};
use feed::Feed;
use screen::View;

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(250);

/// Shows until the person has seen enough.
pub(super) fn run(control: &Path, no_colour: bool, out: &mut Out<'_>) -> Result<(), Failure> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(Failure::failed("watch needs a terminal; `announcerctl status` does not"));
    }
    let feed = Feed::start(control)?;
    let colour = !no_colour && Style::of_stdout().colour;
    let _guard = Raw::enter(out).map_err(|e| Failure::failed(format!("the terminal: {e}")))?;
    let mut view = View::default();
    loop {
        let (columns, rows) = terminal::size().unwrap_or((80, 24));
        let style = Style { colour, width: usize::from(columns).max(20) };
        feed.pause(view.paused);
        let lines =
            feed.look(|data| screen::render(data, &mut view, usize::from(rows), style, SystemTime::now()));
        draw(&lines, out)?;
        if poll(FRAME).map_err(|e| Failure::failed(format!("the keyboard: {e}")))? {
            // All that has been typed: then one picture.
            while poll(Duration::ZERO).unwrap_or(false) {
                let event = read().map_err(|e| Failure::failed(format!("the keyboard: {e}")))?;
                if pressed(&event, &mut view) {
                    return Ok(());
                }
            }
        }
    }
}

fn draw(lines: &[String], out: &mut Out<'_>) -> Result<(), Failure> {
    queue!(out, cursor::MoveTo(0, 0))?;
    for (n, line) in lines.iter().enumerate() {
        let end = if n + 1 < lines.len() { "\r\n" } else { "" };
        queue!(out, terminal::Clear(ClearType::UntilNewLine))?;
        write!(out, "{line}")?;
        queue!(out, terminal::Clear(ClearType::UntilNewLine))?;
        write!(out, "{end}")?;
    }
    queue!(out, terminal::Clear(ClearType::FromCursorDown))?;
    Ok(out.flush()?)
}

/// What a key does; true if it ends the program.
fn pressed(event: &Event, view: &mut View) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press, .. }) = event else { return false };
    if modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(code, KeyCode::Char('c' | 'd'));
    }
    if view.editing {
        match code {
            KeyCode::Enter => view.editing = false,
            KeyCode::Esc => {
                view.filter.clear();
                view.editing = false;
            }
            KeyCode::Backspace => {
                view.filter.pop();
            }
            KeyCode::Char(c) if !c.is_control() && view.filter.chars().count() < 60 => view.filter.push(*c),
            _ => {}
        }
        view.top = 0;
        return false;
    }
    match code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('p' | ' ') => view.paused = !view.paused,
        KeyCode::Char('/') => view.editing = true,
        KeyCode::Char('j') | KeyCode::Down => view.top = view.top.saturating_add(1),
        KeyCode::Char('k') | KeyCode::Up => view.top = view.top.saturating_sub(1),
        KeyCode::PageDown => view.top = view.top.saturating_add(view.page),
        KeyCode::PageUp => view.top = view.top.saturating_sub(view.page),
        KeyCode::Char('g') | KeyCode::Home => view.top = 0,
        KeyCode::Char('G') | KeyCode::End => view.top = usize::MAX,
        _ => {}
    }
    false
}

/// The terminal as we need it, and as it was when this is dropped.
struct Raw;

impl Raw {
    fn enter(out: &mut Out<'_>) -> io::Result<Self> {
        terminal::enable_raw_mode()?;
        let raw = Raw;
        queue!(out, terminal::EnterAlternateScreen, cursor::Hide)?;
        out.flush()?;
        Ok(raw)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mending.
        // (The lock on it is this thread's own.)
        let mut out = io::stdout();
        let _ = queue!(out, cursor::Show, terminal::LeaveAlternateScreen);
        let _ = out.flush();
        let _ = terminal::disable_raw_mode();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn type_in(view: &mut View, keys: &[KeyCode]) -> bool {
        keys.iter().any(|k| pressed(&Event::Key(KeyEvent::new(*k, KeyModifiers::NONE)), view))
    }

    #[test]
    fn keys_scroll_filter_pause_and_end() {
        let mut view = View { page: 10, ..View::default() };
        assert!(!type_in(&mut view, &[KeyCode::Down, KeyCode::PageDown, KeyCode::Up, KeyCode::Char(' ')]));
        assert_eq!((view.top, view.paused), (10, true));
        assert!(!type_in(&mut view, &[KeyCode::Char('/'), KeyCode::Char('q'), KeyCode::Char('x')]));
        assert_eq!((view.filter.as_str(), view.top), ("qx", 0));
        assert!(!type_in(&mut view, &[KeyCode::Backspace, KeyCode::Enter]));
        assert_eq!((view.filter.as_str(), view.editing), ("q", false));
        assert!(type_in(&mut view, &[KeyCode::Char('q')]));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(pressed(&Event::Key(interrupt), &mut view));
    }
}

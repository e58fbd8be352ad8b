//! One HTTP client: reads a request's head, sends a page, closes. Every wait and every size is bounded.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Answer, Page, Pages};

/// Bytes of a request's head.
const HEAD: usize = 8 * 1024;
/// For the whole head to arrive.
const READ: Duration = Duration::from_secs(5);
/// For the whole answer to be taken.
const WRITE: Duration = Duration::from_secs(10);
/// Bytes of a request's body that are read and dropped, so that closing does not reset the answer away.
const LINGER: usize = 64 * 1024;

/// What a request's first line asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wish {
    Page { page: Page, head_only: bool },
    Refused(u16, &'static str),
}

/// `asked` becomes true as soon as the request is there.
pub(super) async fn serve(mut stream: TcpStream, pages: &Pages, asked: &AtomicBool) -> io::Result<()> {
    let head = timeout(READ, read_head(&mut stream)).await;
    asked.store(true, Relaxed);
    let wish = match head {
        Ok(head) => match head? {
            Some(head) => understand(&head),
            None => Wish::Refused(431, "the request is too large\n"),
        },
        Err(_) => Wish::Refused(408, "the request took too long\n"),
    };
    let (answer, head_only) = match wish {
        Wish::Page { page, head_only } => (pages.get(page).await, head_only),
        Wish::Refused(code, why) => (std::sync::Arc::new(Answer::text(code, why)), false),
    };
    timeout(WRITE, send(&mut stream, &answer, head_only)).await??;
    // Closing with unread bytes would reset the connection under the answer.
    let _ = timeout(Duration::from_secs(1), drain(&mut stream)).await;
    Ok(())
}

/// The head with its empty line; None if it is beyond bounds. An end of stream before that is an error.
async fn read_head(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // What was looked at already has no end, but may have the beginning of one.
        let seen = head.len().saturating_sub(3);
        head.extend_from_slice(piece.get(..count).unwrap_or_default());
        if is_whole(head.get(seen..).unwrap_or_default()) {
            return Ok(Some(head));
        }
        if head.len() > HEAD {
            return Ok(None);
        }
    }
}

fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|w| w == b"\r\n\r\n") || head.windows(2).any(|w| w == b"\n\n")
}

fn understand(head: &[u8]) -> Wish {
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else {
        return Wish::Refused(400, "this is no HTTP\n");
    };
    let mut words = line.trim_end().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Wish::Refused(400, "this is no HTTP\n");
    };
    if !version.starts_with("HTTP/1.") {
        return Wish::Refused(505, "HTTP/1.1 is spoken here\n");
    }
    let page = match target.split('?').next().unwrap_or(target) {
        "/metrics" => Page::Metrics,
        "/healthz" => Page::Health,
        "/status" => Page::Status,
        _ => return Wish::Refused(404, "there are /metrics, /healthz and /status\n"),
    };
    match method {
        "GET" => Wish::Page { page, head_only: false },
        "HEAD" => Wish::Page { page, head_only: true },
        _ => Wish::Refused(405, "GET and HEAD only: nothing can be changed here\n"),
    }
}

async fn send(stream: &mut TcpStream, answer: &Answer, head_only: bool) -> io::Result<()> {
    let Answer { code, content_type, body } = answer;
    let (phrase, length) = (phrase(*code), body.len());
    let allow = if *code == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {code} {phrase}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    if !head_only {
        stream.write_all(body.as_bytes()).await?;
    }
    stream.shutdown().await
}

async fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let mut rest = [0; 4096];
    let mut seen = 0;
    while seen < LINGER {
        match stream.read(&mut rest).await? {
            0 => break,
            count => seen += count,
        }
    }
    Ok(())
}

fn phrase(code: u16) -> &'static str {
    match code {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(head: &str) -> u16 {
        match understand(head.as_bytes()) {
            Wish::Page { .. } => 200,
            Wish::Refused(code, _) => code,
        }
    }

    #[test]
    fn requests_are_understood_or_refused() {
        let page = |page, head_only| Wish::Page { page, head_only };
        assert_eq!(understand(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), page(Page::Metrics, false));
        assert_eq!(understand(b"HEAD /healthz?full=1 HTTP/1.0\n\n"), page(Page::Health, true));
        assert_eq!(code("POST /status HTTP/1.1\r\n\r\n"), 405);
        assert_eq!(code("GET / HTTP/1.1\r\n\r\n"), 404);
        assert_eq!(code("GET /metrics HTTP/2\r\n\r\n"), 505);
        assert_eq!(code("GET  /metrics HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(code("\r\n\r\n"), 400);
    }

    proptest! {
        #[test]
        fn no_request_panics(head in any::<Vec<u8>>()) {
            let _ = (understand(&head), is_whole(&head));
        }
    }
}

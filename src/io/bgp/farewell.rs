//! The end of a connection: the last words must arrive.

use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::time::timeout;

use super::connection::Live;

/// How long TCP may take the last words.
const SAY: Duration = Duration::from_millis(1500);
/// How long the peer may take to close too.
const DRAIN: Duration = Duration::from_secs(1);

/// Writes the last words and closes in order: closing with unread octets would send a reset, which can overtake what
/// the peer has not read yet (RFC 1122 section 4.2.2.13). A peer that takes nothing gets that reset.
pub(super) async fn farewell(live: Arc<Live>, last_words: Vec<u8>) {
    let socket = SockRef::from(&live.stream);
    if !matches!(timeout(SAY, live.say(&last_words)).await, Ok(Ok(()))) {
        let _ = socket.set_linger(Some(Duration::ZERO));
        return;
    }
    if socket.shutdown(Shutdown::Write).is_ok() {
        let _ = timeout(DRAIN, live.drain()).await;
    }
}

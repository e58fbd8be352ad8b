//! A web server just large enough for a health check.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use super::{Doing, Host, Result};

/// Serves until dropped.
#[derive(Debug)]
pub struct Web {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Serves `address` on `host`, also while the host does not have it; each connection goes to `serve`, in a
    /// thread of its own.
    pub fn start(
        host: &Host,
        address: SocketAddrV4,
        serve: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Result<Self> {
        let doing = || format!("opening the web server of {}", host.name());
        let listener = host.in_network(|| listen(address).doing(doing()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, serve) = (stop.clone(), Arc::new(serve));
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                if !matches!(poll(&mut fds, PollTimeout::from(50u8)), Ok(n) if n > 0) {
                    continue;
                }
                let Ok((stream, _)) = listener.accept() else { continue };
                let serve = serve.clone();
                std::thread::spawn(move || {
                    let limit = Some(Duration::from_secs(2));
                    if stream.set_read_timeout(limit).and(stream.set_write_timeout(limit)).is_ok() {
                        serve(stream);
                    }
                });
            }
        });
        Ok(Web { stop, thread: Some(thread) })
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(address: SocketAddrV4) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_freebind_v4(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}

/// Port 80 of an address.
pub fn http(address: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(address, 80)
}

/// Reads a request (its end is enough) and answers 200 with the body "ok".
pub fn answer_ok(mut stream: impl Read + Write) {
    let (mut request, mut buffer) = (Vec::<u8>::new(), [0; 1024]);
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 && request.len() < 65536 => request.extend(&buffer[..length]),
            _ => return,
        }
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
    let _ = stream.flush();
}

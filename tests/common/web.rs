//! Web servers for tests: one answer, whatever is asked.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server that lives as long as the test process; its listener is in the namespace of the thread that made it.
pub struct Server {
    requests: Arc<Mutex<Vec<String>>>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Server {
    pub fn plain(at: &str, answer: String) -> Self {
        Self::serve(at, move |stream, requests| reply(stream, &answer, requests))
    }

    /// A body without an end.
    pub fn endless(at: &str) -> Self {
        Self::serve(at, |mut stream, requests| {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            reply(&mut stream, head, requests)?;
            loop {
                write!(stream, "4000\r\n{}\r\n", "x".repeat(0x4000))?;
            }
        })
    }

    /// Says so much and then nothing, with the connection open.
    pub fn stalling(at: &str, answer: String) -> Self {
        Self::serve(at, move |mut stream, requests| {
            reply(&mut stream, &answer, requests)?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        })
    }

    pub fn tls(at: &str, answer: String, config: Arc<ServerConfig>) -> Self {
        Self::serve(at, move |stream, requests| {
            let connection = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            reply(&mut stream, &answer, requests)?;
            stream.conn.send_close_notify();
            stream.flush()
        })
    }

    /// The heads of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn serve(
        at: &str,
        answer: impl Fn(TcpStream, &Mutex<Vec<String>>) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(at).unwrap();
        let requests = Arc::default();
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is no error of the server's.
                let _ = answer(stream.unwrap(), &seen);
            }
        });
        Server { requests }
    }
}

fn reply(mut stream: impl Stream, answer: &str, requests: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    requests.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    stream.write_all(answer.as_bytes())?;
    stream.flush()
}

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A server for that name, and for 203.0.113.80.
    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let names = vec![name.to_owned(), "203.0.113.80".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

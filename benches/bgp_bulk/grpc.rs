//! As much of gRPC (HTTP/2, RFC 9113) as it takes to fill GoBGP's table by one AddPathStream, which is its fastest way:
//! its command-line tool ends such a stream before all of it was taken.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::speakers::prefix;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
/// Paths in a message: it fits into one frame, of 16,384 octets at most.
const BATCH: usize = 40;

/// The stream, open.
pub struct AddPathStream {
    tcp: TcpStream,
    /// What may be sent on the connection, and on the stream.
    windows: [i64; 2],
}

impl AddPathStream {
    pub fn open(mut tcp: TcpStream) -> std::io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        frame(&mut tcp, SETTINGS, 0, 0, &[])?;
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/apipb.GobgpApi/AddPathStream"),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            // RFC 7541 section 6.2.2: a literal that nobody indexes.
            block.push(0);
            for text in [name, value] {
                block.push(text.len() as u8);
                block.extend(text.as_bytes());
            }
        }
        frame(&mut tcp, HEADERS, 0x4, 1, &block)?;
        Ok(AddPathStream { tcp, windows: [65535; 2] })
    }

    /// Sends messages, as the server lets us.
    pub fn send(&mut self, messages: &[Vec<u8>]) -> std::io::Result<()> {
        for message in messages {
            while self.windows.iter().any(|window| *window < message.len() as i64) {
                self.hear()?;
            }
            frame(&mut self.tcp, DATA, 0, 1, message)?;
            self.windows.iter_mut().for_each(|window| *window -= message.len() as i64);
        }
        Ok(())
    }

    fn hear(&mut self) -> std::io::Result<()> {
        let mut header = [0; 9];
        self.tcp.read_exact(&mut header)?;
        let mut body = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
        self.tcp.read_exact(&mut body)?;
        let number = |at: usize| i64::from(u32::from_be_bytes(body[at..at + 4].try_into().unwrap()));
        match (header[3], header[4] & 1) {
            (SETTINGS, 0) => {
                for setting in body.chunks(6).filter(|setting| setting[1] == 4) {
                    self.windows[1] +=
                        i64::from(u32::from_be_bytes(setting[2..].try_into().unwrap())) - 65535;
                }
                frame(&mut self.tcp, SETTINGS, 1, 0, &[])
            }
            (PING, 0) => frame(&mut self.tcp, PING, 1, 0, &body),
            (WINDOW_UPDATE, _) => {
                self.windows[usize::from(header[8])] += number(0);
                Ok(())
            }
            (HEADERS | GOAWAY, _) => Err(std::io::Error::other(format!("refused: {body:?}"))),
            _ => Ok(()),
        }
    }
}

fn frame(tcp: &mut TcpStream, kind: u8, flags: u8, stream: u32, body: &[u8]) -> std::io::Result<()> {
    let mut octets = (body.len() as u32).to_be_bytes()[1..].to_vec();
    octets.extend([kind, flags]);
    octets.extend(stream.to_be_bytes());
    octets.extend(body);
    tcp.write_all(&octets)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field that is a number (protobuf's wire type 0).
fn number(out: &mut Vec<u8>, field: u8, value: u32) {
    out.push(field << 3);
    varint(out, value.into());
}

/// A field with a length: text, octets, a message (wire type 2).
fn octets(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend(value);
}

/// A google.protobuf.Any as a field.
fn any(out: &mut Vec<u8>, field: u8, name: &str, value: &[u8]) {
    let mut message = Vec::new();
    octets(&mut message, 1, format!("type.googleapis.com/apipb.{name}").as_bytes());
    octets(&mut message, 2, value);
    octets(out, field, &message);
}

fn path(n: u32, distinct: bool, announce: bool) -> Vec<u8> {
    let mut family = Vec::new();
    number(&mut family, 1, 2);
    number(&mut family, 2, 1);
    let mut nlri = Vec::new();
    number(&mut nlri, 1, 64);
    octets(&mut nlri, 2, prefix(n).to_string().as_bytes());
    let (mut path, mut origin, mut reach, mut med) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    any(&mut path, 1, "IPAddressPrefix", &nlri);
    number(&mut origin, 1, 0);
    any(&mut path, 2, "OriginAttribute", &origin);
    octets(&mut reach, 1, &family);
    octets(&mut reach, 2, b"2001:db8:ffff::2");
    any(&mut reach, 3, "IPAddressPrefix", &nlri);
    any(&mut path, 2, "MpReachNLRIAttribute", &reach);
    if distinct {
        number(&mut med, 1, n);
        any(&mut path, 2, "MultiExitDiscAttribute", &med);
    }
    number(&mut path, 5, u32::from(!announce));
    octets(&mut path, 9, &family);
    path
}

/// The messages that announce or withdraw all.
pub fn messages(count: u32, distinct: bool, announce: bool) -> Vec<Vec<u8>> {
    let numbers: Vec<u32> = (0..count).collect();
    let message = |some: &[u32]| {
        let mut request = Vec::new();
        some.iter().for_each(|n| octets(&mut request, 3, &path(*n, distinct, announce)));
        let mut message = vec![0];
        message.extend((request.len() as u32).to_be_bytes());
        message.extend(request);
        message
    };
    numbers.chunks(BATCH).map(message).collect()
}

//! The primary's HTTPS: a certificate for www.example.com from a certificate authority of the test's own.

use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;

use announcerd::demo::lab::Host;
use announcerd::demo::lab::web::{Web, answer_ok};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Where Debian keeps the authorities that programs trust.
pub const AUTHORITIES: &str = "/etc/ssl/certs";

/// Serves https://www.example.com/ at `address`; `trusting` trusts the authority as a Debian machine would.
pub fn serve(host: &Host, address: Ipv4Addr, trusting: &Host) -> Web {
    serve_as("www.example.com", host, address, trusting, |stream| answer_ok(stream))
}

/// The same for another name (or address), and with answers of one's own.
pub fn serve_as(
    name: &str,
    host: &Host,
    address: Ipv4Addr,
    trusting: &Host,
    answer: impl Fn(&mut StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> Web {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "announcerd test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec![name.to_owned()];
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    trusting.write(format!("{AUTHORITIES}/ca-certificates.crt"), authority.pem()).unwrap();

    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let https = move |stream: TcpStream| {
        let Ok(connection) = ServerConnection::new(config.clone()) else { return };
        let mut stream = StreamOwned::new(connection, stream);
        answer(&mut stream);
        stream.conn.send_close_notify();
        let _ = stream.conn.complete_io(&mut stream.sock);
    };
    Web::start(host, SocketAddrV4::new(address, 443), https).unwrap()
}

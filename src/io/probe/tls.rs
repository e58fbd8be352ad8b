//! TLS for `https` checks and `notify_url`: which certificates are trusted.
//!
//! A configuration is built once for each trust policy and shared; a client over it costs a microsecond. Sessions are
//! never resumed: a check that resumes does not see that the certificate has expired.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::Fault;
use super::offthread::Threads;
use crate::config::model::Name;

/// Whom to trust.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Trust {
    /// PEM certificates instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Anybody.
    pub insecure: bool,
    /// The name to verify, if it is not the one that is connected to.
    pub name: Option<ServerName<'static>>,
}

/// Configurations that are built already.
#[derive(Debug, Default)]
pub struct Cache(Mutex<HashMap<Trust, ClientConfig>>);

impl Cache {
    /// The configuration for `trust`; files are read on a thread, the first time.
    ///
    /// # Errors
    /// [`Fault::Ours`]: the certificates cannot be read.
    pub async fn get(&self, trust: Trust, threads: &Threads, check: &Name) -> Result<ClientConfig, Fault> {
        if let Some(config) = self.lock().get(&trust) {
            return Ok(config.clone());
        }
        let wanted = trust.clone();
        let built = threads.run(check, move |_place| build(&wanted)).await?;
        let config = built.map_err(Fault::Ours)?;
        self.lock().insert(trust, config.clone());
        Ok(config)
    }

    /// Forgets everything: the files may have changed.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Trust, ClientConfig>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For other clients than checks: the system's certificates are trusted. Reads files.
///
/// # Errors
/// There are none, in words.
pub fn system_tls() -> Result<ClientConfig, String> {
    build(&Trust { ca_file: None, insecure: false, name: None })
}

/// For clients that will not use it.
///
/// # Errors
/// In words.
pub fn no_tls() -> Result<ClientConfig, String> {
    build(&Trust { ca_file: None, insecure: true, name: None })
}

fn build(trust: &Trust) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = if trust.insecure {
        Arc::new(Anybody(provider.clone()))
    } else {
        let roots = match &trust.ca_file {
            Some(path) => file_roots(path)?,
            None => system_roots()?,
        };
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let webpki = webpki.build().map_err(|e| format!("certificates: {e}"))?;
        match trust.name.clone() {
            Some(name) => Arc::new(Named { name, webpki }),
            None => webpki,
        }
    };
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| format!("TLS: {e}"))?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn file_roots(path: &Path) -> Result<RootCertStore, String> {
    let place = path.display();
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|e| format!("cannot read ca_file {place}: {e}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|e| format!("ca_file {place}: {e}"))?;
        roots.add(certificate).map_err(|e| format!("ca_file {place}: {e}"))?;
    }
    if roots.is_empty() { Err(format!("ca_file {place} holds no PEM certificate")) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let why = found.errors.first().map(|e| format!(" ({e})")).unwrap_or_default();
    Err(format!("this machine has no CA certificates{why}: install ca-certificates or set ca_file"))
}

/// `insecure`: the certificate is not looked at; the handshake must be sound all the same.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies for a name other than the one connected to: `connect_to` with an address as the URL's host.
#[derive(Debug)]
struct Named {
    name: ServerName<'static>,
    webpki: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.webpki.verify_server_cert(end_entity, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

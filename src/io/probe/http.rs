//! `http` and `https`: one request on a connection of its own. Redirects, proxies and cookies are not followed.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use regex::Regex;
use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, Url};
use rustls::pki_types::ServerName;

use super::deadline::Deadline;
use super::target::{self, is_local, unanswered};
use super::tls::Trust;
use super::{Fault, Kit, Verdict};
use crate::announcer::own::OwnPrefixes;
use crate::config::model::{Host, Http, Name};
use crate::io::child::words;

/// Bytes of a body that are searched; the rest is not read.
const MAX_BODY: usize = 1 << 20;
/// A body larger than this is searched on a thread.
const LARGE_BODY: usize = 16 << 10;

/// Asks once and judges status and body.
pub async fn probe(kit: &Kit, check: &Name, http: &Http, timeout: Duration, own: &OwnPrefixes) -> Verdict {
    let (start, deadline) = (Instant::now(), Deadline::new(timeout));
    let url = Url::parse(&http.url).map_err(|e| ours(format!("url {}: {e}", http.url)))?;
    let way = Way::new(kit, http, url, own)?;
    target::route(way.to, &http.origin)?;
    let client = way.client(kit, check, http).await?;
    let method = Method::from_bytes(http.method.as_bytes());
    let method = method.map_err(|_| ours(format!("`{}` is no HTTP method", http.method)))?;
    let request = client.request(method, way.url.clone()).headers(headers(http, &way)?);
    let response = deadline.wait(way.to.ip(), request.send()).await?.map_err(|e| fault(&e, way.to))?;
    judge_status(http, response.status().as_u16())?;
    if let Some(pattern) = &http.expect_body {
        let body = deadline.wait(way.to.ip(), read_body(response, way.to)).await??;
        judge_body(kit, check, pattern, body).await?;
    }
    Ok(Some(start.elapsed()))
}

/// The name in a URL that has to be looked up, as it is looked up (lower case, punycode); none if it is an address.
pub fn name_in(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    literal(host).is_none().then(|| host.to_owned())
}

/// The address that a URL's host is.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_matches(['[', ']']).parse().ok()
}

/// Where to connect, and under which name.
struct Way {
    url: Url,
    to: SocketAddr,
    /// The URL's own host and port, where `url` had to be changed to go to `connect_to`.
    replaced: Option<(IpAddr, String)>,
}

impl Way {
    fn new(kit: &Kit, http: &Http, mut url: Url, own: &OwnPrefixes) -> Result<Self, Fault> {
        let name = url.host_str().unwrap_or_default().to_owned();
        let literal = literal(&name);
        let host = match (&http.connect_to, literal) {
            (Some(host), _) => host.clone(),
            (None, Some(address)) => Host::Address(address),
            (None, None) => Host::Name(name.clone()),
        };
        let address = target::address(kit, &host, &http.origin, own)?;
        let port = url.port_or_known_default().unwrap_or(80);
        let mut replaced = None;
        // A name is pointed elsewhere by our own resolver. An address is never resolved: the URL itself has to change.
        if let (Some(literal), Some(_)) = (literal, &http.connect_to) {
            replaced = Some((literal, authority(&name, url.port())));
            url.set_ip_host(address).map_err(|()| ours(format!("url {} has no host", http.url)))?;
        }
        Ok(Way { url, to: SocketAddr::new(address, port), replaced })
    }

    /// A client for this one request; connections are not kept, since a check wants to see that new ones work.
    async fn client(&self, kit: &Kit, check: &Name, http: &Http) -> Result<Client, Fault> {
        let mut builder = Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("announcerd/", env!("CARGO_PKG_VERSION")))
            .local_address(http.origin.source)
            .resolve(self.url.host_str().unwrap_or_default(), self.to);
        if let Some(device) = &http.origin.device {
            builder = builder.interface(device);
        }
        let name = self.replaced.as_ref().map(|(literal, _)| ServerName::from(*literal));
        let trust = Trust { ca_file: http.ca_file.clone(), insecure: http.insecure, name };
        let config = if self.url.scheme() == "https" {
            kit.tls.get(trust, &kit.threads, check).await?
        } else {
            // Plain HTTP never looks at it; without one, reqwest would read the system's certificates.
            kit.tls.get(Trust { ca_file: None, insecure: true, name: None }, &kit.threads, check).await?
        };
        builder.tls_backend_preconfigured(config).build().map_err(|e| ours(format!("HTTP client: {e}")))
    }
}

fn authority(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn headers(http: &Http, way: &Way) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    if let Some((_, authority)) = &way.replaced
        && let Ok(value) = HeaderValue::from_str(authority)
    {
        headers.insert(HOST, value);
    }
    for (name, value) in &http.headers {
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|e| ours(format!("header {name}: {e}")))?;
        let value = HeaderValue::from_str(value).map_err(|e| ours(format!("header {name}: {e}")))?;
        if key == HOST {
            headers.insert(key, value);
        } else {
            headers.append(key, value);
        }
    }
    Ok(headers)
}

fn judge_status(http: &Http, status: u16) -> Result<(), Fault> {
    if http.expect_status.iter().any(|(first, last)| (*first..=*last).contains(&status)) {
        return Ok(());
    }
    let range = |(first, last): &(u16, u16)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    let expected: Vec<String> = http.expect_status.iter().map(range).collect();
    Err(Fault::Theirs(format!("status {status}, expected {}", expected.join(", "))))
}

async fn read_body(mut response: Response, to: SocketAddr) -> Result<Vec<u8>, Fault> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| fault(&e, to))? {
        let room = MAX_BODY - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() >= MAX_BODY {
            break;
        }
    }
    Ok(body)
}

async fn judge_body(kit: &Kit, check: &Name, pattern: &Regex, body: Vec<u8>) -> Result<(), Fault> {
    let found = if body.len() > LARGE_BODY {
        let pattern = pattern.clone();
        kit.threads.run(check, move |_place| pattern.is_match(&String::from_utf8_lossy(&body))).await?
    } else {
        pattern.is_match(&String::from_utf8_lossy(&body))
    };
    if found { Ok(()) } else { Err(Fault::Theirs(format!("the body does not match `{pattern}`"))) }
}

fn ours(why: String) -> Fault {
    Fault::Ours(why)
}

/// Why a request to `to` failed, in words that do not repeat its URL.
pub fn cause(error: &reqwest::Error, to: SocketAddr) -> String {
    match fault(error, to) {
        Fault::Theirs(why) | Fault::Ours(why) | Fault::Silence { why, .. } => why,
    }
}

/// Finds the cause at the end of reqwest's chain of errors.
fn fault(error: &reqwest::Error, to: SocketAddr) -> Fault {
    let mut link: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = "the request failed".to_owned();
    while let Some(error) = link {
        // An io::Error hides what it wraps: its source() is already the next but one.
        let inner = error.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        let inner = inner.map(|e| e as &(dyn Error + 'static));
        if let Some(tls) = inner.unwrap_or(error).downcast_ref::<rustls::Error>() {
            return Fault::Theirs(tls_words(tls));
        }
        if let Some(e) = error.downcast_ref::<io::Error>().filter(|e| e.raw_os_error().is_some()) {
            return io_fault(e, to);
        }
        if !error.is::<reqwest::Error>() {
            last = error.to_string();
        }
        link = error.source();
    }
    Fault::Theirs(format!("{to}: {last}"))
}

fn tls_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(e) => format!("certificate: {e}"),
        e => format!("TLS: {e}"),
    }
}

fn io_fault(error: &io::Error, to: SocketAddr) -> Fault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Fault::Theirs(format!("connection refused by {to}")),
        _ if is_local(error) => ours(format!("cannot connect to {to}: {}", words(error))),
        _ if unanswered(error) => {
            Fault::Silence { to: to.ip(), why: format!("connection to {to}: {}", words(error)) }
        }
        _ => Fault::Theirs(format!("connection to {to}: {}", words(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_urls() {
        assert_eq!(name_in("https://www.example.com/healthz"), Some("www.example.com".into()));
        assert_eq!(name_in("http://user@WWW.example.com:8080?x"), Some("www.example.com".into()));
        assert_eq!(name_in("http://198.18.0.1:80/"), None);
        assert_eq!(name_in("http://[2001:db8::1]:80/"), None);
    }
}

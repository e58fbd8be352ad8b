//! Reads the keys of an http check.

use std::net::IpAddr;

use regex::Regex;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

use super::model::{Host, Http};
use super::probe::{agree, origin};
use super::reader::{Item, Table};
use super::report::brief;
use super::values;

/// Headers that frame the message: the client's business alone.
const FRAMING: &[&str] = &["connection", "content-length", "transfer-encoding", "te", "trailer", "upgrade"];

pub(super) fn read(table: &mut Table<'_, '_>) -> Option<Http> {
    let url = table.need("url", "\"https://www.example.com/healthz\"", |i| url(&i));
    let method = table.or("method", "GET".to_owned(), |i| method(&i));
    let headers = table.or("headers", Vec::new(), |i| headers(&i));
    let connect_to = table.get("connect_to", |i| values::host(&i));
    let expect_status = table.or("expect_status", vec![(200, 299)], |i| statuses(&i));
    let expect_body = table.get("expect_body", |i| pattern(&i));
    let ca_file = table.get("ca_file", |i| values::path(&i));
    let insecure = table.or("insecure", false, |i| i.boolean());
    let origin = origin(table, false);

    if insecure && ca_file.is_some() {
        table.error("insecure", "contradicts `ca_file`: either the certificate is verified or it is not");
    }
    if url.as_ref().is_some_and(|u| u.scheme() == "http") {
        for key in ["ca_file", "insecure"] {
            if table.has(key) && (key != "insecure" || insecure) {
                table.warning(key, "has no effect on an http URL; is https meant?");
            }
        }
    }
    let literal = url.as_ref().and_then(literal_host).map(Host::Address);
    let (target, key) = match &connect_to {
        Some(_) => (connect_to.as_ref(), "connect_to"),
        None => (literal.as_ref(), "url"),
    };
    agree(table, target, &origin, key);
    Some(Http {
        url: url?.to_string(),
        method,
        headers,
        connect_to,
        expect_status,
        expect_body,
        ca_file,
        insecure,
        origin,
    })
}

/// The address in a URL that names its host by one.
pub(super) fn literal_host(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn url(item: &Item<'_, '_>) -> Option<Url> {
    let text = item.word()?;
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(_) if !text.contains("://") => {
            return item
                .fail(format!("{} is no URL; write it as https://www.example.com/healthz", brief(text)));
        }
        Err(error) => return item.fail(format!("{} is no URL: {error}", brief(text))),
    };
    if !matches!(url.scheme(), "http" | "https") {
        return item.fail(format!("must begin with http:// or https://, not {}://", url.scheme()));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return item.fail("names no host");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return item.fail("must not hold a user or a password; send them with `headers`");
    }
    if url.fragment().is_some() {
        return item.fail("has a fragment (`#…`), which is never sent; leave it out");
    }
    match literal_host(&url) {
        Some(address) => values::unicast(item, address).map(|_| url),
        None => Some(url),
    }
}

fn method(item: &Item<'_, '_>) -> Option<String> {
    let text = item.word()?;
    if text.eq_ignore_ascii_case("connect") {
        return item.fail("CONNECT is for proxies; use GET, HEAD or another method");
    }
    // RFC 9110 section 9.1: a token, and case-sensitive; every method in use is in capitals.
    if text.len() <= 32 && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
        Some(text.to_owned())
    } else {
        item.fail(format!("{} is no method; write it in capitals, as \"GET\" or \"HEAD\"", brief(text)))
    }
}

fn headers(item: &Item<'_, '_>) -> Option<Vec<(String, String)>> {
    let table = item.table("check.headers")?;
    let headers: Vec<_> = table.in_order().into_iter().map(|(name, value)| header(name, &value)).collect();
    headers.into_iter().collect()
}

fn header(name: &str, value: &Item<'_, '_>) -> Option<(String, String)> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return value.fail(format!("{} is no name of a header", brief(name)));
    }
    if FRAMING.contains(&name.to_ascii_lowercase().as_str()) {
        return value.fail(format!("`{name}` is set by the HTTP client itself"));
    }
    let text = value.text()?;
    match HeaderValue::from_str(text) {
        Ok(_) => Some((name.to_owned(), text.to_owned())),
        Err(_) => value.fail("a header's value is visible ASCII characters and spaces"),
    }
}

fn statuses(item: &Item<'_, '_>) -> Option<Vec<(u16, u16)>> {
    if !item.is_array() {
        return status(item).map(|range| vec![range]);
    }
    let ranges = item.list(status)?;
    if ranges.is_empty() { item.fail("is empty, so that no answer would do") } else { Some(ranges) }
}

fn status(item: &Item<'_, '_>) -> Option<(u16, u16)> {
    const ALL: std::ops::RangeInclusive<u64> = 100..=599;
    if !item.is_string() {
        return item.integer(ALL).map(|code: u16| (code, code));
    }
    let text = item.word()?;
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let code = |t: &str| t.parse::<u16>().ok().filter(|c| ALL.contains(&u64::from(*c)) && t.len() == 3);
    match (code(low), code(high)) {
        (Some(low), Some(high)) if low <= high => Some((low, high)),
        (Some(low), Some(high)) => item.fail(format!("goes backwards; write \"{high}-{low}\"")),
        _ => item.fail(format!("{} is no status; write 301 or \"200-299\" (100 to 599)", brief(text))),
    }
}

fn pattern(item: &Item<'_, '_>) -> Option<Regex> {
    let text = item.text()?;
    match Regex::new(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            // The last line says what is wrong; those before draw the expression, which the excerpt shows already.
            let words = error.to_string();
            let last = words.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            item.fail(format!("is no regular expression: {last}"))
        }
    }
}

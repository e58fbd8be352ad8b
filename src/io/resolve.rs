//! Names to addresses, such that no probe ever waits for DNS.
//!
//! A name is looked up beside the probes, at most once at a time, and its last address is used until a look-up brings
//! another. A name that was never resolved has no address, and says why.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::child::words;
use crate::net::{Family, family_of};

/// An address is looked up again after this.
const REFRESH: Duration = Duration::from_secs(30);
/// A failed look-up is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// Look-ups at the same time, for all names: each holds a thread while a DNS server is silent.
const AT_ONCE: usize = 16;

/// A look-up in the making.
pub type LookupFuture = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
/// How a name is looked up.
pub type Lookup = fn(String) -> LookupFuture;

/// The cache. Clones share it.
#[derive(Clone, Debug)]
pub struct Resolver {
    lookup: Lookup,
    names: Arc<Mutex<HashMap<String, Entry>>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Entry {
    addresses: Vec<IpAddr>,
    error: Option<String>,
    again: Option<Instant>,
    in_flight: bool,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver::new(system)
    }
}

/// getaddrinfo(3) on a thread of its own.
fn system(name: String) -> LookupFuture {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|a| a.ip()).collect()) })
}

impl Resolver {
    /// A cache over this look-up.
    pub fn new(lookup: Lookup) -> Self {
        Resolver { lookup, names: Arc::default(), permits: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// The last known address of `name`, at once: of that family if given, else IPv4 before IPv6. Starts a look-up
    /// beside it if one is due.
    ///
    /// # Errors
    /// In words, if no such address is known (yet).
    pub fn address(&self, name: &str, family: Option<Family>) -> Result<IpAddr, String> {
        self.refresh(name);
        let names = self.lock();
        let (addresses, error) =
            names.get(name).map_or((&[][..], None), |e| (&e.addresses[..], e.error.as_ref()));
        let of = |family| addresses.iter().copied().find(|a| family_of(*a) == family);
        let found = match family {
            Some(family) => of(family),
            None => of(Family::V4).or_else(|| of(Family::V6)),
        };
        found.ok_or_else(|| match (error, family) {
            (_, Some(Family::V4)) if !addresses.is_empty() => format!("{name} has no IPv4 address"),
            (_, Some(Family::V6)) if !addresses.is_empty() => format!("{name} has no IPv6 address"),
            (Some(error), _) => format!("{name} does not resolve: {error}"),
            (None, _) => format!("{name} is still being looked up"),
        })
    }

    /// Forgets every name but these, and starts to look up those of them that are new.
    pub fn retain(&self, live: &HashSet<String>) {
        self.lock().retain(|name, _| live.contains(name));
        for name in live {
            self.refresh(name);
        }
    }

    fn refresh(&self, name: &str) {
        let mut names = self.lock();
        if !names.contains_key(name) {
            names.insert(name.to_owned(), Entry::default());
        }
        let Some(entry) = names.get_mut(name) else { return };
        if entry.in_flight || entry.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        entry.in_flight = true;
        let (this, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            let _permit = this.permits.acquire().await;
            let result = (this.lookup)(name.clone()).await;
            this.learn(&name, result);
        });
    }

    fn learn(&self, name: &str, result: io::Result<Vec<IpAddr>>) {
        let mut names = self.lock();
        // None: forgotten in the meantime.
        let Some(entry) = names.get_mut(name) else { return };
        entry.in_flight = false;
        let error = match result {
            Ok(addresses) if !addresses.is_empty() => {
                entry.addresses = keep_first(&entry.addresses, addresses);
                entry.error = None;
                entry.again = Some(Instant::now() + REFRESH);
                return;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(e) => reason(&e),
        };
        if entry.error.is_none() && !entry.addresses.is_empty() {
            let last = entry.addresses.first();
            tracing::warn!("{name} no longer resolves ({error}); its last address {last:?} stays in use");
        }
        entry.error = Some(error);
        entry.again = Some(Instant::now() + RETRY);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Servers rotate their answers; an address that still holds stays in use, for each family.
fn keep_first(old: &[IpAddr], mut new: Vec<IpAddr>) -> Vec<IpAddr> {
    for used in [true, false].iter().filter_map(|v4| old.iter().find(|a| a.is_ipv4() == *v4)) {
        if let Some(at) = new.iter().position(|a| a == used) {
            new[..=at].rotate_right(1);
        }
    }
    new
}

/// glibc's words come with a prefix that says nothing.
fn reason(error: &io::Error) -> String {
    let text = words(error);
    text.strip_prefix("failed to lookup address information: ").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// As if REFRESH and RETRY had passed.
    fn expire(resolver: &Resolver) {
        resolver.lock().values_mut().for_each(|entry| entry.again = None);
    }

    fn refused(_: String) -> LookupFuture {
        Box::pin(async {
            Err(io::Error::other("failed to lookup address information: Name or service not known"))
        })
    }

    fn silent(_: String) -> LookupFuture {
        Box::pin(std::future::pending())
    }

    #[tokio::test]
    async fn a_name_that_never_resolved_says_why() {
        let resolver = Resolver::new(refused);
        assert_eq!(
            resolver.address("mainland.example", None),
            Err("mainland.example is still being looked up".into())
        );
        settle().await;
        let error = resolver.address("mainland.example", None).unwrap_err();
        assert_eq!(error, "mainland.example does not resolve: Name or service not known");
    }

    #[tokio::test]
    async fn dead_dns_delays_nothing_and_holds_one_lookup_a_name() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|name| {
            CALLS.fetch_add(1, Ordering::SeqCst);
            silent(name)
        });
        for _ in 0..50 {
            assert!(resolver.address("mainland.example", None).is_err());
            expire(&resolver);
            settle().await;
        }
        assert_eq!(CALLS.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_last_address_is_used_when_the_name_no_longer_resolves() {
        static CALLS: AtomicUsize = AtomicUsize::new(0);
        let resolver = Resolver::new(|name| match CALLS.fetch_add(1, Ordering::SeqCst) {
            0 => Box::pin(async { Ok(vec!["2001:db8::7".parse().unwrap(), "198.18.0.1".parse().unwrap()]) }),
            1 => refused(name),
            _ => silent(name),
        });
        resolver.retain(&HashSet::from(["mainland.example".to_owned()]));
        settle().await;
        for _ in 0..10 {
            assert_eq!(resolver.address("mainland.example", None), Ok("198.18.0.1".parse().unwrap()));
            let v6 = resolver.address("mainland.example", Some(Family::V6));
            assert_eq!(v6, Ok("2001:db8::7".parse().unwrap()));
            expire(&resolver);
            settle().await;
        }
        assert_eq!(CALLS.load(Ordering::SeqCst), 3);
        resolver.retain(&HashSet::new());
        assert!(resolver.lock().is_empty());
    }

    #[test]
    fn a_rotated_answer_changes_nothing() {
        let a: Vec<IpAddr> = ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(|a| a.parse().unwrap()).to_vec();
        let rotated = vec![a[2], a[1], a[0]];
        let kept = keep_first(&a, rotated);
        assert_eq!(kept.iter().find(|x| x.is_ipv4()), Some(&a[0]));
        assert_eq!(keep_first(&a, vec![a[1]]), [a[1]]);
    }
}

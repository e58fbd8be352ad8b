//! What carries traffic on and needs no tunnel: next hops and policy rules, on the ordinary machine's kernel.

#[path = "../support/mod.rs"]
#[allow(dead_code, reason = "every test binary uses a part of it")]
mod support;

mod edge;
mod gateways;
mod lab;
mod loss;
mod stream;

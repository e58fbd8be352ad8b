//! End-to-end tests in network namespaces: the real daemon, the real BIRD 2, the real FRR.

mod lab;

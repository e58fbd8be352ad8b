//! Tests of the speaker as a whole.

mod fsm;
mod garbage;
mod leaving;
mod network;
mod rig;
mod routes;
mod simulation;
mod view;

//! Tests of the speaker as a whole.

mod collisions;
mod fsm;
mod garbage;
mod leaving;
mod network;
mod retrying;
mod rig;
mod routes;
mod simulation;
mod view;

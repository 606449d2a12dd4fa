//! Drivers: they give the roles' machines time, sockets and disk.

pub mod aggregation;
pub mod full;
mod helper;
mod lead;
mod link;
mod receive;

pub use link::Link;

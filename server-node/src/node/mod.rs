//! Drivers: they give the roles' machines time, sockets and disk.

pub mod aggregation;
pub mod artefact;
pub mod full;
mod helper;
mod lead;
pub mod light;
mod link;
mod pace;
pub mod receive;
pub mod run;
mod score;
pub mod serve;
mod silo;
mod standing;
pub mod start;
mod sum;
pub mod task;
#[cfg(test)]
mod tests;

pub use link::Link;

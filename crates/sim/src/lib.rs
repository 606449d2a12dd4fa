//! The whole mesh in one process without sockets: every real step of a round, timed.

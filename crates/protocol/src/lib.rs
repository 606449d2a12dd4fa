//! Ids, units, limits, the signed task manifest, wire messages, sealing, reject reasons and the round state machine.

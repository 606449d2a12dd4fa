//! The aggregation node: opens rounds, adds the committees' aggregate shares, updates and evaluates the model.

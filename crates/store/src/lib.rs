//! The work store: tasks, rounds, reports, batches, models and the replay cache on SQLite.

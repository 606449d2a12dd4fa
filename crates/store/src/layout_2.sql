-- Committees: a node sits on several, each with its own batch. Sums are encrypted, and opened by all.

DROP INDEX report_by_state;
ALTER TABLE report ADD COLUMN committee INTEGER NOT NULL DEFAULT 0;
CREATE INDEX report_by_state ON report (task, round, committee, state, arrival);

DROP TABLE refusal;
DROP TABLE aggregate_share;
DROP TABLE batch;

-- How a committee's round ended: with a batch that both members signed, or without one.
CREATE TABLE batch (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    committee INTEGER NOT NULL,
    summary BLOB, -- none: there is no batch
    signatures BLOB,
    aggregate_share BLOB, -- goes when the round ends
    reason TEXT, -- why there is none
    PRIMARY KEY (task, round, committee)
);

-- What a full node has opened as a holder of key shares: one set a round, for ever.
CREATE TABLE answered (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (task, round)
);

-- The aggregation node's open round: what was signed, and what was encrypted for it.
CREATE TABLE statement (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    name TEXT NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (task, round, name)
);
CREATE TABLE encrypted_sum (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    node BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (task, round, node)
);

-- Whether the round's total was opened, or may have been: what has cost privacy.
ALTER TABLE result ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;
UPDATE result SET opened = 1 WHERE model IS NOT NULL;

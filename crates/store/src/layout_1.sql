CREATE TABLE setting (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE task (
    task BLOB PRIMARY KEY,
    signed BLOB NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL
);

CREATE TABLE round (
    task BLOB NOT NULL REFERENCES task (task),
    round INTEGER NOT NULL,
    signed BLOB NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, -- 0 open, 1 closed, 2 voided
    reason TEXT,
    opened INTEGER NOT NULL,
    PRIMARY KEY (task, round)
);

-- One row a report id, for ever: the replay cache. Bodies and shares go when the round ends.
CREATE TABLE report (
    arrival INTEGER PRIMARY KEY AUTOINCREMENT,
    task BLOB NOT NULL,
    id BLOB NOT NULL,
    round INTEGER NOT NULL,
    digest BLOB NOT NULL,
    state INTEGER NOT NULL DEFAULT 0, -- 0 pending, 1 verified, 2 rejected, 3 counted, 4 dropped
    reason INTEGER,
    body BLOB,
    out_share BLOB,
    response BLOB,
    UNIQUE (task, id)
);
CREATE INDEX report_by_state ON report (task, round, state, arrival);

-- Reports refused before they were stored.
CREATE TABLE refusal (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    reason INTEGER NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (task, round, reason)
) WITHOUT ROWID;

CREATE TABLE batch (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    summary BLOB NOT NULL,
    signatures BLOB NOT NULL,
    aggregate_share BLOB,
    delivered INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (task, round)
);

CREATE TABLE partial (
    task BLOB NOT NULL,
    id BLOB NOT NULL,
    length INTEGER NOT NULL,
    digest BLOB NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    touched INTEGER NOT NULL,
    PRIMARY KEY (task, id)
);
CREATE TABLE partial_piece (
    task BLOB NOT NULL,
    id BLOB NOT NULL,
    offset INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (task, id, offset),
    FOREIGN KEY (task, id) REFERENCES partial (task, id) ON DELETE CASCADE
);

CREATE TABLE aggregate_share (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    member BLOB NOT NULL,
    submission BLOB NOT NULL,
    PRIMARY KEY (task, round, member)
);

CREATE TABLE model (digest BLOB PRIMARY KEY, bytes BLOB NOT NULL);

CREATE TABLE result (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    model BLOB REFERENCES model (digest),
    optimiser BLOB,
    metrics TEXT,
    reports INTEGER NOT NULL,
    rejected TEXT NOT NULL,
    void_reason TEXT,
    finished INTEGER NOT NULL,
    PRIMARY KEY (task, round)
);

-- What is public of a finished round, for whoever repeats it: by name, kept until the task comes to a later round.
CREATE TABLE artefact (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    name TEXT NOT NULL,
    last INTEGER NOT NULL, -- the last round that it is kept in
    bytes BLOB NOT NULL,
    PRIMARY KEY (task, round, name)
);
CREATE INDEX artefact_by_last ON artefact (task, last);

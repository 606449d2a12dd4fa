-- Which selection of a round a full node has encrypted last, for ever: it opens no other one. What left the node for it is sent
-- again to whoever asks again, and goes when the round ends. Each selection has cost privacy, opened or not.
CREATE TABLE encrypted (
    task BLOB NOT NULL,
    round INTEGER NOT NULL,
    record BLOB NOT NULL,
    submission BLOB,
    selections INTEGER NOT NULL DEFAULT 1, -- encrypted in this round so far
    PRIMARY KEY (task, round)
);
-- It was a setting, named by the task's text, which cannot be read here: of a round that is open now nothing more is encrypted or
-- opened.
INSERT INTO encrypted (task, round, record)
    SELECT task, round, x'' FROM round
    WHERE state = 0 AND EXISTS (SELECT 1 FROM setting WHERE name LIKE 'encrypted/%/' || round.round || '/');
DELETE FROM setting WHERE name LIKE 'encrypted/%';

-- Unfinished uploads by what they are of, not only by the id that they name: whoever begins another one under it stops none.
DROP TABLE partial_piece;
DROP TABLE partial;
CREATE TABLE partial (
    task BLOB NOT NULL,
    id BLOB NOT NULL,
    digest BLOB NOT NULL,
    length INTEGER NOT NULL,
    held INTEGER NOT NULL DEFAULT 0,
    touched INTEGER NOT NULL,
    PRIMARY KEY (task, id, digest)
);
CREATE TABLE partial_piece (
    task BLOB NOT NULL,
    id BLOB NOT NULL,
    digest BLOB NOT NULL,
    offset INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (task, id, digest, offset),
    FOREIGN KEY (task, id, digest) REFERENCES partial (task, id, digest) ON DELETE CASCADE
);

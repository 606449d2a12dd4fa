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

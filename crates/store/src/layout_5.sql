-- The private votes of a round on the model that it started from, JSON. They stay when the ledger voids the round for them.
ALTER TABLE result ADD COLUMN votes TEXT;

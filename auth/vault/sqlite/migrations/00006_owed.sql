-- +goose Up
-- Tokens of ended grants that their provider has not revoked yet.
CREATE TABLE owed_revocations (
    id         TEXT NOT NULL PRIMARY KEY, -- of the grant, which the seal is bound to
    provider   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    sealed     BLOB NOT NULL, -- as it was in grants
    owed_since INTEGER NOT NULL,
    next_try   INTEGER NOT NULL
);
CREATE INDEX owed_revocations_turn ON owed_revocations (provider, next_try);

-- +goose Down
DROP TABLE owed_revocations;

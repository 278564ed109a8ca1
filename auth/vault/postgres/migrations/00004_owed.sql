-- +goose Up
-- Tokens of ended grants that their provider has not revoked yet.
CREATE TABLE owed_revocations (
    id         text COLLATE "C" PRIMARY KEY, -- of the grant, which the seal is bound to
    provider   text NOT NULL,
    subject    text NOT NULL,
    sealed     bytea NOT NULL, -- as it was in grants
    owed_since bigint NOT NULL,
    next_try   bigint NOT NULL
);
ALTER TABLE owed_revocations ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX owed_revocations_turn ON owed_revocations (provider, next_try);

-- +goose Down
DROP TABLE owed_revocations;

-- +goose Up
-- Back-channel logout names sessions at the provider. Grants from before learn theirs at their next renewal.
ALTER TABLE grants ADD COLUMN sid TEXT NOT NULL DEFAULT '';
CREATE INDEX grants_sid ON grants (provider, sid) WHERE sid <> '';
CREATE INDEX grants_person ON grants (provider, subject);

CREATE TABLE used_tokens (
    fingerprint TEXT PRIMARY KEY, -- of a logout token's issuer and jti
    expires_at  BIGINT NOT NULL
);
CREATE INDEX used_tokens_expiry ON used_tokens (expires_at);

-- +goose Down
DROP TABLE used_tokens;
DROP INDEX grants_person;
DROP INDEX grants_sid;
ALTER TABLE grants DROP COLUMN sid;

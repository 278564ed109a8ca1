-- +goose Up
-- What is due is found in two indexes alone: a grant's row lies anywhere among gigabytes, with its lease behind the sealed blob.
DROP INDEX grants_due;
CREATE INDEX grants_due ON grants (provider, due_at, id, lease_until) WHERE due_at > 0;
DROP INDEX sessions_grant;
CREATE INDEX sessions_grant ON sessions (grant_id, expires_at, seen_at) WHERE grant_id <> '';

-- +goose Down
DROP INDEX grants_due;
CREATE INDEX grants_due ON grants (provider, due_at, id) WHERE due_at > 0;
DROP INDEX sessions_grant;
CREATE INDEX sessions_grant ON sessions (grant_id) WHERE grant_id <> '';

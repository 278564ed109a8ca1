-- +goose Up
-- Times are microseconds since 1970 UTC; 0 is "none".

-- What time it is for leases and sessions: the database's, because replicas' clocks differ. Tests with a clock of their
-- own replace the function.
CREATE FUNCTION keyturn_now() RETURNS bigint STABLE LANGUAGE sql
    AS 'SELECT (extract(epoch FROM statement_timestamp()) * 1000000)::bigint';

CREATE TABLE sessions (
    token_hash   text COLLATE "C" PRIMARY KEY, -- SHA-256 of the session token, base64url; never the token
    data         bytea NOT NULL,
    expires_at   bigint NOT NULL,
    created_at   bigint NOT NULL,
    seen_at      bigint NOT NULL,
    grant_id     text COLLATE "C" NOT NULL DEFAULT '', -- '' while nobody is signed in
    provider     text NOT NULL DEFAULT '',
    subject      text NOT NULL DEFAULT ''
);
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE INDEX sessions_seen ON sessions (seen_at);
CREATE INDEX sessions_grant ON sessions (grant_id) WHERE grant_id <> '';
CREATE INDEX sessions_person ON sessions (provider, subject) WHERE grant_id <> '';

CREATE TABLE grants (
    id            text COLLATE "C" PRIMARY KEY,
    session_hash  text NOT NULL,
    provider      text NOT NULL,
    subject       text NOT NULL,
    sealed        bytea NOT NULL, -- tokens and claims exist only in here
    generation    bigint NOT NULL,
    state         text NOT NULL, -- active, refused or ended
    due_at        bigint NOT NULL,
    issued_at     bigint NOT NULL, -- when the access token was issued, or a renewal tried later: one from the future betrays a clock that was set back
    lease_owner   text NOT NULL DEFAULT '',
    lease_until   bigint NOT NULL DEFAULT 0,
    presenting_at bigint NOT NULL DEFAULT 0,
    created_at    bigint NOT NULL,
    seen_at       bigint NOT NULL,
    user_agent    text NOT NULL,
    ip            text NOT NULL
) WITH (fillfactor = 80); -- a lease and its end find room beside the row
ALTER TABLE grants ALTER COLUMN sealed SET STORAGE EXTERNAL; -- what is sealed does not compress
CREATE INDEX grants_due ON grants (provider, due_at, id) WHERE due_at > 0;
CREATE INDEX grants_issued ON grants (provider, issued_at) WHERE due_at > 0;
CREATE INDEX grants_presenting ON grants (provider, presenting_at) WHERE presenting_at > 0;
CREATE INDEX grants_created ON grants (created_at);

CREATE TABLE renewals (
    grant_id     text COLLATE "C" NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    id           bigint GENERATED ALWAYS AS IDENTITY,
    generation   bigint NOT NULL,
    at           bigint NOT NULL,
    trigger_name text NOT NULL,
    outcome      text NOT NULL,
    micros       bigint NOT NULL,
    code         text NOT NULL,
    detail       text NOT NULL,
    warning      text NOT NULL,
    old_token    text NOT NULL, -- fingerprints
    new_token    text NOT NULL,
    old_refresh  text NOT NULL,
    new_refresh  text NOT NULL,
    old_scope    text NOT NULL,
    new_scope    text NOT NULL,
    old_expiry   bigint NOT NULL,
    new_expiry   bigint NOT NULL,
    shared       bigint NOT NULL, -- how many other requests waited for it
    PRIMARY KEY (grant_id, id)
);

-- +goose Down
DROP TABLE renewals;
DROP TABLE grants;
DROP TABLE sessions;
DROP FUNCTION keyturn_now();

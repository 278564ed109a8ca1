-- +goose Up
-- Times are microseconds since 1970 UTC; 0 is "none".
CREATE TABLE sessions (
    token_hash   TEXT PRIMARY KEY, -- SHA-256 of the session token, base64url; never the token
    data         BLOB NOT NULL,
    expires_at   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    seen_at      INTEGER NOT NULL,
    grant_id     TEXT NOT NULL DEFAULT '', -- '' while nobody is signed in
    provider     TEXT NOT NULL DEFAULT '',
    subject      TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE INDEX sessions_seen ON sessions (seen_at);
CREATE INDEX sessions_grant ON sessions (grant_id) WHERE grant_id <> '';
CREATE INDEX sessions_person ON sessions (provider, subject) WHERE grant_id <> '';

CREATE TABLE grants (
    id            TEXT NOT NULL PRIMARY KEY,
    session_hash  TEXT NOT NULL,
    provider      TEXT NOT NULL,
    subject       TEXT NOT NULL,
    sealed        BLOB NOT NULL, -- tokens and claims exist only in here
    generation    INTEGER NOT NULL,
    state         TEXT NOT NULL, -- active, refused or ended
    due_at        INTEGER NOT NULL,
    issued_at     INTEGER NOT NULL, -- when the access token was issued, or a renewal tried later: one from the future betrays a clock that was set back
    lease_owner   TEXT NOT NULL DEFAULT '',
    lease_until   INTEGER NOT NULL DEFAULT 0,
    presenting_at INTEGER NOT NULL DEFAULT 0,
    created_at    INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL,
    user_agent    TEXT NOT NULL,
    ip            TEXT NOT NULL
);
CREATE INDEX grants_due ON grants (provider, due_at, id) WHERE due_at > 0;
CREATE INDEX grants_issued ON grants (provider, issued_at) WHERE due_at > 0;
CREATE INDEX grants_presenting ON grants (provider, presenting_at) WHERE presenting_at > 0;
CREATE INDEX grants_leased ON grants (lease_owner) WHERE lease_owner <> '';
CREATE INDEX grants_person ON grants (provider, subject);

CREATE TABLE renewals (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    grant_id     TEXT NOT NULL REFERENCES grants (id) ON DELETE CASCADE,
    generation   INTEGER NOT NULL,
    at           INTEGER NOT NULL,
    trigger_name TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    micros       INTEGER NOT NULL,
    code         TEXT NOT NULL,
    detail       TEXT NOT NULL,
    warning      TEXT NOT NULL,
    old_token    TEXT NOT NULL, -- fingerprints
    new_token    TEXT NOT NULL,
    old_refresh  TEXT NOT NULL,
    new_refresh  TEXT NOT NULL,
    old_scope    TEXT NOT NULL,
    new_scope    TEXT NOT NULL,
    old_expiry   INTEGER NOT NULL,
    new_expiry   INTEGER NOT NULL,
    shared       INTEGER NOT NULL -- how many other requests waited for it
);
CREATE INDEX renewals_grant ON renewals (grant_id, id);

-- +goose Down
DROP TABLE renewals;
DROP TABLE grants;
DROP TABLE sessions;

-- +goose Up
-- Upkeep looks for grants that never got a session among those of an age; without it, it would read every sealed blob.
CREATE INDEX grants_created ON grants (created_at);

-- +goose Down
DROP INDEX grants_created;

-- +goose Up
-- What is rendered of a grant and its history is of use as long as this stays.
ALTER TABLE grants ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE grants DROP COLUMN revision;

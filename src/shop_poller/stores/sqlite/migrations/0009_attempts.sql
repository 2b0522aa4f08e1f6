-- The attempts of a delivery, as JSON: [how many, [started at, ms, kind, HTTP status or null, words], ...].
-- The first one and the latest ones are kept; see core/attempts.py. NULL: none was recorded.

ALTER TABLE outbox ADD COLUMN attempt_log TEXT;
ALTER TABLE dead_letters ADD COLUMN attempt_log TEXT;
ALTER TABLE delivered ADD COLUMN attempt_log TEXT;

-- What is put back into the outbox gets a seq of its own. first_seq: the one that it had before, the first time;
-- by it an order's events stay in the order in which they were made. NULL: it was never put back.

ALTER TABLE outbox ADD COLUMN first_seq INTEGER;
ALTER TABLE dead_letters ADD COLUMN first_seq INTEGER;
ALTER TABLE delivered ADD COLUMN first_seq INTEGER;

-- The shop's list of refunds.
-- refunds_at: how far it was read, by the dates of the refunds. NULL: never, so from the baseline on.
-- silent_refund_ids: of refund_ids those that were recorded without an event before anybody knew their dates; a JSON
-- list, NULL for none.

ALTER TABLE shops ADD COLUMN refunds_at INTEGER;
ALTER TABLE known_orders ADD COLUMN silent_refund_ids TEXT;

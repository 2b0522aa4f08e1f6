-- The sweep, and learning beside the daemon (backfill).
-- sweep_after_id: of the known orders that may still change, the sweep looks next at those beyond.
-- swept_at: when the last whole sweep ended.

ALTER TABLE shops ADD COLUMN sweep_after_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE shops ADD COLUMN swept_at INTEGER;

-- Orders that may still change, see core.sweep.CLOSED: the same words as in the query, or it is not used.
CREATE INDEX known_orders_open ON known_orders (shop_id, order_id) WHERE status NOT IN
    ('auto-draft', 'cancelled', 'checkout-draft', 'completed', 'draft', 'refunded', 'trash');

CREATE TABLE backfills (                        -- how far a backfill has come, by the shop's clock
    shop_id        TEXT PRIMARY KEY,
    since          INTEGER NOT NULL,
    created_before INTEGER NOT NULL,            -- what was made from then on is done
    learned        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

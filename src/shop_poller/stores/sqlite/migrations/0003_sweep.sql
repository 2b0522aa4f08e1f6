-- The sweep, and learning beside the daemon (backfill).
-- shops.sweep is JSON: where the sweep under way stands; NULL between two. swept_at: when the last one ended.

ALTER TABLE shops ADD COLUMN sweep TEXT;
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

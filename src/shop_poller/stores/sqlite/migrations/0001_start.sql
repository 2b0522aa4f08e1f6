-- Instants are milliseconds since 1970, UTC. `*_at` columns of known_orders and shops.cursor_at, baseline_at,
-- learning_before_at follow the shop's clock, all others ours.

CREATE TABLE shops (
    shop_id            TEXT PRIMARY KEY,
    started_at         INTEGER NOT NULL,
    baseline_at        INTEGER,
    cursor_at          INTEGER,
    last_poll_at       INTEGER,
    learning_phase     TEXT,                -- NULL: all is learned, or nothing is yet
    learning_before_at INTEGER,
    learning_count     INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE known_orders (
    shop_id       TEXT NOT NULL,
    order_id      INTEGER NOT NULL,
    status        TEXT NOT NULL,
    modified_at   INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL,         -- when this record last changed: what retention counts from
    announced_new INTEGER NOT NULL,
    decided       TEXT NOT NULL,            -- JSON: event type to how often it was decided
    refund_ids    TEXT,                     -- JSON list; NULL: no source has shown refunds yet
    PRIMARY KEY (shop_id, order_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX known_orders_by_age ON known_orders (shop_id, seen_at);

CREATE TABLE set_aside (                    -- orders that could not be read
    shop_id  TEXT NOT NULL,
    order_id INTEGER NOT NULL,
    reason   TEXT NOT NULL,
    since    INTEGER NOT NULL,              -- when that was seen last
    PRIMARY KEY (shop_id, order_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE alerts (                       -- raised and not cleared
    shop_id TEXT NOT NULL,
    service TEXT NOT NULL,
    cause   TEXT NOT NULL,
    since   INTEGER NOT NULL,
    PRIMARY KEY (shop_id, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE outbox (                       -- one row: one event to one sink, not yet delivered
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    shop_id    TEXT NOT NULL,
    sink       TEXT NOT NULL,
    key        TEXT NOT NULL,               -- rows of one shop, sink and key are delivered in order of seq
    event_id   TEXT NOT NULL,
    event_type TEXT NOT NULL,
    body       TEXT NOT NULL,               -- the JSON that goes out
    created_at INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    head_since INTEGER,                     -- when it became the oldest of its key; NULL: it is not
    last_error TEXT
) STRICT;

CREATE INDEX outbox_ready ON outbox (sink, due_at, seq) WHERE head_since IS NOT NULL;
CREATE INDEX outbox_by_key ON outbox (sink, shop_id, key, seq);

CREATE TABLE dead_letters (                 -- given up, kept for a person
    seq        INTEGER PRIMARY KEY,
    shop_id    TEXT NOT NULL,
    sink       TEXT NOT NULL,
    key        TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    event_type TEXT NOT NULL,
    body       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL,
    buried_at  INTEGER NOT NULL,
    reason     TEXT NOT NULL
) STRICT;

CREATE INDEX dead_letters_by_age ON dead_letters (shop_id, buried_at);

CREATE TABLE delivered (                    -- deliveries that were made: what, where to and when, without the text
    seq          INTEGER PRIMARY KEY,
    shop_id      TEXT NOT NULL,
    sink         TEXT NOT NULL,
    key          TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    event_type   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL
) STRICT;

CREATE INDEX delivered_by_age ON delivered (shop_id, delivered_at);

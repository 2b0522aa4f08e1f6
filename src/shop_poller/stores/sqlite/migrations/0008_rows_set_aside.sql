-- Rows that were damaged: taken out, or corrected. The copy is what stood there, as JSON.

CREATE TABLE rows_set_aside (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    shop_id TEXT NOT NULL,                  -- "" if that cannot be read
    place   TEXT NOT NULL,                  -- the table
    name    TEXT NOT NULL,                  -- of the row, for people
    reason  TEXT NOT NULL,
    at      INTEGER NOT NULL,
    content TEXT NOT NULL
) STRICT;

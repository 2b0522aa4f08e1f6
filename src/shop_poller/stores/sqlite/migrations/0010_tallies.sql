-- What happened to orders on each day, for digests.
-- tallied_since: since when every event is counted. NULL: not yet.
-- day: in the owner's time zone, as 2026-11-24.
-- tally: JSON; by kind of event how many, how many of them with an unknown amount, and a list per currency of its code,
-- its sign, the sum and how many amounts are in it.

ALTER TABLE shops ADD COLUMN tallied_since INTEGER;
CREATE TABLE tallies (
    shop_id TEXT NOT NULL,
    day     TEXT NOT NULL,
    tally   TEXT NOT NULL,
    PRIMARY KEY (shop_id, day)
) STRICT, WITHOUT ROWID;

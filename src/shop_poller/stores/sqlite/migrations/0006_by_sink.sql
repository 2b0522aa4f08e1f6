-- The bound of deliveries that are over is each sink's own. seq, the rowid, is the last column of any index.

CREATE INDEX delivered_by_sink ON delivered (shop_id, sink);
CREATE INDEX dead_letters_by_sink ON dead_letters (shop_id, sink);

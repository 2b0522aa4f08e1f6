-- What was delivered can be sent again. NULL: it was delivered before its text was kept.

ALTER TABLE delivered ADD COLUMN body TEXT;

-- Rows have become large: an audit asks for those of a page's orders, and should not read them all for it.
CREATE INDEX delivered_by_key ON delivered (shop_id, key);
CREATE INDEX dead_letters_by_key ON dead_letters (shop_id, key);

-- All by the shop's clock: when the newest order that was seen was paid; since when there was the silence that
-- was told last; since when an order waits to be paid (NULL: it does not, or was last seen before this was kept).

ALTER TABLE shops ADD COLUMN newest_order_at INTEGER;
ALTER TABLE shops ADD COLUMN silence_told_at INTEGER;
ALTER TABLE known_orders ADD COLUMN awaiting_since INTEGER;

-- What was sold before this was kept is no silence. An order's last change is not before it was paid.
UPDATE shops SET newest_order_at = (SELECT max(modified_at) FROM known_orders
    WHERE known_orders.shop_id = shops.shop_id AND known_orders.announced_new);

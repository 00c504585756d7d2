-- What shoppers were told by subscribe message, or would have been told had they agreed: one row an event, written with the end
-- of its delivery. Shows a shopkeeper whether the messages reach anybody.
CREATE TABLE shopper_messages (
    event_id BIGINT PRIMARY KEY,
    order_id BIGINT NOT NULL,
    occasion VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'paid, shipped, refunded',
    outcome TINYINT NOT NULL COMMENT '1 sent, 2 the shopper had not agreed',
    told_at DATETIME(3) NOT NULL,
    KEY messages_of_order (order_id),
    KEY messages_by_day (told_at)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- How an order went to its shopper. Round 2 is the one change that WeChat takes: the same goods under another number. The
-- courier is a person and sealed; a parcel's number is not, so that a shopkeeper can find the order by it.
-- Until uploaded_at is set WeChat does not know that the order was shipped, and keeps the shop's money.
CREATE TABLE shipments (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    order_id BIGINT NOT NULL,
    round TINYINT NOT NULL COMMENT '1, or 2 when it was shipped anew',
    kind TINYINT NOT NULL COMMENT '1 express, 2 within the city, 4 pick-up: the numbers are WeChat''s',
    company VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'express: WeChat''s code of it',
    tracking_no VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NULL COMMENT 'express',
    courier_sealed VARCHAR(1000) CHARACTER SET ascii NULL COMMENT 'within the city: name and phone',
    shipped_at DATETIME(3) NOT NULL COMMENT 'UTC',
    uploaded_at DATETIME(3) NULL COMMENT 'WeChat has it, or a later round',
    UNIQUE KEY rounds_of_order (order_id, round),
    KEY shipments_to_upload (uploaded_at, id),
    KEY shipments_by_number (tracking_no),
    CONSTRAINT shipments_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT shipments_round CHECK (round IN (1, 2)),
    CONSTRAINT shipments_express CHECK (kind <> 1 OR (company IS NOT NULL AND tracking_no IS NOT NULL))
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- The seed's orders. delivery_address is {"sealed": "<key id>:<base64>"}: the JSON column stays, the person is sealed.
CREATE TABLE orders (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    order_no VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin UNIQUE NOT NULL,
    user_id BIGINT NOT NULL,
    total_amount DECIMAL(10,2) NOT NULL,
    discount_amount DECIMAL(10,2) DEFAULT 0,
    actual_amount DECIMAL(10,2) NOT NULL,
    status TINYINT DEFAULT 0
        COMMENT '0 awaiting payment, 1 paid, 2 shipped, 3 completed, 4 cancelled, 5 refunding, 6 refunded',
    payment_method TINYINT COMMENT '1 WeChat Pay',
    payment_time TIMESTAMP NULL,
    delivery_address JSON,
    delivery_fee DECIMAL(8,2) DEFAULT 0,
    remark TEXT,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    pay_deadline DATETIME(3) NOT NULL COMMENT 'UTC; unpaid orders close after it',
    KEY orders_of_user (user_id, id),
    KEY orders_of_user_by_status (user_id, status, id),
    KEY orders_due (status, pay_deadline),
    CONSTRAINT orders_user FOREIGN KEY (user_id) REFERENCES users (id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- The lines as they were when the order was made: later edits of a product do not change what was bought.
CREATE TABLE order_items (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    order_id BIGINT NOT NULL,
    sku_id BIGINT NOT NULL,
    product_id BIGINT NOT NULL,
    name VARCHAR(200) NOT NULL,
    image VARCHAR(500) NOT NULL DEFAULT '',
    specifications VARCHAR(200) NOT NULL DEFAULT '',
    price_fen BIGINT NOT NULL,
    quantity INT NOT NULL,
    amount_fen BIGINT NOT NULL,
    UNIQUE KEY items_of_order (order_id, sku_id),
    CONSTRAINT items_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT items_quantity CHECK (quantity > 0)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- One payment an order. The prepay request is kept to the byte: WeChat refuses a second one that differs.
CREATE TABLE payments (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    order_id BIGINT NOT NULL UNIQUE,
    out_trade_no VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
    amount_fen BIGINT NOT NULL,
    status TINYINT NOT NULL DEFAULT 0 COMMENT '0 awaiting, 1 paid, 2 closed',
    prepay_request TEXT NOT NULL,
    prepay_id VARCHAR(64) CHARACTER SET ascii NULL,
    prepaid_at DATETIME(3) NULL COMMENT 'a prepay_id is good for two hours',
    transaction_id VARCHAR(32) CHARACTER SET ascii NULL UNIQUE,
    paid_at DATETIME(3) NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    CONSTRAINT payments_order FOREIGN KEY (order_id) REFERENCES orders (id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- The first reply to a keyed write, stored in the effect's own transaction and replayed.
CREATE TABLE idempotency_keys (
    user_id BIGINT NOT NULL,
    idempotency_key VARCHAR(80) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    body_hash BINARY(32) NOT NULL COMMENT 'SHA-256 of method, path and body',
    reply MEDIUMTEXT NULL,
    created_at DATETIME(3) NOT NULL,
    PRIMARY KEY (user_id, idempotency_key),
    KEY idempotency_age (created_at)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

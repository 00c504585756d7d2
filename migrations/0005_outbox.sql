-- What happened to orders, written in the transaction in which it happened; `worker` delivers each row to whoever wants to
-- know. An event says what happened to which order and nothing more: who needs more reads the books, which do not go stale.
-- Rows stay for 30 days after they were handed out, so that `reconcile` can compare them with the orders.
-- Ids become visible out of order (a later number may commit first), so nothing may remember a "last id": what is still to
-- be handed out is what has no published_at, and outbox_waiting finds it oldest first.
CREATE TABLE outbox (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    order_id BIGINT NOT NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    published_at DATETIME(3) NULL COMMENT 'its deliveries were written then',
    KEY outbox_waiting (published_at, id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- One row for each consumer that has yet to handle an event. The consumer deletes it in its effect's own transaction, so
-- that an event which arrives twice finds nothing left to do; what failed waits here for its next attempt, and what failed
-- too often stays, with died_at, as a dead letter.
CREATE TABLE outbox_deliveries (
    event_id BIGINT NOT NULL,
    consumer VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    attempts INT NOT NULL DEFAULT 0 COMMENT 'that failed',
    due_at DATETIME(3) NULL COMMENT 'to be sent to the stream then, once more if it was before; NULL when dead',
    died_at DATETIME(3) NULL,
    last_error VARCHAR(500) NULL,
    PRIMARY KEY (event_id, consumer),
    KEY deliveries_due (consumer, due_at),
    KEY deliveries_dead (died_at)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- What the consumers write: what sold, and the life of each order.
CREATE TABLE product_sales (
    product_id BIGINT PRIMARY KEY,
    units BIGINT NOT NULL COMMENT 'of any SKU, in orders that were paid',
    orders BIGINT NOT NULL COMMENT 'that were paid and contain it',
    CONSTRAINT sales_product FOREIGN KEY (product_id) REFERENCES products (id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

CREATE TABLE order_events (
    event_id BIGINT PRIMARY KEY,
    order_id BIGINT NOT NULL,
    kind VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    happened_at DATETIME(3) NOT NULL,
    KEY events_of_order (order_id, event_id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

ALTER TABLE orders
    ADD COLUMN shipped_at DATETIME(3) NULL COMMENT 'UTC; completes by itself some days after it',
    ADD COLUMN completed_at DATETIME(3) NULL,
    ADD KEY orders_to_complete (status, shipped_at);

-- Orders that were there before: what is known of them, as delivered.
INSERT INTO outbox (kind, order_id, created_at, published_at)
    SELECT 'order_placed', id, created_at, UTC_TIMESTAMP(3) FROM orders ORDER BY id;
INSERT INTO outbox (kind, order_id, created_at, published_at)
    SELECT 'order_paid', id, COALESCE(payment_time, updated_at), UTC_TIMESTAMP(3) FROM orders
    WHERE status IN (1, 2, 3, 5, 6) ORDER BY id;
INSERT INTO outbox (kind, order_id, created_at, published_at)
    SELECT 'order_cancelled', id, updated_at, UTC_TIMESTAMP(3) FROM orders WHERE status = 4 ORDER BY id;
INSERT INTO outbox (kind, order_id, created_at, published_at)
    SELECT 'paid_too_late', o.id, COALESCE(p.paid_at, o.updated_at), UTC_TIMESTAMP(3)
    FROM orders o JOIN payments p ON p.order_id = o.id WHERE o.status = 4 AND p.status = 1 ORDER BY o.id;
INSERT INTO order_events (event_id, order_id, kind, happened_at)
    SELECT id, order_id, kind, created_at FROM outbox;
INSERT INTO product_sales (product_id, units, orders)
    SELECT i.product_id, SUM(i.quantity), COUNT(DISTINCT i.order_id) FROM order_items i JOIN orders o ON o.id = i.order_id
    WHERE o.status IN (1, 2, 3, 5, 6) GROUP BY i.product_id;

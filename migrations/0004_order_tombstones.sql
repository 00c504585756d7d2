-- Order numbers that must never become orders: the sweeper found their hold in the stock gate and no order, and gives the
-- hold back. An order's transaction looks here before it commits, so that a stalled one cannot come alive afterwards.
CREATE TABLE order_tombstones (
    order_no VARCHAR(50) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- Daily reconciliation with WeChat's bill: what was asked for, what each bill says, and where it differs from our books.
ALTER TABLE payments ADD KEY payments_on (paid_at);

-- One row a day that was asked for.
CREATE TABLE bill_days (
    bill_date DATE PRIMARY KEY COMMENT 'in Shanghai',
    status TINYINT NOT NULL DEFAULT 0 COMMENT '0 not had yet, 1 compared',
    payments INT NOT NULL DEFAULT 0,
    payments_fen BIGINT NOT NULL DEFAULT 0,
    refunds INT NOT NULL DEFAULT 0,
    refunds_fen BIGINT NOT NULL DEFAULT 0,
    of_others INT NOT NULL DEFAULT 0 COMMENT 'lines of other apps of the same merchant',
    hash CHAR(40) CHARACTER SET ascii NULL COMMENT 'SHA-1 of the bill; NULL for a day without trades',
    checked_at DATETIME(3) NULL,
    due_at DATETIME(3) NULL COMMENT 'not asked for before; the worker that asks moves it on first, so that no other does',
    last_error VARCHAR(500) NULL
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- The bill's lines of this shop. Kept, because a trade near midnight or a slow refund may stand in a neighbour's bill.
CREATE TABLE bill_lines (
    bill_date DATE NOT NULL,
    line INT NOT NULL COMMENT 'from 1',
    is_refund BOOLEAN NOT NULL,
    out_trade_no VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    out_refund_no VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'empty for a payment',
    transaction_id VARCHAR(64) CHARACTER SET ascii NOT NULL,
    amount_fen BIGINT NOT NULL,
    state VARCHAR(32) CHARACTER SET ascii NOT NULL COMMENT 'the trade''s, or the refund''s',
    happened_at DATETIME(3) NOT NULL COMMENT 'UTC',
    PRIMARY KEY (bill_date, line),
    KEY bill_lines_of_refund (out_refund_no)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

CREATE TABLE bill_differences (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    bill_date DATE NOT NULL,
    kind VARCHAR(16) CHARACTER SET ascii NOT NULL
        COMMENT 'missing_here, missing_there, amount, state, doubled',
    out_trade_no VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    out_refund_no VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'empty for a payment',
    transaction_id VARCHAR(64) CHARACTER SET ascii NOT NULL,
    ours_fen BIGINT NULL,
    theirs_fen BIGINT NULL,
    detail VARCHAR(200) NOT NULL,
    found_at DATETIME(3) NOT NULL,
    settled_at DATETIME(3) NULL COMMENT 'an operator has dealt with it',
    note VARCHAR(500) NULL COMMENT 'how',
    UNIQUE KEY differences_of_day (bill_date, kind, out_trade_no, out_refund_no),
    KEY differences_open (settled_at, bill_date)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

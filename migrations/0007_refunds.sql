-- Money that goes back. refunded_fen is raised, by a guarded update, in the transaction that promises a refund, and lowered
-- when WeChat closed one without paying: so that all parts together never exceed what was paid, whatever the code above does.
ALTER TABLE payments
    ADD COLUMN refunded_fen BIGINT NOT NULL DEFAULT 0 COMMENT 'promised or paid back',
    ADD CONSTRAINT payments_refunded CHECK (refunded_fen >= 0 AND refunded_fen <= amount_fen);

-- One row a refund. Its number is made from what it is for, so that asking twice finds the first; WeChat is asked with the
-- same number and the same request until it has decided. The request is written in the transaction that claims the refund
-- for its first sending: what is promised needs no setting of WeChat's, so that whoever may promise can.
CREATE TABLE refunds (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    order_id BIGINT NOT NULL,
    out_refund_no VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL UNIQUE,
    amount_fen BIGINT NOT NULL,
    cause VARCHAR(16) CHARACTER SET ascii NOT NULL COMMENT 'paid_too_late, operator, aftersale, weight',
    reason VARCHAR(80) NOT NULL COMMENT 'as the shopper reads it in WeChat',
    status TINYINT NOT NULL DEFAULT 0
        COMMENT '0 to be asked for, 1 at WeChat, 2 paid back, 3 closed without paying, 4 stuck: by hand, 5 paid by hand',
    order_status TINYINT NULL COMMENT 'of the one that made it whole: what the order was before it was refunding',
    request TEXT NULL COMMENT 'as it is sent, to the byte; NULL until it is sent',
    sent_at DATETIME(3) NULL COMMENT 'WeChat was last asked for it; parts of an order are a minute apart',
    wechat_refund_id VARCHAR(64) CHARACTER SET ascii NULL UNIQUE,
    attempts INT NOT NULL DEFAULT 0 COMMENT 'since the last change of status',
    due_at DATETIME(3) NULL COMMENT 'ask WeChat then, for it or about it; NULL when decided',
    last_error VARCHAR(500) NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    refunded_at DATETIME(3) NULL COMMENT 'when WeChat paid it back',
    KEY refunds_of_order (order_id, id),
    KEY refunds_due (due_at),
    KEY refunds_on (refunded_at),
    CONSTRAINT refunds_payment FOREIGN KEY (order_id) REFERENCES payments (order_id),
    CONSTRAINT refunds_amount CHECK (amount_fen > 0)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- Payments that came too late before there were refunds: their events were handed out to others and are due here now.
INSERT INTO outbox_deliveries (event_id, consumer, due_at)
    SELECT MIN(e.id), 'late_refunds', UTC_TIMESTAMP(3) FROM outbox e
    WHERE e.kind = 'paid_too_late' AND e.published_at IS NOT NULL GROUP BY e.order_id;

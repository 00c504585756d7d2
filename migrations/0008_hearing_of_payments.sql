-- How the shop hears what became of a payment: WeChat tells it, or it asks.

-- What WeChat signed, as it came, one row an attempt of WeChat's to deliver. Rows are added and never changed, so that years
-- later the signature still proves what was told and when. What WeChat did not sign is not kept: anybody can send it, as
-- often as they like. The same attempt sent again by somebody who saw it finds its row and adds none.
CREATE TABLE wechat_notifications (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    notification_id VARCHAR(128) COLLATE utf8mb4_bin NOT NULL COMMENT 'the same over all attempts; empty where unreadable',
    event_type VARCHAR(64) COLLATE utf8mb4_bin NOT NULL COMMENT 'TRANSACTION.SUCCESS, REFUND.SUCCESS, …',
    received_at DATETIME(3) NOT NULL,
    signature_serial VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    signature_timestamp VARCHAR(20) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    signature_nonce VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    signature VARCHAR(1400) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'base64',
    body MEDIUMBLOB NOT NULL COMMENT 'the bytes that are signed; what is inside is sealed with the API v3 key',
    UNIQUE KEY attempt (signature_nonce, signature_timestamp),
    KEY notifications_by_id (notification_id),
    KEY notifications_by_time (received_at)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- What was done about an attempt. One without a row was cut off, and WeChat was not told that it was taken.
CREATE TABLE wechat_notification_decisions (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    notification BIGINT NOT NULL,
    decision VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'taken, repeated, refused, postponed',
    reason VARCHAR(300) NULL,
    decided_at DATETIME(3) NOT NULL,
    UNIQUE KEY once (notification, decision),
    CONSTRAINT decision_notification FOREIGN KEY (notification) REFERENCES wechat_notifications (id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- A payment that was prepared and of which nothing was heard is asked about, with pauses that grow.
ALTER TABLE payments
    ADD COLUMN ask_at DATETIME(3) NULL COMMENT 'WeChat is asked then whether it was paid; NULL for no more',
    ADD COLUMN asked INT NOT NULL DEFAULT 0 COMMENT 'how often so far',
    ADD KEY payments_to_ask (ask_at);
UPDATE payments SET ask_at = prepaid_at + INTERVAL 60 SECOND WHERE status = 0 AND prepaid_at IS NOT NULL;

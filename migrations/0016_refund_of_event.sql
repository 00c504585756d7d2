-- What an event is about beside its order, where its kind says so: of refund_paid, the row of refunds. Two refunds of one order
-- may be paid back at the same moment, and each message to the shopper names its own sum. NULL in events of older binaries.
ALTER TABLE outbox
    ADD COLUMN subject_id BIGINT NULL COMMENT 'refund_paid: refunds.id';

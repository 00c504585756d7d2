-- A consumer may call somebody outside MySQL. Nobody calls inside a transaction, so who is at a delivery is written here, where
-- every worker sees it; the same column keeps a delivery back that is to be tried later, whatever the streams still hold.
ALTER TABLE outbox_deliveries
    ADD COLUMN held_until DATETIME(3) NULL COMMENT 'nobody calls before: a worker is at it, or it was put off';

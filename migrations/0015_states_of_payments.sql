-- A payment is never closed here: that its order was cancelled stands in `orders`, and money that comes all the same is
-- recorded beside it, which is what makes it due for a refund. The comment named a third state that nothing ever wrote.
ALTER TABLE payments MODIFY COLUMN status TINYINT NOT NULL DEFAULT 0 COMMENT '0 awaiting, 1 paid';

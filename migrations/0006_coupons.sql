-- What a shopkeeper gives out. claimed is raised by a guarded update, so that never more are given out than issued,
-- whatever the code above does. (A CHECK lets NULL pass, hence the many IS NOT NULL.)
CREATE TABLE coupons (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    name VARCHAR(50) NOT NULL,
    kind VARCHAR(10) CHARACTER SET ascii NOT NULL COMMENT 'amount: reduction is fen; percent: it is per cent',
    reduction BIGINT NOT NULL,
    cap_fen BIGINT NULL COMMENT 'most that a percent coupon takes off',
    threshold_fen BIGINT NOT NULL DEFAULT 0 COMMENT 'usable from this sum of the goods in scope',
    scope VARCHAR(10) CHARACTER SET ascii NOT NULL DEFAULT 'shop' COMMENT 'shop, category, product',
    scope_id BIGINT NULL COMMENT 'which category or product',
    issued INT UNSIGNED NOT NULL COMMENT 'how many there are in all',
    claimed INT UNSIGNED NOT NULL DEFAULT 0,
    per_user INT UNSIGNED NOT NULL DEFAULT 1,
    claim_from DATETIME(3) NOT NULL,
    claim_until DATETIME(3) NOT NULL,
    valid_from DATETIME(3) NULL COMMENT 'fixed dates …',
    valid_until DATETIME(3) NULL,
    valid_days INT UNSIGNED NULL COMMENT '… or so many days from the claim',
    status TINYINT NOT NULL DEFAULT 1 COMMENT '1 given out, 0 withdrawn: those that were claimed stay good',
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    KEY coupons_open (status, claim_until, id),
    CONSTRAINT coupons_kind CHECK ((kind = 'amount' AND reduction > 0 AND cap_fen IS NULL)
        OR (kind = 'percent' AND reduction BETWEEN 1 AND 99 AND cap_fen IS NOT NULL AND cap_fen > 0)),
    CONSTRAINT coupons_threshold CHECK (threshold_fen >= 0),
    CONSTRAINT coupons_scope CHECK ((scope = 'shop' AND scope_id IS NULL)
        OR (scope IN ('category', 'product') AND scope_id IS NOT NULL)),
    CONSTRAINT coupons_given_out CHECK (claimed <= issued AND per_user >= 1),
    CONSTRAINT coupons_claim_window CHECK (claim_from < claim_until),
    CONSTRAINT coupons_validity CHECK ((valid_days IS NOT NULL AND valid_days >= 1 AND valid_from IS NULL AND valid_until IS NULL)
        OR (valid_days IS NULL AND valid_from IS NOT NULL AND valid_until IS NOT NULL AND valid_from < valid_until))
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- What a shopper holds. The terms are copied at the claim: a later edit of the coupon must not change what somebody was
-- promised. No foreign key to coupons: it would share-lock the row that every claim of the same coupon then updates, so
-- that two claims at the same time would deadlock.
CREATE TABLE user_coupons (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    coupon_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    nth INT UNSIGNED NOT NULL COMMENT 'the first, second … of this coupon that the shopper has',
    name VARCHAR(50) NOT NULL,
    kind VARCHAR(10) CHARACTER SET ascii NOT NULL,
    reduction BIGINT NOT NULL,
    cap_fen BIGINT NULL,
    threshold_fen BIGINT NOT NULL,
    scope VARCHAR(10) CHARACTER SET ascii NOT NULL,
    scope_id BIGINT NULL,
    claimed_at DATETIME(3) NOT NULL,
    valid_from DATETIME(3) NOT NULL,
    valid_until DATETIME(3) NOT NULL,
    order_id BIGINT NULL UNIQUE COMMENT 'the order it is spent on: one coupon an order',
    used_at DATETIME(3) NULL,
    UNIQUE KEY user_coupons_of_coupon (user_id, coupon_id, nth),
    KEY user_coupons_of_user (user_id, id),
    CONSTRAINT user_coupons_user FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT user_coupons_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT user_coupons_used CHECK ((order_id IS NULL) = (used_at IS NULL)),
    CONSTRAINT user_coupons_validity CHECK (valid_from < valid_until)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- Each line's share of the order's discount: what a partial refund must not pay back.
ALTER TABLE order_items
    ADD COLUMN discount_fen BIGINT NOT NULL DEFAULT 0,
    ADD CONSTRAINT items_discount CHECK (discount_fen >= 0 AND discount_fen <= amount_fen);

-- What shoppers say of what they bought: once a line of a completed order. Nothing is shown before WeChat's text check or a
-- person has passed it. The pages of a product walk reviews_of_product from its end.
CREATE TABLE reviews (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    order_id BIGINT NOT NULL,
    sku_id BIGINT NOT NULL,
    product_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    specifications VARCHAR(200) NOT NULL DEFAULT '',
    rating TINYINT NOT NULL,
    content VARCHAR(500) NOT NULL,
    images JSON NOT NULL,
    is_anonymous BOOLEAN NOT NULL,
    status TINYINT NOT NULL COMMENT '0 in check, 1 shown, 2 refused, 3 by hand',
    created_at DATETIME(3) NOT NULL,
    UNIQUE KEY reviews_of_line (order_id, sku_id),
    KEY reviews_of_product (product_id, status, id),
    KEY reviews_by_status (status, id),
    CONSTRAINT reviews_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT reviews_user FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT reviews_rating CHECK (rating BETWEEN 1 AND 5),
    CONSTRAINT reviews_status CHECK (status BETWEEN 0 AND 3)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

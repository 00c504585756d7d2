CREATE TABLE categories (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    name VARCHAR(50) NOT NULL,
    icon VARCHAR(500) NOT NULL DEFAULT '',
    sort_order INT NOT NULL DEFAULT 0,
    status TINYINT NOT NULL DEFAULT 1 COMMENT '1 shown, 0 hidden'
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- The seed's products. price and stock show the lowest SKU price and the sum over SKUs, for reports and for people who
-- read the table by hand; what is sold and counted stands in product_skus and stock.
CREATE TABLE products (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    name VARCHAR(200) NOT NULL,
    description TEXT,
    price DECIMAL(10,2) NOT NULL,
    original_price DECIMAL(10,2),
    stock INT DEFAULT 0,
    category_id BIGINT,
    brand VARCHAR(100),
    origin VARCHAR(200),
    weight DECIMAL(8,2) COMMENT 'kilograms',
    unit VARCHAR(20),
    images JSON,
    tags JSON,
    status TINYINT DEFAULT 1 COMMENT '1 on sale, 0 off',
    sort_order INT DEFAULT 0,
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    specifications VARCHAR(500) NOT NULL DEFAULT '',
    KEY products_of_category (category_id, status, sort_order, id),
    KEY products_shown (status, sort_order, id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- A product without options has one.
CREATE TABLE product_skus (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    product_id BIGINT NOT NULL,
    specifications VARCHAR(200) NOT NULL DEFAULT '',
    price_fen BIGINT NOT NULL,
    original_price_fen BIGINT NULL,
    weight_grams BIGINT NULL,
    sort_order INT NOT NULL DEFAULT 0 COMMENT 'the first is the default',
    status TINYINT NOT NULL DEFAULT 1 COMMENT '1 on sale, 0 off',
    KEY skus_of_product (product_id, sort_order, id),
    CONSTRAINT skus_product FOREIGN KEY (product_id) REFERENCES products (id),
    CONSTRAINT skus_price CHECK (price_fen >= 0)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- I1: nothing can be sold twice, whatever the code above does.
CREATE TABLE stock (
    sku_id BIGINT PRIMARY KEY,
    total INT NOT NULL,
    available INT NOT NULL,
    held INT NOT NULL DEFAULT 0 COMMENT 'in orders that await payment',
    sold INT NOT NULL DEFAULT 0 COMMENT 'in orders that were paid',
    CONSTRAINT stock_sku FOREIGN KEY (sku_id) REFERENCES product_skus (id),
    CONSTRAINT stock_adds_up CHECK (available + held + sold = total),
    CONSTRAINT stock_never_negative CHECK (available >= 0 AND held >= 0 AND sold >= 0)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- I2: each change of a row of stock, so that the sums can be audited. Append only.
CREATE TABLE stock_movements (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    sku_id BIGINT NOT NULL,
    order_id BIGINT NULL,
    reason VARCHAR(16) CHARACTER SET ascii NOT NULL COMMENT 'stocked, held, sold, released',
    available_change INT NOT NULL,
    held_change INT NOT NULL,
    sold_change INT NOT NULL,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    KEY movements_of_sku (sku_id, id),
    KEY movements_of_order (order_id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- Raised in the transaction of every edit of the catalogue; readers reload when it changed.
CREATE TABLE catalog_version (
    id TINYINT PRIMARY KEY,
    version BIGINT NOT NULL,
    CONSTRAINT catalog_version_is_one_row CHECK (id = 1)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
INSERT INTO catalog_version (id, version) VALUES (1, 1);

-- The generation of the Redis gate: a gate that does not show this number is not believed.
CREATE TABLE gate_epoch (
    id TINYINT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    CONSTRAINT gate_epoch_is_one_row CHECK (id = 1)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
INSERT INTO gate_epoch (id, epoch) VALUES (1, 0);

-- The seed's users, as it spells them, and what a shop needs beside them.
-- openid is compared byte for byte: two shoppers' ids may differ in case alone.
CREATE TABLE users (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    openid VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin UNIQUE NOT NULL,
    unionid VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin,
    nickname VARCHAR(100),
    avatar VARCHAR(500),
    phone VARCHAR(20),
    gender TINYINT DEFAULT 0,
    birthday DATE,
    points INT DEFAULT 0,
    level TINYINT DEFAULT 1,
    status TINYINT DEFAULT 1 COMMENT '1 active, 0 disabled',
    created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP,
    token_version INT UNSIGNED NOT NULL DEFAULT 1 COMMENT 'raising it ends every older session'
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- Who lives where is sealed (AES-256-GCM, associated data addresses:<id>:contact); only what freight needs is plain.
CREATE TABLE addresses (
    id BIGINT PRIMARY KEY AUTO_INCREMENT,
    user_id BIGINT NOT NULL,
    contact_sealed VARBINARY(2048) NOT NULL COMMENT 'name, phone and street as sealed JSON',
    province VARCHAR(30) NOT NULL,
    city VARCHAR(30) NOT NULL,
    district VARCHAR(30) NOT NULL,
    region_code CHAR(6) CHARACTER SET ascii NULL COMMENT 'GB/T 2260',
    is_default BOOLEAN NOT NULL DEFAULT FALSE,
    created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    KEY addresses_of_user (user_id, is_default, id),
    CONSTRAINT addresses_user FOREIGN KEY (user_id) REFERENCES users (id)
) DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;

-- The number that WeChat vouches for. The seed's phone holds its masked form, which every page may show; the number itself
-- is sealed (AES-256-GCM, associated data users:<id>:phone), and found again by an HMAC under a key that is not in here.
-- The index is not unique: several WeChat accounts of one family may share a number, carriers give old numbers to new
-- people, and nobody logs in by it, so that a second account with it takes nothing from the first.
ALTER TABLE users
    ADD COLUMN phone_sealed VARBINARY(512) NULL,
    ADD COLUMN phone_index BINARY(32) NULL COMMENT 'HMAC-SHA256 of the number with its country',
    ADD KEY users_by_phone (phone_index);

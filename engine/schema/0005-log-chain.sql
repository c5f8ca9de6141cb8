-- The log as a chain: what a row carries of it (engine/src/log_chain).
--
-- `chain` is empty in rows from before this step, else 64 bytes: the keyed digest of the row and all
-- before it, and the keyed digest of the row's own columns. Without a default: a gateway from before
-- this step is refused when it appends or cuts, instead of leaving rows that nobody can check.
--
-- In front of the batch signature: what reads only small columns reads no overflow page on SQLite,
-- which cannot add a column in the middle, so that its tables are copied.
${MYSQL}
ALTER TABLE upload_log ADD COLUMN chain VARBINARY(64) NOT NULL AFTER content_digest;
ALTER TABLE download_batch ADD COLUMN digest VARBINARY(32) NOT NULL;
${SQLITE}
CREATE TABLE upload_log_new (
    seq                 ${POSITION} NOT NULL PRIMARY KEY,
    created_at_ms       BIGINT NOT NULL,
    country             VARBINARY(2) NOT NULL,
    upload_tag          VARBINARY(64) NOT NULL,
    key_count           INTEGER NOT NULL,
    format_version      INTEGER NOT NULL,
    uploader_thumbprint VARBINARY(32) NOT NULL,
    signer_thumbprint   VARBINARY(32) NOT NULL,
    content_digest      VARBINARY(32) NOT NULL,
    chain               VARBINARY(64) NOT NULL,
    batch_signature     MEDIUMBLOB NOT NULL,
    identities          MEDIUMBLOB NOT NULL,
    sealed              MEDIUMBLOB NOT NULL,
    CONSTRAINT upload_log_tag UNIQUE (country, upload_tag)
);
INSERT INTO upload_log_new SELECT seq, created_at_ms, country, upload_tag, key_count, format_version,
    uploader_thumbprint, signer_thumbprint, content_digest, x'', batch_signature, identities, sealed
    FROM upload_log ORDER BY seq;
DROP TABLE upload_log;
ALTER TABLE upload_log_new RENAME TO upload_log;
CREATE TABLE download_batch_new (
    ordinal       ${POSITION} NOT NULL PRIMARY KEY,
    day           INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    first_seq     BIGINT NOT NULL,
    last_seq      BIGINT NOT NULL,
    key_count     BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    digest        VARBINARY(32) NOT NULL,
    CONSTRAINT download_batch_tag UNIQUE (day, number),
    CONSTRAINT download_batch_first UNIQUE (first_seq)
);
INSERT INTO download_batch_new SELECT ordinal, day, number, first_seq, last_seq, key_count,
    created_at_ms, x'' FROM download_batch;
DROP TABLE download_batch;
ALTER TABLE download_batch_new RENAME TO download_batch;

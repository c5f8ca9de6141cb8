-- The sequenced log, the download batches cut from it, and what gateways must agree on.
--
-- One row per upload, not per key: an indexed row per key is an order of magnitude slower, and
-- slower still once the index outgrows the buffer pool. The primary key of the log is the arbiter
-- between gateways: whoever commits position S+1 first has it.
--
-- Portable: all text is stored as exact bytes (VARBINARY), so that no collation makes tags equal.
-- ${POSITION} is the type of a position that is the primary key, ${OPTIONS} the table options.

CREATE TABLE IF NOT EXISTS upload_log (
    seq                 ${POSITION} NOT NULL PRIMARY KEY,
    created_at_ms       BIGINT NOT NULL,
    country             VARBINARY(2) NOT NULL,
    upload_tag          VARBINARY(64) NOT NULL,
    key_count           INTEGER NOT NULL,
    format_version      INTEGER NOT NULL,
    uploader_thumbprint VARBINARY(32) NOT NULL,
    signer_thumbprint   VARBINARY(32) NOT NULL,
    content_digest      VARBINARY(32) NOT NULL,
    batch_signature     MEDIUMBLOB NOT NULL,
    -- One keyed 128-bit hash a key, in upload order. Before the sealed keys: SQLite reads a row's
    -- overflow pages in order, and a start reads this column of every row.
    identities          MEDIUMBLOB NOT NULL,
    -- key id, nonce, AES-256-GCM of the encoded keys in upload order; empty once they are too old.
    sealed              MEDIUMBLOB NOT NULL,
    CONSTRAINT upload_log_tag UNIQUE (country, upload_tag)
) ${OPTIONS};

-- A download batch is a range of the log. Its link is the row with the next ordinal.
CREATE TABLE IF NOT EXISTS download_batch (
    ordinal       ${POSITION} NOT NULL PRIMARY KEY,
    day           INTEGER NOT NULL,
    number        INTEGER NOT NULL,
    first_seq     BIGINT NOT NULL,
    last_seq      BIGINT NOT NULL,
    key_count     BIGINT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    CONSTRAINT download_batch_tag UNIQUE (day, number),
    CONSTRAINT download_batch_first UNIQUE (first_seq)
) ${OPTIONS};

CREATE TABLE IF NOT EXISTS certificate (
    thumbprint         VARBINARY(32) NOT NULL,
    kind               VARBINARY(16) NOT NULL,
    country            VARBINARY(2) NOT NULL,
    pem                MEDIUMBLOB NOT NULL,
    operator_signature MEDIUMBLOB NOT NULL,
    created_at_ms      BIGINT NOT NULL,
    revoked_at_ms      BIGINT NULL,
    CONSTRAINT certificate_thumbprint PRIMARY KEY (thumbprint, kind)
) ${OPTIONS};

-- Who may do what only one gateway does. `token` changes hands with the lease: a holder that was
-- away finds another token and stops. `fence` is written by each guarded transaction, which makes
-- it wait for, or fail behind, a take-over.
CREATE TABLE IF NOT EXISTS lease (
    name          VARBINARY(32) NOT NULL PRIMARY KEY,
    holder        VARBINARY(64) NOT NULL,
    token         BIGINT NOT NULL,
    fence         BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL
) ${OPTIONS};

-- What is one per installation: check values of its keys, the revision of the certificate list.
CREATE TABLE IF NOT EXISTS installation (
    name  VARBINARY(64) NOT NULL PRIMARY KEY,
    value VARBINARY(255) NOT NULL
) ${OPTIONS};

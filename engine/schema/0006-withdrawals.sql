-- Uploads that an operator has withdrawn: their keys are in no download, audit or later download
-- batch any more. The log itself is not touched.
--
-- Rows are only ever added, so gateways follow them by number. An upload has a row from when it was
-- withdrawn and, if its keys and its tag were freed, one from then: is_freed is 0 or 1.
--
-- The log keeps a freed tag, and no tag twice: a later upload under it has the number of its use
-- behind the tag, as `TAG 2`, which no participant can send. ${WIDEN_UPLOAD_TAG} makes room for that.

CREATE TABLE IF NOT EXISTS withdrawal (
    number          ${POSITION} NOT NULL PRIMARY KEY,
    seq             BIGINT NOT NULL,
    country         VARBINARY(2) NOT NULL,
    -- As in the log.
    upload_tag      VARBINARY(72) NOT NULL,
    key_count       INTEGER NOT NULL,
    is_freed        INTEGER NOT NULL,
    withdrawn_at_ms BIGINT NOT NULL,
    -- At most 200 characters, as UTF-8.
    reason          VARBINARY(800) NOT NULL,
    CONSTRAINT withdrawal_seq UNIQUE (seq, is_freed)
) ${OPTIONS};

${WIDEN_UPLOAD_TAG};

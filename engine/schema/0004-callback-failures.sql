-- Why a subscriber was not told, the last time: for operators. A table of its own, since a table is
-- created whole or not at all, and columns are not.
--
-- Counts only while the subscription has failed attempts, or is disabled; a success leaves it.

CREATE TABLE IF NOT EXISTS callback_failure (
    country      VARBINARY(2) NOT NULL,
    callback_id  VARBINARY(128) NOT NULL,
    failed_at_ms BIGINT NOT NULL,
    -- At most 200 characters, as UTF-8.
    reason       VARBINARY(800) NOT NULL,
    CONSTRAINT callback_failure_id PRIMARY KEY (country, callback_id)
) ${OPTIONS};

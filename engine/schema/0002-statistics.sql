-- What stays when uploads and download batches are gone, and how far retention has come.
--
-- Nothing here is written with an upload: the log itself counts its rows, and the transaction that
-- deletes rows adds them to upload_statistics. The sum of both is exact at any time.

CREATE TABLE IF NOT EXISTS upload_statistics (
    day          INTEGER NOT NULL,
    country      VARBINARY(2) NOT NULL,
    upload_count BIGINT NOT NULL,
    key_count    BIGINT NOT NULL,
    CONSTRAINT upload_statistics_day PRIMARY KEY (day, country)
) ${OPTIONS};

-- Who was given which download batch on which day, and how often. Gateways add what they have
-- counted every few seconds.
CREATE TABLE IF NOT EXISTS download_statistics (
    day            INTEGER NOT NULL,
    country        VARBINARY(2) NOT NULL,
    batch_day      INTEGER NOT NULL,
    batch_number   INTEGER NOT NULL,
    download_count BIGINT NOT NULL,
    key_count      BIGINT NOT NULL,
    CONSTRAINT download_statistics_day PRIMARY KEY (day, country, batch_day, batch_number)
) ${OPTIONS};

-- One row per day of retention. A row's keys are those of cut download batches whose key data is
-- stored. emptied_to: up to this position of the log, key data is gone. forgotten_to: up to this
-- position, rows are gone that no key can come again of. Neither goes back from row to row.
CREATE TABLE IF NOT EXISTS cleanup_statistics (
    day           INTEGER NOT NULL PRIMARY KEY,
    cleaned_at_ms BIGINT NOT NULL,
    keys_before   BIGINT NOT NULL,
    keys_deleted  BIGINT NOT NULL,
    keys_after    BIGINT NOT NULL,
    emptied_to    BIGINT NOT NULL,
    forgotten_to  BIGINT NOT NULL
) ${OPTIONS};

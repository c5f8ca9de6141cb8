-- The gateways of the installation, for the console of each of them: nothing else reads this table.
--
-- A gateway writes its own row every few seconds; one that has not been seen for a while is gone.
-- Its figures are JSON, which the engine does not read.

CREATE TABLE IF NOT EXISTS gateway (
    name          VARBINARY(255) NOT NULL PRIMARY KEY,
    version       VARBINARY(64) NOT NULL,
    started_at_ms BIGINT NOT NULL,
    -- By the database's clock.
    seen_at_ms    BIGINT NOT NULL,
    figures       MEDIUMBLOB NOT NULL
) ${OPTIONS};

-- Who wants to be told of new download batches, and how far each has been told.
--
-- One cursor per subscription, not one row per batch and subscriber: download batches are numbered
-- without gaps, so pending deliveries follow from the cursor, and cutting a batch costs the same
-- however many subscribe. One delivery per subscription is in flight, which keeps the order.
--
-- A claim is a random token with an expiry by the database's own clock: whoever finds its token
-- gone has been taken over, and changes nothing.

CREATE TABLE IF NOT EXISTS callback_subscription (
    country            VARBINARY(2) NOT NULL,
    -- 32 characters and 256 characters, as UTF-8.
    callback_id        VARBINARY(128) NOT NULL,
    url                VARBINARY(1024) NOT NULL,
    created_at_ms      BIGINT NOT NULL,
    changed_at_ms      BIGINT NOT NULL,
    -- The newest download batch that was told; the next is the one behind it that can still be
    -- downloaded.
    delivered_ordinal  BIGINT NOT NULL,
    -- Attempts in a row that failed, for the next download batch.
    failed_attempts    INTEGER NOT NULL,
    next_attempt_at_ms BIGINT NOT NULL,
    -- Set when too many attempts in a row have failed; a new PUT clears it.
    disabled_at_ms     BIGINT NULL,
    claim_token        BIGINT NOT NULL,
    claimed_until_ms   BIGINT NOT NULL,
    CONSTRAINT callback_subscription_id PRIMARY KEY (country, callback_id)
) ${OPTIONS};

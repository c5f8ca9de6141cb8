-- A keyed digest for each row of the certificate list, so that a row which somebody else has changed
-- can be named. What counts is the digest over the whole list: one value of `installation`, named
-- `certificate_list`, with a counter that grows.
--
-- A table of its own: a column cannot be added to `certificate` by a statement that may be repeated.

CREATE TABLE IF NOT EXISTS certificate_digest (
    thumbprint VARBINARY(32) NOT NULL,
    kind       VARBINARY(16) NOT NULL,
    digest     VARBINARY(32) NOT NULL,
    CONSTRAINT certificate_digest_thumbprint PRIMARY KEY (thumbprint, kind)
) ${OPTIONS};

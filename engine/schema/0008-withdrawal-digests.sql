-- A keyed digest for each withdrawal, over the one before it and the row's own columns: whoever can
-- write the database but has no key neither withdraws an upload nor takes a withdrawal back unseen.
-- Which is the last is told by a value of `installation`, named `withdrawals end`.
--
-- Null in rows from before this step: an operator accepts them once, with efgs db verify --accept.

ALTER TABLE withdrawal ADD COLUMN digest VARBINARY(32);

-- A role that may read everything and change nothing. Put a password of your own, and in the last
-- line the role that owns the tables, and run it as an administrator in the collector's database:
--   psql --single-transaction -v ON_ERROR_STOP=1 -f postgresql-auditor.sql collector
CREATE ROLE collector_auditor LOGIN PASSWORD 'change me' CONNECTION LIMIT 10;
-- Not a protection (a role may undo it for itself), but a mistake is caught before it is refused.
ALTER ROLE collector_auditor SET default_transaction_read_only = on;
ALTER ROLE collector_auditor SET timezone = 'UTC';
-- A forgotten query must not hold back the clean-up of old rows for ever.
ALTER ROLE collector_auditor SET statement_timeout = '1h';
ALTER ROLE collector_auditor SET idle_in_transaction_session_timeout = '10min';
GRANT USAGE ON SCHEMA public TO collector_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO collector_auditor;
-- The views are created anew by each upgrade, by the role that owns the tables.
ALTER DEFAULT PRIVILEGES FOR ROLE collector IN SCHEMA public GRANT SELECT ON TABLES TO collector_auditor;

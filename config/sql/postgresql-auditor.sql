-- A role that may read everything and change nothing. Put in a password and, in the last line, the
-- role that owns the tables, and run it as an administrator in the collector's database:
--   psql --single-transaction -v ON_ERROR_STOP=1 -f postgresql-auditor.sql collector
CREATE ROLE collector_auditor LOGIN PASSWORD 'change me' CONNECTION LIMIT 10;
-- No protection (a role may undo it for itself), but it catches mistakes.
ALTER ROLE collector_auditor SET default_transaction_read_only = on;
ALTER ROLE collector_auditor SET timezone = 'UTC';
-- A forgotten query must not hold back the clean-up of old rows for ever.
ALTER ROLE collector_auditor SET statement_timeout = '1h';
ALTER ROLE collector_auditor SET idle_in_transaction_session_timeout = '10min';
GRANT USAGE ON SCHEMA public TO collector_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO collector_auditor;
-- Each upgrade recreates the views, as the role that owns the tables.
ALTER DEFAULT PRIVILEGES FOR ROLE collector IN SCHEMA public GRANT SELECT ON TABLES TO collector_auditor;

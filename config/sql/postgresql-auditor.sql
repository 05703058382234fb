-- A role that may read everything and change nothing. Run it in the collector's database, as the
-- role that owns its tables, with a password of your own:
--   psql "$COLLECTOR_DATABASE__URL" -v ON_ERROR_STOP=1 -f postgresql-auditor.sql
CREATE ROLE collector_auditor LOGIN PASSWORD 'change me' CONNECTION LIMIT 10;
-- Not a protection (a role may undo it for itself), but a mistake is caught before it is refused.
ALTER ROLE collector_auditor SET default_transaction_read_only = on;
ALTER ROLE collector_auditor SET timezone = 'UTC';
-- A forgotten query must not hold back the clean-up of old rows for ever.
ALTER ROLE collector_auditor SET statement_timeout = '1h';
ALTER ROLE collector_auditor SET idle_in_transaction_session_timeout = '10min';
GRANT USAGE ON SCHEMA public TO collector_auditor;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO collector_auditor;
-- The views are created anew by each upgrade.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO collector_auditor;

-- A user that may read everything and change nothing. Put in your database's name and a password,
-- and run it as an administrator:
--   mariadb < mariadb-auditor.sql
CREATE USER 'collector_auditor'@'%' IDENTIFIED BY 'change me' WITH MAX_USER_CONNECTIONS 10;
GRANT SELECT, SHOW VIEW ON `collector`.* TO 'collector_auditor'@'%';

-- What CREATE EXTENSION and setup() make, to whom it belongs, and how it goes away.
\set VERBOSITY default
SET client_min_messages = warning;
CREATE DATABASE order_mgmt_install;
ALTER DATABASE order_mgmt_install SET order_mgmt.workers = off;
\connect order_mgmt_install
SET client_min_messages = warning;
CREATE EXTENSION order_mgmt;

-- Before setup() there is nothing to work with.
SELECT library = extension AS one_version, schema FROM order_mgmt.version();
SELECT order_mgmt.capture_order('c', '[{"product_id": "p", "quantity": 1, "unit_price": 1}]');
\echo :LAST_ERROR_SQLSTATE
SELECT order_mgmt.run_pipeline();
SELECT * FROM order_mgmt.check_invariants();
SELECT * FROM order_mgmt.queues;

-- Idempotent.
SELECT order_mgmt.setup();
SELECT order_mgmt.setup();
SELECT library = extension AS one_version, schema FROM order_mgmt.version();
SELECT order_mgmt.migrate();
SELECT order_mgmt.post_restore();

CREATE VIEW members AS
    SELECT pg_describe_object(classid, objid, 0) AS object, classid, objid FROM pg_depend
    WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
      AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'order_mgmt');

-- Members are code, row types and views; no table, sequence or index is one.
SELECT c.relkind, count(*) > 0 AS some FROM members JOIN pg_class AS c ON classid = 'pg_class'::regclass AND c.oid = objid
GROUP BY 1 ORDER BY 1;
SELECT object FROM members WHERE classid NOT IN ('pg_proc'::regclass, 'pg_class'::regclass, 'pg_type'::regclass);

-- Each has a comment, and each is in the one schema.
SELECT object FROM members WHERE classid IN ('pg_proc'::regclass, 'pg_class'::regclass)
    AND obj_description(objid, classid::regclass::name) IS NULL;
SELECT object FROM members JOIN pg_proc AS p ON classid = 'pg_proc'::regclass AND p.oid = objid
WHERE pronamespace <> 'order_mgmt'::regnamespace;

-- Names are not overloaded, nothing returns void, and SECURITY DEFINER fixes its search_path; one procedure, which commits.
SELECT proname, count(*) FROM pg_proc WHERE pronamespace = 'order_mgmt'::regnamespace GROUP BY 1 HAVING count(*) > 1;
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'order_mgmt'::regnamespace
    AND (prorettype = 'void'::regtype OR prokind <> 'f' AND proname <> 'archive_due'
         OR prosecdef AND NOT coalesce(proconfig @> '{"search_path=pg_catalog, pg_temp"}', false));

-- The data is no member, belongs to the owner of the data, and is described.
SELECT relname, relkind, relpersistence FROM pg_class
WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p', 'S', 'v') AND NOT relispartition
  AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass)
ORDER BY relname COLLATE "C";
SELECT relname FROM pg_class WHERE relnamespace = 'order_mgmt'::regnamespace AND relowner <> 'order_mgmt_owner'::regrole
    AND relkind <> 'c' AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass);
SELECT relname FROM pg_class WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p', 'S', 'v')
    AND NOT relispartition AND obj_description(oid, 'pg_class') IS NULL;
SELECT attrelid::regclass AS relation, attname FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND attnum > 0 AND NOT attisdropped
  AND col_description(attrelid, attnum) IS NULL ORDER BY attrelid::regclass::text COLLATE "C", attnum;
-- Partitions of all three tables, for as many months.
SELECT inhparent::regclass AS parent, count(*) FROM pg_inherits JOIN pg_class ON oid = inhrelid
WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind = 'r' GROUP BY 1 ORDER BY 1::text COLLATE "C";
-- Every constraint was given its name; every key of text compares by bytes; no column has a type of ours.
SELECT conrelid::regclass, conname FROM pg_constraint
WHERE connamespace = 'order_mgmt'::regnamespace AND contype = 'c' AND conname ~ '_check\d*$';
SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p') AND attname ~ '_(id|ref)$'
  AND atttypid = 'text'::regtype AND attcollation <> '"C"'::regcollation;
SELECT attrelid::regclass, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
     JOIN pg_type AS t ON t.oid = atttypid
WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p') AND typnamespace = 'order_mgmt'::regnamespace;

-- Roles: nobody logs in as one of them, and what each includes.
SELECT rolname, rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls,
       ARRAY(SELECT roleid::regrole::text FROM pg_auth_members WHERE member = r.oid ORDER BY 1) AS includes
FROM pg_roles AS r WHERE rolname LIKE 'order\_mgmt\_%' ORDER BY rolname COLLATE "C";

-- PUBLIC has nothing.
SELECT object, acl.privilege_type FROM members
LEFT JOIN pg_proc AS p ON classid = 'pg_proc'::regclass AND p.oid = objid
LEFT JOIN pg_class AS c ON classid = 'pg_class'::regclass AND c.oid = objid
CROSS JOIN LATERAL aclexplode(coalesce(p.proacl, c.relacl, CASE WHEN p.oid IS NOT NULL THEN acldefault('f', p.proowner) END)) AS acl
WHERE acl.grantee = 0;
SELECT relname, acl.privilege_type FROM pg_class CROSS JOIN LATERAL aclexplode(relacl) AS acl
WHERE relnamespace = 'order_mgmt'::regnamespace AND acl.grantee = 0;
SELECT nspname, acl.privilege_type FROM pg_namespace CROSS JOIN LATERAL aclexplode(nspacl) AS acl
WHERE nspname = 'order_mgmt' AND acl.grantee = 0;

-- The code cannot be dropped from under the data; that is said at once, without locking it.
DROP EXTENSION order_mgmt;
\echo :LAST_ERROR_SQLSTATE
BEGIN;
SAVEPOINT s;
DROP EXTENSION IF EXISTS order_mgmt;
ROLLBACK TO SAVEPOINT s;
SELECT count(*) AS exclusive_locks FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'AccessExclusiveLock' AND relation IS NOT NULL;
COMMIT;
\set VERBOSITY terse
DROP SCHEMA order_mgmt;
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE

-- setup() and teardown() do not work on what is not theirs, or by accident.
SELECT order_mgmt.teardown('yes');
\echo :LAST_ERROR_SQLSTATE
SELECT order_mgmt.teardown(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT order_mgmt.teardown('drop all order data');
SELECT relname FROM pg_class WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p', 'S')
    AND oid NOT IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass);
SELECT * FROM order_mgmt.list_orders();
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE order_mgmt.accounts (mine int);
SELECT order_mgmt.setup();
\echo :LAST_ERROR_SQLSTATE
DROP TABLE order_mgmt.accounts;
SELECT order_mgmt.setup();
SELECT order_mgmt.teardown('drop all order data');
DROP VIEW members;
DROP EXTENSION order_mgmt;
SELECT count(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'order_mgmt');
CREATE EXTENSION order_mgmt SCHEMA public;

\connect contrib_regression
DROP DATABASE order_mgmt_install;

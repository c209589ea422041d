-- Who may do what.
SET client_min_messages = warning;
CREATE DATABASE order_mgmt_privileges;
ALTER DATABASE order_mgmt_privileges SET order_mgmt.workers = off;
\connect order_mgmt_privileges
SET client_min_messages = warning;
CREATE EXTENSION order_mgmt;
SELECT order_mgmt.setup();
\set VERBOSITY terse
\set lines '[{"product_id": "p", "quantity": 1, "unit_price": 1}]'

-- Which roles may call each function; admin, who may call all, is left out.
SELECT proname, concat_ws(' ',
    CASE WHEN has_function_privilege('order_mgmt_reader', oid, 'EXECUTE') THEN 'reader' END,
    CASE WHEN has_function_privilege('order_mgmt_analyst', oid, 'EXECUTE') THEN 'analyst' END,
    CASE WHEN has_function_privilege('order_mgmt_app', oid, 'EXECUTE') THEN 'app' END,
    CASE WHEN has_function_privilege('order_mgmt_operator', oid, 'EXECUTE') THEN 'operator' END) AS roles
FROM pg_proc WHERE pronamespace = 'order_mgmt'::regnamespace ORDER BY proname COLLATE "C";
SELECT proname FROM pg_proc WHERE pronamespace = 'order_mgmt'::regnamespace
    AND NOT has_function_privilege('order_mgmt_admin', oid, 'EXECUTE');

-- Nobody may write to a table, but for staging rows, nor create anything in the schema.
SELECT rolname, relname, privilege FROM pg_roles, pg_class,
    unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) AS privilege
WHERE rolname IN ('order_mgmt_reader', 'order_mgmt_app', 'order_mgmt_operator', 'order_mgmt_analyst', 'order_mgmt_admin')
  AND relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p', 'v') AND has_table_privilege(rolname, pg_class.oid, privilege)
ORDER BY 2, 1, 3;
SELECT rolname FROM pg_roles WHERE rolname LIKE 'order\_mgmt\_%' AND has_schema_privilege(rolname, 'order_mgmt', 'CREATE');
SELECT relname FROM pg_class WHERE relnamespace = 'order_mgmt'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
    AND NOT has_table_privilege('order_mgmt_reader', oid, 'SELECT') ORDER BY 1;

CREATE ROLE regress_nobody;
SET ROLE regress_nobody;
SELECT order_mgmt.get_order('01a1fd9f-f26b-740f-82c3-52bd8163a5c0');
SELECT * FROM order_mgmt.orders;
RESET ROLE;

-- An operator gives credit and stock, and runs the shop.
SET ROLE order_mgmt_operator;
SELECT balance FROM order_mgmt.set_account('ann', 100);
SELECT order_mgmt.adjust_balance('ann', 5);
SELECT unit_price FROM order_mgmt.set_product('p', unit_price => 2);
SELECT on_hand FROM order_mgmt.set_stock('p', 10);
SELECT order_mgmt.adjust_stock('p', 5);
SELECT order_mgmt.setup();
SELECT order_mgmt.teardown('drop all order data');
SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at', cold_after => '1 year', drop_after => '2 years');
UPDATE order_mgmt.accounts SET balance = 1000000;
RESET ROLE;

-- An application takes orders, but gives nothing away.
SET ROLE order_mgmt_app;
SELECT order_mgmt.capture_order('ann', :'lines', 'k') AS id \gset
SELECT order_mgmt.capture_order('ann', :'lines', 'k') = :'id' AS same;
SELECT error_code FROM order_mgmt.capture_orders(jsonb_build_array(jsonb_build_object('customer_id', 'ann', 'lines', :'lines'::jsonb)));
SELECT order_mgmt.add_order_note(:'id', 'hello') > 0 AS noted;
SELECT order_mgmt.replace_order(:'id', :'lines') AS id \gset
SELECT order_mgmt.cancel_order(:'id');
SELECT name, balance FROM order_mgmt.set_account('ann', name => 'Ann');
SELECT balance FROM order_mgmt.set_account('eve');
SELECT order_mgmt.set_account('ann', 1000000);
SELECT order_mgmt.set_account('eve', 0);
SELECT order_mgmt.adjust_balance('ann', 1);
SELECT order_mgmt.set_stock('p', 1000);
SELECT order_mgmt.adjust_stock('p', 1);
SELECT order_mgmt.set_product('p', unit_price => 0);
SELECT order_mgmt.ship_order(:'id');
SELECT order_mgmt.delete_account('ann');
SELECT order_mgmt.run_pipeline();
SELECT order_mgmt.run_maintenance();
SELECT order_mgmt.manage_table('order_mgmt.orders', 'created_at');
SELECT order_mgmt.unmanage_table('order_mgmt.orders');
SELECT order_mgmt.pause_consumer('shipper');
INSERT INTO order_mgmt.accounts (customer_id) VALUES ('x');
UPDATE order_mgmt.orders SET total = 0;
DELETE FROM order_mgmt.event_log;
SELECT count(*) FROM order_mgmt.idempotency_keys_0;
SELECT count(*) FROM order_mgmt.installation;
SELECT nextval('order_mgmt.event_ids');
SET order_mgmt.auto_ship = off;
SET order_mgmt.workers = off;
SET order_mgmt.batch_size = 1;
RESET ROLE;

-- The pipeline runs with the rights of an operator, who has none on the tables.
SET ROLE order_mgmt_operator;
SELECT order_mgmt.run_pipeline() > 0 AS ran;
SELECT count(*) > 0 AS done FROM order_mgmt.run_maintenance();
SELECT order_mgmt.pause_consumer('shipper'), order_mgmt.resume_consumer('shipper');
RESET ROLE;

-- A reader reads, and an analyst too.
SET ROLE order_mgmt_reader;
SELECT count(*), min(status), max(status) FROM order_mgmt.list_orders('ann');
SELECT order_mgmt.get_order(:'id')->>'status' AS status;
SELECT count(*) > 0 AS tracked FROM order_mgmt.track_order(:'id');
SELECT name, balance FROM order_mgmt.get_account('ann');
SELECT on_hand FROM order_mgmt.get_product('p');
SELECT order_mgmt.preview_order('ann', :'lines')->>'passes' AS passes;
SELECT order_mgmt.wait_for_order(:'id', '0');
SELECT consumer, pending FROM order_mgmt.queues;
SELECT count(*) FROM order_mgmt.shipment_queue;
SELECT count(*) > 0 AS some FROM order_mgmt.events;
SELECT * FROM order_mgmt.check_invariants();
SELECT order_mgmt.capture_order('ann', :'lines');
SELECT order_mgmt.capture_orders('[]');
SELECT order_mgmt.cancel_order(:'id');
SELECT order_mgmt.add_order_note(:'id', 'x');
SELECT order_mgmt.set_account('ann');
SET ROLE order_mgmt_analyst;
SELECT count(*) FROM order_mgmt.list_orders('ann');
SELECT order_mgmt.capture_order('ann', :'lines');
RESET ROLE;

-- An admin sets up and takes down.
SET ROLE order_mgmt_admin;
SELECT order_mgmt.setup();
SELECT order_mgmt.migrate();
SELECT order_mgmt.post_restore();
SELECT order_mgmt.teardown('drop all order data');
SELECT order_mgmt.setup();
SELECT order_mgmt.capture_order('ann', :'lines') IS NOT NULL AS captured;
SELECT order_mgmt.run_pipeline() > 0 AS ran;
SELECT status, reasons FROM order_mgmt.list_orders('ann');
SELECT * FROM order_mgmt.check_invariants();
RESET ROLE;

DROP ROLE regress_nobody;
\connect contrib_regression
DROP DATABASE order_mgmt_privileges;

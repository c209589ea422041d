-- Loads as jobs, where no worker runs: arguments, rights, states, retries.
BEGIN;
\i helpers.psql
SELECT plan(46);
SELECT open_shop('c', 1000000, 'p', 1000000);

-- Arguments: what is wrong is named, and nothing is left of it.
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv(NULL)$$), 'OM001 source', 'no source');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('')$$), 'OM001 source', 'an empty one');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('orders.csv')$$), 'OM001 source', 'a relative path');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('upload:1')$$), 'OM001 source', 'an upload without its UUID');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('upload:01a1fd9f-f26b-740f-82c3_52bd8163a5c0')$$), 'OM001 source', 'with what is none');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:')$$), 'OM001 source', 'a large object without its OID');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:0')$$), 'OM001 source', 'with that of none');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:4294967296')$$), 'OM001 source', 'or one that is too large');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:12x')$$), 'OM001 source', 'or no number');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('retry:1')$$), 'OM001 source', 'a retry is for retry_load()');
SELECT is(error_of($$SELECT order_mgmt.load_accounts_csv('staged')$$), 'OM001 source', 'only orders are staged');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('/x', mode => 'append')$$), 'OM001 mode', 'another mode');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('/x', mode => NULL)$$), 'OM001 mode', 'no mode');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('/x', options => '[]')$$), 'OM001 options', 'options that are no object');
SELECT is(error_of($$SELECT order_mgmt.load_stock_csv('/x', options => NULL)$$), 'OM001 options', 'no options');
SELECT is(error_of(format('SELECT order_mgmt.%s', call)), 'OM001 ' || path, call)
FROM (VALUES ('wait_for_load(NULL)', 'load_id'), ('wait_for_load(1, NULL)', 'timeout'), ('wait_for_load(1, ''-1 s'')', 'timeout'),
             ('cancel_load(NULL)', 'load_id'), ('retry_load(NULL)', 'load_id'), ('retry_load(1, '''')', 'csv'), ('rejected_csv(NULL)', 'load_id')) AS c (call, path);
SELECT is(error_of(format('SELECT order_mgmt.%s', call)), 'OM004', call || ' of a load that is not there')
FROM (VALUES ('wait_for_load(0)'), ('cancel_load(0)'), ('retry_load(0)'), ('rejected_csv(0)')) AS c (call);
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('/there/is/no/such.csv')$$), 'OM007', 'a file that is not there ends the call');
SELECT is((SELECT count(*) FROM order_mgmt.loads), 0::bigint, 'nothing is left of all that');

-- Rights: a file of the server asks for a role of its own, when the load is asked for.
SET LOCAL ROLE order_mgmt_operator;
SELECT throws_ok($$SELECT order_mgmt.load_orders_csv('/there/is/no/such.csv')$$, '42501', 'permission denied to load a file of the server',
    'an operator may load, but not every file of the server');
SELECT throws_ok($$SELECT * FROM order_mgmt.load_parts$$, '42501', NULL, 'and sees no texts of others');
RESET ROLE;

-- States, by rows as a worker might have left them.
INSERT INTO order_mgmt.loads (load_id, kind, mode, source, options, started_by, status, bytes_total, bytes_read, rows_read, rows_loaded, rows_rejected, rows_skipped,
    orders_loaded, orders_skipped, errors, done_records, done_sorted, created_at, updated_at, header)
SELECT 900 + n, 'orders', 'capture', 'staged', '{"skip_lines": 2, "encoding": "LATIN1", "null": "-"}', 'somebody', (enum)[n], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    now(), now(), 'order_ref,customer_id,product_id,quantity,unit_price'
FROM generate_series(1, 6) AS n, (SELECT '{queued,reading,writing,done,failed,cancelled}'::text[] AS enum) AS e;
INSERT INTO order_mgmt.load_errors (load_id, error_no, row_no, line_no, column_name, error_code, message, raw, raw_is_exact)
VALUES (904, 1, 7, 8, 'quantity', 'OM001', 'is bad', 'r7,c,p,bad,1', true), (904, 2, 3, 4, 'quantity', 'OM001', 'is bad', 'r3,c,p,bad,1', true),
       (904, 3, 3, 4, 'unit_price', 'OM001', 'is bad', 'r3,c,p,bad,1', true), (904, 4, NULL, NULL, NULL, 'OM001', 'of no row', NULL, false),
       (905, 1, 1, 2, 'quantity', 'OM001', 'is bad', 'r1?,c,p,bad,1', false);
SELECT is((SELECT status FROM order_mgmt.wait_for_load(904)), 'done', 'who waits for a load that has ended has its row');
SELECT is((SELECT status FROM order_mgmt.wait_for_load(905)), 'failed', 'a failure is no error');
SELECT is(error_of('SELECT order_mgmt.wait_for_load(901)'), 'OM005', 'a load of one''s own transaction cannot be waited for');
SELECT is((SELECT status FROM order_mgmt.wait_for_load(901, '0')), 'queued', 'when the time is up the row says how far it is');
SELECT is(rows_of('SELECT load_id, order_mgmt.cancel_load(load_id) FROM order_mgmt.loads WHERE load_id > 900 ORDER BY 1'),
    '(901,t) (902,t) (903,t) (904,f) (905,f) (906,f)', 'cancel_load() ends what has not ended');
SELECT is(rows_of('SELECT load_id, error_code, finished_at IS NOT NULL FROM order_mgmt.loads WHERE status = ''cancelled'' AND load_id > 900 ORDER BY 1'),
    '(901,57014,t) (902,57014,t) (903,57014,t) (906,,f)', 'at once where no worker lives');
SELECT is((SELECT count(*) FROM order_mgmt.load_cancels), 0::bigint, 'and leaves no request');

-- Refused rows.
SELECT is(rows_of('SELECT * FROM order_mgmt.rejected_csv(904)'),
    '("order_ref,customer_id,product_id,quantity,unit_price") ("r3,c,p,bad,1") ("r7,c,p,bad,1")', 'rejected_csv(): each row once, in the order of the file');
SELECT is(rows_of('SELECT * FROM order_mgmt.rejected_csv(906)'), '("order_ref,customer_id,product_id,quantity,unit_price")', 'or none');
SELECT is(error_of('SELECT order_mgmt.retry_load(906)'), 'OM005', 'where none has been refused there is nothing to try again');
SELECT is(error_of('SELECT order_mgmt.retry_load(905)'), 'OM005', 'what is not kept as it was cannot be tried again');
UPDATE order_mgmt.loads SET status = 'queued' WHERE load_id = 901;
SELECT is(error_of('SELECT order_mgmt.retry_load(901)'), 'OM005', 'nor what has not ended');
SELECT order_mgmt.retry_load(904) AS again \gset
SELECT is((SELECT concat_ws(' ', status, rows_read, rows_loaded, rows_rejected, retry_of, source = 'retry:' || load_id, options) FROM order_mgmt.wait_for_load(:again)),
    'done 2 0 2 904 t {"null": "-", "header": 1, "encoding": "UTF8", "skip_lines": 0}', 'a retry reads the refused rows with the same options, as they are kept');
SELECT is(rows_of('SELECT * FROM order_mgmt.rejected_csv(' || :again || ')'),
    '("order_ref,customer_id,product_id,quantity,unit_price") ("r3,c,p,bad,1") ("r7,c,p,bad,1")', 'which are refused again');
SELECT order_mgmt.retry_load(:again, E'order_ref,customer_id,product_id,quantity,unit_price\nr3,c,p,3,1\nr7,c,p,bad,1\n') AS third \gset
SELECT is((SELECT concat_ws(' ', status, rows_read, rows_loaded, rows_rejected) FROM order_mgmt.wait_for_load(:third)), 'done 2 1 1', 'unless they are mended');
SELECT is((SELECT count(*) FROM order_mgmt.load_parts), 0::bigint, 'no text is kept beyond the load');

SELECT * FROM finish();
ROLLBACK;

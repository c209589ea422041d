-- What a file becomes: mapping, modes, refusals, repetitions. Loads run in the call, for there is no worker.
BEGIN;
\ir helpers.psql
SELECT no_plan();

-- Loads a text as orders, or as what the kind says.
CREATE FUNCTION load(csv text, mode text DEFAULT 'history', options jsonb DEFAULT '{}', kind text DEFAULT 'orders')
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    source text := 'lo:' || lo_from_bytea(0, convert_to(csv, 'UTF8'));
    id bigint;
BEGIN
    IF kind = 'orders' THEN
        RETURN order_mgmt.load_orders_csv(source, mode, options);
    END IF;
    EXECUTE format('SELECT order_mgmt.load_%s_csv($1, $2)', kind) INTO id USING source, options;
    RETURN id;
END
$$;

-- status read loaded rejected skipped / orders loaded skipped
CREATE FUNCTION outcome_of(id bigint) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s=%s+%s+%s orders %s+%s', status, rows_read, rows_loaded, rows_rejected, rows_skipped,
                  orders_loaded, orders_skipped) FROM order_mgmt.loads WHERE load_id = id
$$;
CREATE FUNCTION errors_of(id bigint) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s:%s %s %s', row_no, coalesce(column_name, '-'), error_code, message), ' | ' ORDER BY error_no)
    FROM order_mgmt.load_errors WHERE load_id = id
$$;
CREATE FUNCTION stored(refs text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s %s %s %s', o.order_ref, o.customer_id, o.status, o.total,
        (SELECT string_agg(format('%sx%s', l.quantity, l.product_id), ',' ORDER BY l.line_no) FROM order_mgmt.order_lines AS l
         WHERE l.order_id = o.order_id)), ' | ' ORDER BY o.order_ref, o.order_id)
    FROM order_mgmt.orders AS o WHERE o.order_ref LIKE refs
$$;


-- --- history ---------------------------------------------------------------------------------------
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'h1,ann,pen,2,1.50,2019-02-28 23:59:59\n'
    'h1,ann,ink,1,9,2019-02-28 23:59:59\n'
    'h2,bob,pen,1,1.5,2019-03-01T00:00:00.5+01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 3=3+0+0 orders 2+0', 'every row is accounted for');
SELECT is(stored('h%'), 'h1 ann shipped 12.0000 2xpen,1xink | h2 bob shipped 1.5000 1xpen', 'orders are there as they were shipped');
SELECT is(rows_of($$SELECT order_ref, created_at FROM order_mgmt.orders WHERE order_ref LIKE 'h%' ORDER BY 1$$),
    '(h1,"2019-02-28 23:59:59+00") (h2,"2019-02-28 23:00:00.5+00")', 'each on its own date, UTC unless the file says otherwise');
SELECT is(rows_of($$SELECT DISTINCT tableoid::regclass FROM order_mgmt.order_lines WHERE created_at < '2020-01-01'$$),
    '(order_mgmt.order_lines_2019_02)', 'in the partition of its month');
SELECT is(story((SELECT order_id FROM order_mgmt.orders WHERE order_ref = 'h1')), 'order_imported', 'with one event');
SELECT is((SELECT (detail->>'load_id')::bigint FROM order_mgmt.track_order((SELECT order_id FROM order_mgmt.orders WHERE order_ref = 'h1'))),
    :id::bigint, 'which names the load');
SELECT is(rows_of('SELECT * FROM order_mgmt.check_invariants()'), NULL, 'and no money or stock has moved');

-- --- what is refused --------------------------------------------------------------------------------
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'r1,ann,pen,2,1,2019-05-01\n'
    'r2,,pen,1,1,2019-05-01\n'
    'r3,ann,pen,-1,1,2019-05-01\n'
    'r3,ann,ink,1,1,2019-05-01\n'
    'r4,ann,pen,1.5,x,2019-05-01\n'
    'r5,ann,pen,1,1.00001,2019-05-01\n'
    'r6,ann,pen,1,1,2019-02-29\n'
    'r7,ann,pen,1,1,2999-01-01\n'
    'r8,ann,pen,1,1,1969-12-31\n'
    'r9,ann,pen,1,1\n'
    'r10,ann,pen,1,1,2019-05-01\n'
    'r10,bob,pen,1,1,2019-05-01\n'
    'r11,ann,nothing known,1,,2019-05-01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 13=1+12+0 orders 1+0', 'the rest loads');
SELECT is(errors_of(:id), concat_ws(' | ',
    '2:customer_id 23502 customer_id is missing',
    '3:quantity 22003 quantity "-1" is negative',
    '4:- OM007 another row of the same order is refused',
    '5:quantity 22P02 quantity "1.5" is not a whole number',
    '5:unit_price 22P02 unit_price "x" is not an amount',
    '6:unit_price 22003 unit_price "1.00001" has more than four decimals',
    '7:created_at 22007 created_at "2019-02-29" is not a time',
    '8:created_at 22008 created_at "2999-01-01" lies in the future',
    '9:created_at 22008 created_at "1969-12-31" is before 1970',
    '10:- 22P04 the row has 5 cells where 6 are expected',
    '12:customer_id 21000 customer_id is not that of the order''s first row',
    '11:- OM007 another row of the same order is refused',
    '13:unit_price OM001 unit_price is missing, and product "nothing known" has none'),
    'each row says why');
SELECT is((SELECT raw FROM order_mgmt.load_errors WHERE load_id = :id AND row_no = 4), 'r3,ann,ink,1,1,2019-05-01', 'and how it stands in the file');

-- --- a dry run says the same -------------------------------------------------------------------------
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'd1,ann,pen,2,1,2019-05-01\nd2,ann,pen,0,1,2019-05-01\nh1,ann,pen,1,1,2019-05-01\n', options => '{"dry_run": true}') AS dry \gset
SELECT is(stored('d%'), NULL, 'a dry run loads nothing');
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'd1,ann,pen,2,1,2019-05-01\nd2,ann,pen,0,1,2019-05-01\nh1,ann,pen,1,1,2019-05-01\n') AS wet \gset
SELECT is(outcome_of(:dry), 'done 3=1+1+1 orders 1+1', 'it counts');
SELECT is(outcome_of(:dry), outcome_of(:wet), 'as the real one does');
SELECT is(errors_of(:dry), errors_of(:wet), 'and has the same errors');
SELECT is(stored('d%'), 'd1 ann shipped 2.0000 2xpen', 'which has loaded');

-- --- repetitions --------------------------------------------------------------------------------------
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'd1,ann,pen,2,1,2019-05-01\nd2,ann,pen,0,1,2019-05-01\nh1,ann,pen,1,1,2019-05-01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 0=0+0+0 orders 0+0', 'the same file loads nothing');
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'd1,ann,pen,2,1,2019-05-01\nd2,ann,pen,3,1,2019-05-01\nh1,ann,pen,1,1,2019-05-01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 3=1+0+2 orders 1+2', 'a corrected file loads what is new');
SELECT is(stored('d%'), 'd1 ann shipped 2.0000 2xpen | d2 ann shipped 3.0000 3xpen', 'once');
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'd1,ann,pen,2,1,2019-05-01\nd3,ann,pen,3,1,2019-05-01\n', options => '{"on_conflict": "error"}') AS id \gset
SELECT is(outcome_of(:id), 'done 2=1+1+0 orders 1+0', 'what there is may be an error');
SELECT is(errors_of(:id), '1:- 23505 there is an order with order_ref "d1"', 'which says so');

-- --- rows that do not stand together ----------------------------------------------------------------
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    's1,ann,a,1,1,2019-05-01\ns2,bob,a,1,1,2019-05-01\ns1,ann,b,2,1,2019-05-01\ns3,cid,c,1,1,2019-05-01\n'
    's2,bob,b,0,1,2019-05-01\ns1,ann,c,3,1,2019-05-01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 6=4+2+0 orders 2+0', 'they are one order all the same');
SELECT is(stored('s%'), 's1 ann shipped 6.0000 1xa,2xb,3xc | s3 cid shipped 1.0000 1xc', 'whose lines keep the order of the file');
SELECT is(errors_of(:id), '5:quantity 22003 quantity "0" is zero | 2:- OM007 another row of the same order is refused', 'and which is refused whole');

-- Batches of one row do the same.
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    't1,ann,a,1,1,2019-05-01\nt1,ann,b,1,1,2019-05-01\nt2,bob,a,1,1,2019-05-01\nt1,ann,c,2,1,2019-05-01\nt3,cid,c,1,1,2019-05-01\n',
    options => '{"batch_rows": 1}') AS id \gset
SELECT is(outcome_of(:id), 'done 5=5+0+0 orders 3+0', 'in batches of a row');
SELECT is(stored('t%'), 't1 ann shipped 4.0000 1xa,1xb,2xc | t2 bob shipped 1.0000 1xa | t3 cid shipped 1.0000 1xc', 'too');

-- Without references each row is an order.
SELECT load(E'customer_id,product_id,quantity,unit_price,created_at\nzoe,a,1,1,2019-06-01\nzoe,a,1,1,2019-06-01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 2=2+0+0 orders 2+0', 'without references each row is an order');
SELECT load(E'customer_id,product_id,quantity,unit_price,created_at\nzoe,a,1,1,2019-06-01\nzoe,a,1,1,2019-06-01\n', options => '{"trim": true}') AS id \gset
SELECT is(outcome_of(:id), 'done 0=0+0+0 orders 0+0', 'and the same bytes are not loaded again, whatever the options');

-- --- mapping -------------------------------------------------------------------------------------------
SELECT load(E'# export of today\nWer;Was;Wieviel;Preis;Wann\neva;uhr;1;"1234,5";31.12.2018 23:30\n', options => '{"skip_lines": 1, "delimiter": ";",
    "columns": {"customer_id": "wer", "product_id": 2, "quantity": "Wieviel", "unit_price": "Preis", "created_at": "Wann"},
    "defaults": {"order_ref": "m1", "metadata": "{\"from\": \"file\"}"}, "decimal": ",", "timestamp_format": "DD.MM.YYYY HH24:MI", "timezone": "Europe/Berlin"}') AS id \gset
SELECT is(stored('m%'), 'm1 eva shipped 1234.5000 1xuhr', 'names, positions, decimals and defaults');
SELECT is(rows_of($$SELECT created_at, metadata FROM order_mgmt.orders WHERE order_ref = 'm1'$$), '("2018-12-31 22:30:00+00","{""from"": ""file""}")', 'times of a zone');
SELECT load(E'n1,ann,pen,1,1,2019-05-01\n', options => '{"header": 0}') AS id \gset
SELECT is(stored('n%'), 'n1 ann shipped 1.0000 1xpen', 'without a header columns come in their order');

SELECT is(error_of($$SELECT load('order_ref,customer,product_id,quantity,created_at')$$), 'OM007', 'a column that must be there');
SELECT is(error_of($$SELECT load('order_ref', options => '{"columns": {"customer": "x"}}')$$), 'OM001 options.columns.customer', 'a column that there is not');
SELECT is(error_of($$SELECT load('order_ref', options => '{"colums": {}}')$$), 'OM001 options.colums', 'an option that there is not');
SELECT is(error_of($$SELECT load('order_ref', options => '{"decimal": ";"}')$$), 'OM001 options.decimal', 'a mark that is none');
SELECT is(error_of($$SELECT load('order_ref', options => '{"timezone": "Mars"}')$$), 'OM001 options.timezone', 'a zone that is none');
SELECT is(error_of($$SELECT load('order_ref', options => '{"on_conflict": "shout"}')$$), 'OM001 options.on_conflict', 'a choice that is none');
SELECT is(error_of($$SELECT load('order_ref', options => '{"batch_rows": 0}')$$), 'OM001 options.batch_rows', 'a number out of its range');
SELECT is(error_of($$SELECT load('order_ref', options => '{"dry_run": "yes"}')$$), 'OM001 options.dry_run', 'a switch that is none');
SELECT is(error_of($$SELECT load('')$$), 'OM007', 'an empty file');
SELECT is(error_of($$SELECT load(E'customer_id,product_id,quantity,created_at\na,b,x,2019-01-01\na,b,y,2019-01-01\n', options => '{"max_errors": 1}')$$), 'OM007', 'too many errors');
SELECT load(E'customer_id,product_id,quantity,created_at\n') AS id \gset
SELECT is(outcome_of(:id), 'done 0=0+0+0 orders 0+0', 'a header alone');

-- --- capture ------------------------------------------------------------------------------------------
SELECT open_shop('kim', 100, 'cup', 5) \g /dev/null
SELECT order_mgmt.set_product('cup', unit_price => 10) \g /dev/null
SELECT load(E'order_ref,customer_id,product_id,quantity\nc1,kim,cup,2\nc2,kim,cup,4\n', 'capture') AS id \gset
SELECT is(stored('c%'), 'c1 kim captured 20.0000 2xcup | c2 kim captured 40.0000 4xcup', 'captured orders wait for the checks');
SELECT is(story((SELECT order_id FROM order_mgmt.orders WHERE order_ref = 'c1')), 'order_captured', 'like any other');
SELECT order_mgmt.run_pipeline() \g /dev/null
SELECT is(stored('c%'), 'c1 kim shipped 20.0000 2xcup | c2 kim rejected 40.0000 4xcup', 'and have their outcome');
SELECT is(rows_of('SELECT * FROM order_mgmt.check_invariants()'), NULL, 'invariants hold');

-- --- accounts, products, stock ------------------------------------------------------------------------
SELECT load(E'customer_id,balance,name\nlea,12.50,Lea\nlea2,,\nlea3,-1,\n,1,\n', kind => 'accounts') AS id \gset
SELECT is(outcome_of(:id), 'done 4=2+2+0 orders 0+0', 'accounts');
SELECT is(errors_of(:id), '3:balance 22003 balance "-1" is negative | 4:customer_id 23502 customer_id is missing', 'with their errors');
SELECT is(rows_of($$SELECT customer_id, balance, name FROM order_mgmt.list_accounts() WHERE customer_id LIKE 'lea%'$$), '(lea,12.5000,Lea) (lea2,0.0000,)', 'are there');
SELECT load(E'product_id,name,unit_price\nmug,Mug,3.20\nmug2,Mug,x\n', kind => 'products') AS id \gset
SELECT is(outcome_of(:id), 'done 2=1+1+0 orders 0+0', 'products');
SELECT load(E'product_id,on_hand\nmug,7\ncup,0\n', kind => 'stock') AS id \gset
SELECT is(errors_of(:id), NULL, 'stock');
SELECT is(rows_of($$SELECT product_id, on_hand FROM order_mgmt.list_products('{mug}')$$), '(mug,7)', 'is there');
SELECT load(E'product_id,on_hand\nmug,8\n', kind => 'stock', options => '{"dry_run": true}') AS id \gset
SELECT is(rows_of($$SELECT product_id, on_hand FROM order_mgmt.list_products('{mug}')$$), '(mug,7)', 'a dry run leaves it');

-- --- retries --------------------------------------------------------------------------------------------
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nx1,ann,a,1,1,2019-05-01\nx2,ann,a,0,1,2019-05-01\nx2,ann,b,1,1,2019-05-01\n') AS id \gset
SELECT is(rows_of(format('SELECT * FROM order_mgmt.rejected_csv(%s)', :id)),
    '("order_ref,customer_id,product_id,quantity,unit_price,created_at") ("x2,ann,a,0,1,2019-05-01") ("x2,ann,b,1,1,2019-05-01")', 'what was refused comes back as CSV');
SELECT order_mgmt.retry_load(:id) AS again \gset
SELECT is(outcome_of(:again), 'done 2=0+2+0 orders 0+0', 'retried as it is, it is refused again');
SELECT order_mgmt.retry_load(:id, E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nx2,ann,a,5,1,2019-05-01\nx2,ann,b,1,1,2019-05-01\n') AS again \gset
SELECT is(outcome_of(:again), 'done 2=2+0+0 orders 1+0', 'corrected, it loads');
SELECT is(stored('x%'), 'x1 ann shipped 1.0000 1xa | x2 ann shipped 6.0000 5xa,1xb', 'and nothing is there twice');
SELECT is(rows_of('SELECT * FROM order_mgmt.check_invariants()'), NULL, 'invariants hold');

-- Without references a second retry of the same rows loads nothing more, as the first one has.
SELECT load(E'customer_id,product_id,quantity,unit_price,created_at\nyan,unpriced,1,,2019-07-01\nyan,a,1,1,2019-07-01\n') AS id \gset
SELECT order_mgmt.set_product('unpriced', unit_price => 3) \g /dev/null
SELECT outcome_of(order_mgmt.retry_load(:id)) AS first, outcome_of(order_mgmt.retry_load(:id)) AS second \gset
SELECT is(:'first'::text, 'done 1=1+0+0 orders 1+0', 'a retry');
SELECT is(:'second'::text, 'done 0=0+0+0 orders 0+0', 'and once more');

-- Headers of none and of two rows.
SELECT load(E'hd1,ann,pen,0,1,2019-05-01\nhd2,ann,pen,1,1,2019-05-01\n', options => '{"header": 0}') AS id \gset
SELECT is(outcome_of(order_mgmt.retry_load(:id)), 'done 1=0+1+0 orders 0+0', 'a retry of a file without header');
SELECT load(E'export of today,,,,,\norder_ref,customer_id,product_id,quantity,unit_price,created_at\nhd3,ann,pen,0,1,2019-05-01\nhd4,ann,pen,0,1,2019-05-01\n',
    options => '{"header": 2}') AS id \gset
SELECT is(outcome_of(order_mgmt.retry_load(:id)), 'done 2=0+2+0 orders 0+0', 'a retry of a file with two rows of it');

-- --- rows that the reader refuses ------------------------------------------------------------------------
SELECT lo_from_bytea(0, convert_to(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n'
    'bad1,ann,pen,1,1,2019-05-01\nbad1,ann,p', 'UTF8') || '\xff' || convert_to(E'n,1,1,2019-05-01\nbad1,ann,ink,1,1,2019-05-01\nbad2,ann,ink,1,1,2019-05-01\n', 'UTF8')) AS lo \gset
SELECT order_mgmt.load_orders_csv('lo:' || :'lo', 'history') AS id \gset
SELECT is(outcome_of(:id), 'done 4=1+3+0 orders 1+0', 'a byte that is no text refuses its order');
SELECT is(errors_of(:id), '2:- 22021 byte 11 of line 3 is no character of encoding UTF8: ff 6e 2c 31 | 1:- OM007 another row of the same order is refused'
    ' | 3:- OM007 another row of the same order is refused', 'with each of its rows');
SELECT is(error_of(format('SELECT order_mgmt.retry_load(%s)', :id)), 'OM005', 'and is not tried again as it is, for nobody can write that byte');
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nq1,ann,pen,1,1,2019-05-01\nq1,"ann,ink,1,1,2019-05-01\nq2,ann,ink,1,1,2019-05-01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 3=1+2+0 orders 1+0', 'a quote that is not closed refuses its order, and no other');

SELECT lo_from_bytea(0, convert_to(E'customer_id,order_ref,product_id,quantity,unit_price,created_at\n"ann, and","ref ""1"", x",pen,1,1,2019-05-01\n'
    '"ann, and","ref ""1"", x",p', 'UTF8') || '\xff' || convert_to(E'n,1,1,2019-05-01\n"ann, and","ref",ink,1,1,2019-05-01\n', 'UTF8')) AS lo \gset
SELECT order_mgmt.load_orders_csv('lo:' || :'lo', 'history') AS id \gset
SELECT is(outcome_of(:id), 'done 3=1+2+0 orders 1+0', 'whatever quotes its reference is in');

-- A line at the end that is none of an order does not make the file one without references.
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nfoot1,ann,pen,1,1,2019-05-01\n"end of file\n') AS id \gset
SELECT is(outcome_of(:id), 'done 2=1+1+0 orders 1+0', 'a footer is refused');
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nfoot1,ann,pen,1,1,2019-05-01\n"end of file\n', options => '{"trim": true}') AS id \gset
SELECT is(outcome_of(:id), 'done 2=0+1+1 orders 0+1', 'and with other options the file is read again');

-- --- cells at their limits --------------------------------------------------------------------------------
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nk1,ann,pen,1,1,today\nk2,ann,pen,1,1,03/04/2019\nk3,ann,pen,1,1,2019-Feb-28 13:00\n'
    'k4,ann,pen,1,99999999999999.9999,2019-05-01\nk5,ann,pen,1,100000000000000,2019-05-01\nk6,ann,pen,2147483648,1,2019-05-01\nk7,ann,pen,2,99999999999999,2019-05-01\n') AS id \gset
SELECT is(errors_of(:id), concat_ws(' | ',
    '1:created_at 22007 created_at "today" is not a time',
    '2:created_at 22007 created_at "03/04/2019" is not a time',
    '5:unit_price 22003 unit_price "100000000000000" is out of range',
    '6:quantity 22003 quantity "2147483648" is out of range',
    '7:- OM001 the total of the order is out of range'), 'what is ambiguous, and what is too large');
SELECT load(E'customer_id,product_id,quantity,unit_price,created_at\nann,pen,1,1,01.01.300000\n', options => '{"timestamp_format": "DD.MM.YYYY"}') AS id \gset
SELECT is(outcome_of(:id), 'done 1=0+1+0 orders 0+0', 'a date beyond the calendar');
SELECT load('order_ref,customer_id,product_id,quantity,unit_price,created_at,metadata' || E'\nz1,ann,pen,1,1,2019-05-01,' || repeat('[', 100000)
    || E'\nz2,ann,pen,1,1,2019-05-01,"{""a"": 1}"\nz3,ann,pen,1,1,2019-05-01,[]\n') AS id \gset
SELECT is(outcome_of(:id), 'done 3=1+2+0 orders 1+0', 'metadata that are no object');
SELECT cmp_ok((SELECT max(length(message)) FROM order_mgmt.load_errors WHERE load_id = :id), '<', 200, 'messages show the beginning of a cell');
SELECT load('order_ref,customer_id,product_id,quantity,unit_price,created_at' || E'\n'
    || (SELECT string_agg(E'big,ann,pen,1,1,2019-05-01\n', '') FROM generate_series(1, 10001)) || E'small,ann,pen,1,1,2019-05-01\n') AS id \gset
SELECT is(outcome_of(:id), 'done 10002=1+10001+0 orders 1+0', 'an order of more than 10,000 lines');
SELECT is(error_of($$SELECT load(E'customer_id,product_id,quantity,created_at\n', options => '{"columns": {"order_ref": 9}}')$$), 'OM007', 'a position that the file does not have');
SELECT is(error_of($$SELECT load('order_ref', options => '{"columns": {"order_ref": 1.5}}')$$), 'OM001 options.columns.order_ref', 'a position that is none');
SELECT is(error_of($$SELECT load('order_ref', options => '{"timestamp_format": "HH24:MI"}')$$), 'OM001 options.timestamp_format', 'a format that is none');

-- --- what only the tables refuse -----------------------------------------------------------------------------
SAVEPOINT checked;
ALTER TABLE order_mgmt.orders ADD CONSTRAINT no_mallory CHECK (customer_id <> 'mallory');
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nu1,ann,pen,1,1,2019-05-01\nu2,mallory,pen,1,1,2019-05-01\nu3,ann,pen,1,1,2019-05-01\n', options => '{"dry_run": true}') AS dry \gset
SELECT load(E'order_ref,customer_id,product_id,quantity,unit_price,created_at\nu1,ann,pen,1,1,2019-05-01\nu2,mallory,pen,1,1,2019-05-01\nu3,ann,pen,1,1,2019-05-01\n') AS wet \gset
SELECT is(outcome_of(:wet), 'done 3=2+1+0 orders 2+0', 'a constraint of the user''s own refuses its order only');
SELECT matches(errors_of(:wet), '^2:- 23514 .*no_mallory', 'and is named');
SELECT is(outcome_of(:dry) || errors_of(:dry), outcome_of(:wet) || errors_of(:wet), 'a dry run knows it');
ROLLBACK TO checked;
SELECT load(format(E'customer_id,balance\n%s,1\nok,1\n', repeat('x', 65)), kind => 'accounts', options => '{"dry_run": true}') AS id \gset
SELECT is(outcome_of(:id), 'done 2=1+1+0 orders 0+0', 'and what set_account() would say');
SELECT is((SELECT count(*) FROM order_mgmt.accounts WHERE customer_id = 'ok')::int, 0, 'without setting anything');
SELECT is(rows_of('SELECT * FROM order_mgmt.check_invariants()'), NULL, 'invariants hold in the end');

SELECT * FROM finish();
ROLLBACK;

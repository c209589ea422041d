-- What loads need beforehand: uploads by ticket, rows staged by COPY, options under a name.
BEGIN;
\ir helpers.psql
SELECT no_plan();

CREATE FUNCTION outcome_of(id bigint) RETURNS text LANGUAGE sql AS $$
    SELECT format('%s %s %s=%s+%s+%s', source, status, rows_read, rows_loaded, rows_rejected, rows_skipped) FROM order_mgmt.loads WHERE load_id = id
$$;
CREATE FUNCTION stored(refs text) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(format('%s %s %s %s', o.order_ref, o.customer_id, o.total,
        (SELECT string_agg(format('%sx%s', l.quantity, l.product_id), ',' ORDER BY l.line_no) FROM order_mgmt.order_lines AS l
         WHERE l.order_id = o.order_id)), ' | ' ORDER BY o.order_ref)
    FROM order_mgmt.orders AS o WHERE o.order_ref LIKE refs
$$;
-- What a chunk gives: the number of bytes, or the error and the byte at which to go on.
CREATE FUNCTION append(id uuid, chunk text, at_byte bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text;
    detail text;
BEGIN
    RETURN order_mgmt.append_upload(id, convert_to(chunk, 'UTF8'), at_byte);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL;
    RETURN concat_ws(' ', state, detail::jsonb->>'next_byte');
END
$$;
GRANT USAGE ON SCHEMA test TO PUBLIC;
CREATE ROLE ann;
CREATE ROLE bob;
CREATE ROLE olga;
CREATE ROLE adam;
GRANT order_mgmt_app TO ann, bob;
GRANT order_mgmt_operator TO olga;
GRANT order_mgmt_admin TO adam;
SELECT open_shop('c', 1000000, 'p', 1000000) \g /dev/null

-- --- uploads -----------------------------------------------------------------------------------------
SET LOCAL ROLE ann;
SELECT upload_id AS id, expires_at - clock_timestamp() BETWEEN '59 min' AND '1 h' AS lasts FROM order_mgmt.create_upload() \gset
SELECT ok(:'lasts', 'a ticket lasts an hour');
SELECT is(append(:'id', E'order_ref,customer_id,', 0), '22', 'the first chunk');
SELECT is(append(:'id', E'product_id,quantity,unit_price\n', 22), '53', 'the second');
SELECT is(append(:'id', E'product_id,quantity,unit_price\n', 22), '53', 'the same again changes nothing');
SELECT is(append(:'id', E'order_ref,customer_id,', 0), '53', 'nor does an earlier one');
SELECT is(append(:'id', E'', 53), '53', 'an empty one is there already');
SELECT is(append(:'id', E'price\nu1,c,p,1,', 47), '62', 'of one that is there in part the rest is added');
SELECT is(append(:'id', E'u1', 64), 'OM005 62', 'where bytes would be missing the next one is named');
SELECT is(append(:'id', E'u1', 53), '62', 'the same bytes of another chunk are the same');
SELECT is(append(:'id', E'u2', 53), 'OM001 62', 'other bytes are an error');
SELECT is(append(:'id', E'product_id,quantity,unit_pricE\nu1,c,p,1,2\n', 22), 'OM001 62', 'of which nothing is kept');
SELECT is(append(:'id', E'2\n', 62), '64', 'a row may end in another chunk');
SELECT throws_ok(format('SELECT * FROM order_mgmt.read_csv(%L)', 'upload:' || :'id'), '42501', NULL, 'read_csv() is for operators');
SET LOCAL ROLE bob;
SELECT throws_ok(format('SELECT order_mgmt.append_upload(%L, %L, 64)', :'id', '\x'), '42501', NULL, 'a ticket is for the role that made it');
SELECT throws_ok(format('SELECT order_mgmt.load_upload(%L)', :'id'), '42501', NULL, 'its load too');
SET LOCAL ROLE olga;
SELECT throws_ok(format('SELECT order_mgmt.load_upload(%L)', :'id'), '42501', NULL, 'also where another role may load files');
SELECT throws_ok(format('SELECT * FROM order_mgmt.read_csv(%L)', 'upload:' || :'id'), '42501', NULL, 'and look at them');
SET LOCAL ROLE adam;
SELECT is(append(:'id', '', 0), '64', 'but an admin may');
SELECT is(rows_of(format('SELECT record_no, cells FROM order_mgmt.read_csv(%L)', 'upload:' || :'id')),
    '(0,"{order_ref,customer_id,product_id,quantity,unit_price}") (1,"{u1,c,p,1,2}")', 'read_csv() shows what has been sent');
SET LOCAL ROLE ann;
SELECT order_mgmt.load_upload(:'id') AS load \gset
SELECT is(outcome_of(:load), 'upload:' || :'id' || ' done 1=1+0+0', 'the load');
SELECT is(stored('u%'), 'u1 c 2.0000 1xp', 'has the order');
SELECT is(order_mgmt.load_upload(:'id'), :load::bigint, 'it is loaded once');
SELECT is(append(:'id', 'u3', 64), 'OM005', 'and then complete');
SELECT is((SELECT status FROM order_mgmt.wait_for_load(:load)), 'done', 'who uploads may wait');
SELECT is(rows_of(format('SELECT * FROM order_mgmt.rejected_csv(%s)', :load)), '("order_ref,customer_id,product_id,quantity,unit_price")', 'and see what was refused');

-- What an app may not upload, and what nobody may.
SELECT throws_ok(format('SELECT * FROM order_mgmt.create_upload(%s)', arguments), '42501', NULL, 'an app may not upload: ' || arguments)
FROM unnest(ARRAY['mode => ''history''', '''accounts''', '''products''', '''stock''']) AS arguments;
SELECT is(error_of(format('SELECT * FROM order_mgmt.create_upload(%s)', arguments)), 'OM001 ' || path, arguments)
FROM (VALUES ('NULL', 'kind'), ('''order''', 'kind'), ('mode => NULL', 'mode'), ('mode => ''x''', 'mode'), ('options => NULL', 'options'), ('options => ''[]''', 'options'),
    ('options => ''{"quot": 1}''', 'options.quot'), ('options => ''{"columns": {"x": 1}}''', 'options.columns.x'), ('options => ''{"batch_rows": 0}''', 'options.batch_rows'),
    ('expires_in => NULL', 'expires_in'), ('expires_in => ''0''', 'expires_in'), ('expires_in => ''-1 s''', 'expires_in')) AS c (arguments, path);
SELECT is(error_of(format('SELECT order_mgmt.append_upload(%s)', arguments)), 'OM001 ' || path, arguments)
FROM (VALUES ('NULL, '''', 0', 'upload_id'), ('gen_random_uuid(), NULL, 0', 'chunk'), ('gen_random_uuid(), '''', NULL', 'at_byte'), ('gen_random_uuid(), '''', -1', 'at_byte')) AS c (arguments, path);
SELECT is(error_of('SELECT order_mgmt.load_upload(NULL)'), 'OM001 upload_id', 'no upload');
SELECT is(error_of('SELECT order_mgmt.load_upload(gen_random_uuid())'), 'OM004', 'an upload that is not there');
SELECT is(error_of('SELECT order_mgmt.append_upload(gen_random_uuid(), '''', 0)'), 'OM004', 'nor to be added to');

-- Beyond the size of a part, and packed. Bytes that repeat and parts that are not full make the comparison cross parts.
SET LOCAL ROLE olga;
SELECT upload_id AS id FROM order_mgmt.create_upload(mode => 'history', options => '{"batch_rows": 1000}') \gset
SELECT is(append(:'id', E'order_ref,customer_id,product_id,quantity,unit_price,created_at\n', 0), '64', 'a header');
SELECT string_agg(format(E'big%s,c,p,1,2,2020-05-05%s\n', n, CASE WHEN n <= 10 THEN repeat(' ', 300000) ELSE '' END), '' ORDER BY n) AS rows FROM generate_series(1, 2000) AS n \gset
SELECT is(append(:'id', :'rows', 64), (64 + length(:'rows'))::text, 'a chunk that is larger than a part');
SELECT is(append(:'id', :'rows', 64), (64 + length(:'rows'))::text, 'twice');
SELECT is(append(:'id', left(:'rows', -1) || 'x', 64), 'OM001 ' || 64 + length(:'rows'), 'with another last byte');
RESET ROLE;
SELECT ok((SELECT count(*) >= 3 AND max(length(content)) = 1048576 FROM order_mgmt.load_parts), 'is kept in parts');
SET LOCAL ROLE olga;
SELECT order_mgmt.load_upload(:'id') AS load \gset
SELECT is(outcome_of(:load), 'upload:' || :'id' || ' done 2000=2000+0+0', 'and loaded whole');
SELECT is((SELECT bytes_total FROM order_mgmt.loads WHERE load_id = :load), 64 + length(:'rows')::bigint, 'every byte');
SELECT upload_id AS id FROM order_mgmt.create_upload('stock') \gset
SELECT is(order_mgmt.append_upload(:'id', substr(chunk, 1, 20), 0) + order_mgmt.append_upload(:'id', substr(chunk, 21), 20), 20::bigint + length(chunk), 'a packed file')
FROM (SELECT '\x1f8b08000000000002032b28ca4f294d2e89cf4cd1c9cf8bcf48cc4be1aaca2cd031e60200ac75c5ef19000000'::bytea AS chunk) AS c;
SELECT is((SELECT string_agg(cells::text, ' ') FROM order_mgmt.read_csv('upload:' || :'id')), '{product_id,on_hand} {zip,3}', 'is unpacked');

-- By load_*_csv() it is the same.
SELECT upload_id AS id FROM order_mgmt.create_upload('stock') \gset
SELECT is(append(:'id', E'product_id,on_hand\nup,7\n', 0), '24', 'stock');
SELECT is(error_of(format('SELECT order_mgmt.load_orders_csv(%L)', 'upload:' || :'id')), 'OM001 source', 'an upload of another kind');
SELECT is(error_of(format('SELECT order_mgmt.load_stock_csv(%L, ''{"trim": true}'')', 'upload:' || :'id')), 'OM001 options', 'its options are its own');
SELECT order_mgmt.load_stock_csv('upload:' || :'id') AS load \gset
SELECT is(outcome_of(:load), 'upload:' || :'id' || ' done 1=1+0+0', 'load_stock_csv() of an upload');
SELECT is(order_mgmt.load_upload(:'id'), :load::bigint, 'is its load');
SELECT upload_id AS id FROM order_mgmt.create_upload(mode => 'history') \gset
SELECT is(error_of(format('SELECT order_mgmt.load_orders_csv(%L)', 'upload:' || :'id')), 'OM001 mode', 'an upload of another mode');
SELECT is(error_of(format('SELECT order_mgmt.load_upload(%L)', :'id')), 'OM007', 'an empty one has no header');

-- Expiry.
RESET ROLE;
SELECT is((SELECT count(*) FROM order_mgmt.load_parts AS p JOIN order_mgmt.loads USING (load_id)), 0::bigint, 'no bytes are left of loads that are done');
DELETE FROM order_mgmt.load_parts;
SELECT upload_id AS id FROM order_mgmt.create_upload() \gset
-- A month may have begun since setup().
SELECT order_mgmt.run_maintenance() \g /dev/null
SELECT is(append(:'id', 'abc', 0), '3', 'an upload');
SELECT is(rows_of('SELECT * FROM order_mgmt.run_maintenance()'), NULL, 'is left alone by maintenance');
UPDATE order_mgmt.uploads SET expires_at = clock_timestamp() - interval '1 s' WHERE upload_id = :'id';
SELECT is(append(:'id', 'abc', 0), 'OM005', 'until it has expired');
SELECT is(error_of(format('SELECT order_mgmt.load_upload(%L)', :'id')), 'OM005', 'it is not loaded then');
SELECT is(rows_of('SELECT * FROM order_mgmt.run_maintenance()'), '("purge upload",' || :'id' || ')', 'but deleted');
SELECT is((SELECT count(*) FROM order_mgmt.load_parts), 0::bigint, 'with its bytes');
SELECT is(append(:'id', 'abc', 0), 'OM004', 'and forgotten');
SELECT is((SELECT count(*) FROM order_mgmt.uploads WHERE load_id = :load), 1::bigint, 'one that was loaded is remembered');
UPDATE order_mgmt.uploads SET expires_at = clock_timestamp() - interval '2 d' WHERE load_id = :load;
SELECT is(rows_of('SELECT * FROM order_mgmt.run_maintenance()'), NULL, 'however long ago it would have expired');
UPDATE order_mgmt.loads SET finished_at = clock_timestamp() - interval '25 h' WHERE load_id = :load;
INSERT INTO order_mgmt.load_parts VALUES (:load, 0, 'x');
SELECT is(rows_of('SELECT action FROM order_mgmt.run_maintenance()'), '("purge upload")', 'for a day after its load');
SELECT is((SELECT count(*) FROM order_mgmt.load_parts), 0::bigint, 'what a load that failed has left goes, too');

-- --- staged rows ---------------------------------------------------------------------------------------
SET LOCAL ROLE olga;
COPY order_mgmt.order_staging FROM STDIN CSV HEADER;
order_ref,customer_id,product_id,quantity,unit_price,created_at,metadata
st1,c,p,1,2.50,,
st1,c,p,2,2.50,,
st2,c,p,many,1,,
\.
COPY order_mgmt.order_staging (customer_id, product_id, quantity, order_ref, unit_price) FROM STDIN CSV;
"c","p",3,"st,3 ""x"" ",1
\.
SELECT is(rows_of('SELECT order_ref, quantity FROM order_mgmt.staged_rows ORDER BY staged_at'), '(st1,1) (st1,2) (st2,many) ("st,3 ""x"" ",3)', 'one sees what one has staged, in order');
SELECT throws_ok('SELECT * FROM order_mgmt.order_staging', '42501', NULL, 'not what others have');
SELECT throws_ok('UPDATE order_mgmt.staged_rows SET quantity = ''1''', '42501', NULL, 'and cannot change it');
SET LOCAL ROLE adam;
SELECT is((SELECT count(*) FROM order_mgmt.staged_rows), 0::bigint, 'another role has staged nothing');
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price) VALUES ('adams', 'c', 'p', 1, 1);
SELECT is(rows_of('SELECT order_ref FROM order_mgmt.staged_rows'), '(adams)', 'until it does');
SET LOCAL ROLE ann;
SELECT throws_ok('INSERT INTO order_mgmt.order_staging (order_ref) VALUES (''x'')', '42501', NULL, 'an app stages nothing');
SET LOCAL ROLE olga;
SELECT is(error_of(format('SELECT order_mgmt.load_orders_csv(''staged'', options => %L)', options)), 'OM001 options.' || path, 'no option of staged rows: ' || path)
FROM (VALUES ('{"columns": {}}', 'columns'), ('{"delimiter": ";"}', 'delimiter'), ('{"header": 0}', 'header'), ('{"trim": true}', 'trim'), ('{"encoding": "UTF8"}', 'encoding')) AS c (options, path);
SELECT is((SELECT count(*) FROM order_mgmt.staged_rows), 4::bigint, 'they are still there');
SELECT order_mgmt.load_orders_csv('staged') AS load \gset
SELECT is(outcome_of(:load), 'staged done 4=3+1+0', 'they are loaded');
SELECT is(stored('st%'), 'st,3 "x"  c 3.0000 3xp | st1 c 7.5000 1xp,2xp', 'as they were');
SELECT is(rows_of(format('SELECT row_no, column_name, raw FROM order_mgmt.load_errors WHERE load_id = %s', :load)), '(3,quantity,"st2,c,p,many,1,,")', 'but those that are wrong');
SELECT is((SELECT count(*) FROM order_mgmt.staged_rows), 0::bigint, 'none is staged any more');
SET LOCAL ROLE adam;
SELECT is((SELECT count(*) FROM order_mgmt.staged_rows), 1::bigint, 'those of others are');
SET LOCAL ROLE olga;
SELECT order_mgmt.retry_load(:load, E'order_ref,customer_id,product_id,quantity,unit_price,created_at,metadata\nst2,c,p,1,1,,\n') AS load \gset
SELECT is((SELECT rows_loaded FROM order_mgmt.wait_for_load(:load)), 1::bigint, 'mended rows are loaded as those of a file');
SET LOCAL client_min_messages = error;
SELECT order_mgmt.load_orders_csv('staged') AS load \gset
SET LOCAL client_min_messages = warning;
SELECT is(outcome_of(:load), 'staged done 0=0+0+0', 'where none are staged none are loaded');

-- Whatever stands in a cell, and every other option.
INSERT INTO order_mgmt.order_staging VALUES
    ('sv1', E'a\r\nb', 'ü,"', '+1', '1,5', '31.12.2018 23:30', '{"a": "b\n\""}'), ('sv2', 'c', '', '1', '1', '31.12.2018 23:30', NULL),
    ('sv3', 'c', ' p ', '1', '1', '31.12.2018 23:30', NULL), ('sv4', 'c', 'p', '1', NULL, NULL, NULL), (NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT order_mgmt.load_orders_csv('staged', 'history', '{"decimal": ",", "timestamp_format": "DD.MM.YYYY HH24:MI", "timezone": "Europe/Berlin", "defaults": {"created_at": "01.01.2019 12:00", "unit_price": "7"}, "batch_rows": 1}') AS load \gset
SELECT is(outcome_of(:load), 'staged done 5=3+2+0', 'with line ends, quotes, other letters and NULL');
SELECT is(rows_of(format('SELECT row_no, column_name FROM order_mgmt.load_errors WHERE load_id = %s ORDER BY error_no', :load)),
    '(2,product_id) (5,product_id) (5,quantity) (5,customer_id)', 'what is missing is missing');
SELECT is(stored('sv%'), E'sv1 a\r\nb 1.5000 1xü," | sv3 c 1.0000 1x p  | sv4 c 7.0000 1xp', 'the others are as they were');
SELECT is(rows_of($$SELECT order_ref, created_at FROM order_mgmt.orders WHERE order_ref IN ('sv1', 'sv4') ORDER BY 1$$),
    '(sv1,"2018-12-31 22:30:00+00") (sv4,"2019-01-01 11:00:00+00")', 'times and defaults');
DELETE FROM order_mgmt.staged_rows;
SAVEPOINT loaded;
INSERT INTO order_mgmt.order_staging (order_ref, customer_id, product_id, quantity, unit_price) SELECT 'sm' || n, 'c', repeat('p', 60), 1, 1 FROM generate_series(1, 30000) AS n;
SELECT is((SELECT count(DISTINCT staged_at) FROM order_mgmt.staged_rows), 30000::bigint, 'each row has a time of its own');
SELECT order_mgmt.load_orders_csv('staged', options => '{"dry_run": true}') AS load \gset
SELECT is(outcome_of(:load), 'staged done 30000=30000+0+0', 'more than fit into one part');
SELECT is(rows_of('SELECT * FROM order_mgmt.staged_rows'), NULL, 'also of a dry run nothing is left');
ROLLBACK TO loaded;
SET LOCAL ROLE olga;
INSERT INTO order_mgmt.order_staging (order_ref) VALUES ('x');
DELETE FROM order_mgmt.staged_rows;
SELECT is((SELECT count(*) FROM order_mgmt.staged_rows), 0::bigint, 'what was staged by mistake can be deleted');

-- --- profiles ------------------------------------------------------------------------------------------
SELECT is(order_mgmt.set_load_profile('german', '{"delimiter": ";", "decimal": ".", "columns": {"order_ref": "Nr", "customer_id": "Wer", "product_id": "Was"}, "defaults": {"quantity": 1}}'), true, 'a profile');
SELECT is(order_mgmt.set_load_profile('german', '{"delimiter": ";", "decimal": ",", "columns": {"order_ref": "Nr", "customer_id": "Wer", "product_id": "Was"}, "defaults": {"quantity": 1}}'), false, 'replaced');
SELECT upload_id AS id FROM order_mgmt.create_upload(options => '{"profile": "german", "columns": {"product_id": "What"}, "defaults": {"unit_price": "2,5"}, "trim": true}') \gset
SELECT is((SELECT options FROM order_mgmt.uploads WHERE upload_id = :'id'), '{"delimiter": ";", "decimal": ",", "trim": true, "columns": {"order_ref": "Nr", "customer_id": "Wer", "product_id": "What"},
    "defaults": {"quantity": 1, "unit_price": "2,5"}}', 'lies beneath the options that are given');
SELECT is(append(:'id', E'Nr;Wer;Was;What\npr1;c;q;p\n', 0), '26', 'which');
SELECT order_mgmt.load_upload(:'id') AS load \gset
SELECT is(stored('pr%'), 'pr1 c 2.5000 1xp', 'work together');
SELECT is((SELECT string_agg(cells::text, ' ') FROM order_mgmt.read_csv(E'text:a;b\n', '{"profile": "german"}')), '{a,b}', 'read_csv() knows profiles');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:1', options => '{"profile": "french"}')$$), 'OM004', 'a profile that is not there');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('lo:1', options => '{"profile": 1}')$$), 'OM001 options.profile', 'what is no name');
SELECT is(error_of($$SELECT order_mgmt.load_orders_csv('staged', options => '{"profile": "german"}')$$), 'OM001 options.delimiter', 'one for files is none for staged rows');
SELECT is(error_of(format('SELECT order_mgmt.set_load_profile(%s)', arguments)), 'OM001 ' || path, arguments)
FROM (VALUES ('NULL, ''{}''', 'name'), (''''', ''{}''', 'name'), ('repeat(''x'', 65), ''{}''', 'name'), ('''x'', NULL', 'options'), ('''x'', ''[]''', 'options'), ('''x'', ''{"a": 1}''', 'options.a'),
    ('''x'', ''{"decimal": "x"}''', 'options.decimal'), ('''x'', ''{"columns": 1}''', 'options.columns'), ('''x'', ''{"profile": "german"}''', 'options.profile')) AS c (arguments, path);
SELECT is(order_mgmt.drop_load_profile('german'), true, 'a profile is dropped');
SELECT is(order_mgmt.drop_load_profile('german'), false, 'once');
SET LOCAL ROLE ann;
SELECT throws_ok('SELECT order_mgmt.set_load_profile(''x'', ''{}'')', '42501', NULL, 'profiles are for operators');

RESET ROLE;
SELECT invariants_hold();
SELECT * FROM finish();
ROLLBACK;

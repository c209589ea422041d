-- Orders of past months, as if they had been shipped then. The functions stamp orders with the time of the day, so the rows
-- are written by hand: an id with the time in it, a line, and in the log the
-- five transactions of a batch of a thousand, ten rows each.
CREATE SCHEMA bench;

CREATE FUNCTION bench.first_month(months integer) RETURNS timestamptz LANGUAGE sql SET TimeZone = 'UTC' AS $$
    SELECT date_trunc('month', now()) - (months - 1) * interval '1 month';
$$;

CREATE FUNCTION bench.add_months(months integer) RETURNS void LANGUAGE plpgsql SET TimeZone = 'UTC' AS $$
DECLARE
    month timestamptz;
    name text;
BEGIN
    FOR month, name IN
        SELECT m, t FROM generate_series(bench.first_month(months), date_trunc('month', now()) - interval '1 month',
                                         interval '1 month') AS m,
                         unnest('{orders,order_lines,event_log}'::text[]) AS t
    LOOP
        EXECUTE format('CREATE TABLE order_mgmt.%1$s_%2$s (LIKE order_mgmt.%1$s INCLUDING ALL) WITH (fillfactor = %3$s)',
                       name, to_char(month, 'YYYY_MM'), CASE name WHEN 'orders' THEN 40 ELSE 100 END);
        EXECUTE format('ALTER TABLE order_mgmt.%1$s_%2$s OWNER TO order_mgmt_owner', name, to_char(month, 'YYYY_MM'));
        EXECUTE format('ALTER TABLE order_mgmt.%1$s ATTACH PARTITION order_mgmt.%1$s_%2$s FOR VALUES FROM (%3$L) TO (%4$L)',
                       name, to_char(month, 'YYYY_MM'), month, month + interval '1 month');
    END LOOP;
END $$;

CREATE FUNCTION bench.uuid_at(at timestamptz) RETURNS uuid LANGUAGE sql AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid;
$$;

CREATE FUNCTION bench.add_history(months integer, count integer) RETURNS void LANGUAGE plpgsql SET TimeZone = 'UTC' AS $$
DECLARE
    first timestamptz := bench.first_month(months);
    step interval := (now() - first) / (count + 1);
BEGIN
    CREATE TEMP TABLE history AS
    SELECT n, n / 100 AS part, 5 * (1 + n / 1000) AS lxid, bench.uuid_at(first + n * step) AS order_id
      FROM generate_series(1, count::bigint) AS n;
    INSERT INTO order_mgmt.orders
           (order_id, created_at, customer_id, status, settled, round, reasons, total, metadata, trail, updated_at)
    SELECT order_id, order_mgmt.uuid_time(order_id), 1 + (n * 7919) % 1000, 'shipped', 3, 0, '{}', 9.95, '{}',
           ARRAY[lxid, lxid + 1, lxid + 2, lxid + 3, lxid + 4], order_mgmt.uuid_time(order_id) + interval '5 ms'
      FROM history;
    INSERT INTO order_mgmt.order_lines (order_id, created_at, line_no, product_id, quantity, unit_price)
    SELECT order_id, order_mgmt.uuid_time(order_id), 1, 1 + (n * 104729) % 1000, 1, 9.95 FROM history;
    INSERT INTO order_mgmt.event_log (at, lxid, event_id, event_type, order_ids)
    SELECT at, lxid + stage - 1, nextval('order_mgmt.event_ids'), event_type, order_ids
      FROM (SELECT lxid, part, max(order_mgmt.uuid_time(order_id)) AS at,
                   string_agg(uuid_send(order_id), '' ORDER BY n) AS order_ids
              FROM history GROUP BY lxid, part) AS rows,
           unnest('{order_captured,balance_held,stock_held,order_confirmed,order_shipped}'::text[])
               WITH ORDINALITY AS stages(event_type, stage)
     ORDER BY lxid, stage, part;
    DROP TABLE history;
END $$;

CREATE FUNCTION bench.sample_orders() RETURNS void LANGUAGE sql AS $$
    CREATE TABLE bench.sample AS
    SELECT row_number() OVER () AS n, order_id
      FROM (SELECT order_id FROM order_mgmt.orders ORDER BY md5(order_id::text) LIMIT 5000) AS o;
    CREATE UNIQUE INDEX ON bench.sample (n);
$$;

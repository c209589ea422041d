-- What the day came to. The times are those of the events in the log; :day_begin parts the orders of the
-- file from those of the connections, :day_end these from the single orders after them.
\set QUIET on
\pset footer off

\echo
\echo The orders of the day
SELECT status, array_to_string(reasons, ', ') AS reasons, count(*) AS orders, sum(total) AS total
  FROM order_mgmt.orders
 WHERE created_at < :'day_end'
 GROUP BY status, reasons
 ORDER BY status = 'shipped' DESC, count(*) DESC;

CREATE TEMP TABLE times AS
SELECT order_id,
       min(at) FILTER (WHERE event_type = 'order_captured') AS captured,
       min(at) FILTER (WHERE event_type = 'order_shipped') AS shipped,
       max(at) AS final
  FROM order_mgmt.events
 WHERE order_id IS NOT NULL
 GROUP BY order_id
HAVING min(at) >= :'day_begin';

\echo From the first capture to the last final state
SELECT count(*) AS captured,
       count(shipped) AS shipped,
       count(*) - count(shipped) AS rejected,
       round(extract(epoch FROM max(final) - min(captured)), 1) AS seconds,
       round(count(*) / extract(epoch FROM max(final) - min(captured))) AS orders_per_second
  FROM times
 WHERE captured < :'day_end';

\echo Latency from capture to shipped in milliseconds (stamps of the events order_captured and order_shipped)
SELECT CASE WHEN captured < :'day_end' THEN 'the day, at full speed' ELSE 'then one at a time' END AS orders,
       count(*),
       round(1000 * extract(epoch FROM percentile_disc(0.50) WITHIN GROUP (ORDER BY shipped - captured)), 1) AS p50,
       round(1000 * extract(epoch FROM percentile_disc(0.99) WITHIN GROUP (ORDER BY shipped - captured)), 1) AS p99
  FROM times
 WHERE shipped IS NOT NULL
 GROUP BY 1
 ORDER BY min(captured);

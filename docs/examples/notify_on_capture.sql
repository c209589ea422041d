-- Tells others about each captured order, in two ways. Run it as the role that is to own the
-- subscriptions: one with LOGIN that is a member of order_mgmt_operator.

-- 1. NOTIFY: whoever LISTENs on channel order_captured hears of the order when the handler's batch
--    commits. Nobody listening, nobody hears; so it is for screens, not for e-mails.
CREATE FUNCTION notify_captured(event jsonb) RETURNS void
LANGUAGE sql
AS $$
    SELECT pg_catalog.pg_notify('order_captured',
        pg_catalog.jsonb_build_object('order_id', event->'order_id', 'customer_id', event->'customer_id')::text)
$$;

SELECT order_mgmt.subscribe(
    name        => 'notify_captured',
    handler     => 'notify_captured',
    event_types => '{order_captured}'
);

-- 2. An outbox: one row per order, exactly once, for a program that sends messages and deletes what
--    it has sent. What the handler needs beyond the event it reads from the order.
CREATE TABLE message_outbox (
    event_id    bigint PRIMARY KEY,
    recipient   text,
    subject     text NOT NULL,
    body        text NOT NULL
);

CREATE FUNCTION write_confirmation(event jsonb) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp
AS $$
DECLARE
    placed jsonb := order_mgmt.get_order((event->>'order_id')::uuid);
BEGIN
    INSERT INTO message_outbox (event_id, recipient, subject, body)
    SELECT (event->>'event_id')::bigint,
           (SELECT email FROM order_mgmt.get_account(placed->>'customer_id')),
           'We have received your order',
           format('Order %s of %s, %s in total.', placed->>'order_id', placed->>'created_at', placed->>'total');
END
$$;

SELECT order_mgmt.subscribe(
    name        => 'write_confirmation',
    handler     => 'write_confirmation',
    event_types => '{order_captured}'
);

/*
 * Roles, shared by all databases of the cluster; two databases may make them
 * at the same time.  DROP EXTENSION leaves them.
 *
 *   order_mgmt_owner     owns the data tables, nobody logs in as it
 *   order_mgmt_reader    reads
 *   order_mgmt_app       captures, cancels, notes; reads
 *   order_mgmt_operator  queues, maintenance, stock and balances; what app may
 *   order_mgmt_analyst   reads and works with models
 *   order_mgmt_admin     all of it, setup and teardown
 */
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['order_mgmt_owner', 'order_mgmt_reader', 'order_mgmt_app',
        'order_mgmt_operator', 'order_mgmt_analyst', 'order_mgmt_admin']
    LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role_name) THEN
                EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

GRANT order_mgmt_reader TO order_mgmt_app, order_mgmt_analyst;
GRANT order_mgmt_app TO order_mgmt_operator;
GRANT order_mgmt_operator, order_mgmt_analyst TO order_mgmt_admin;

COMMENT ON SCHEMA order_mgmt IS 'Orders: capture, checks, shipment, and the log of it all.';
GRANT USAGE ON SCHEMA order_mgmt TO order_mgmt_reader;
GRANT USAGE, CREATE ON SCHEMA order_mgmt TO order_mgmt_owner;

-- What a customer will most likely order next, best first: the k (1 to 100) products with the highest
-- scores. Scores of a customer compare with each other only. It counts what he has ordered until now,
-- whenever the model was trained; somebody without orders gets the products that are ordered most.
CREATE FUNCTION order_mgmt.predict_next_order(
    customer_id text,
    k bigint DEFAULT 10,
    model text DEFAULT 'next_basket'
)
RETURNS TABLE (
    rank bigint,
    product_id text,
    score double precision
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'om_predict_next_order';
COMMENT ON FUNCTION order_mgmt.predict_next_order(text, bigint, text) IS
    'The k products that a customer will most likely order next. Errors: OM001, OM004 (no such model), OM005 (not trained), OM006, OM008.';
REVOKE ALL ON FUNCTION order_mgmt.predict_next_order(text, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.predict_next_order(text, bigint, text) TO order_mgmt_reader;

-- The same for many customers at once, which is faster; NULL: all customers that the model has learnt from.
CREATE FUNCTION order_mgmt.predict_next_orders(
    customer_ids text[] DEFAULT NULL,
    k bigint DEFAULT 10,
    model text DEFAULT 'next_basket'
)
RETURNS TABLE (
    customer_id text,
    rank bigint,
    product_id text,
    score double precision
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 10000
AS 'MODULE_PATHNAME', 'om_predict_next_orders';
COMMENT ON FUNCTION order_mgmt.predict_next_orders(text[], bigint, text) IS
    'The k products that each customer will most likely order next. Errors: OM001, OM004 (no such model), OM005 (not trained), OM006, OM008.';
REVOKE ALL ON FUNCTION order_mgmt.predict_next_orders(text[], bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.predict_next_orders(text[], bigint, text) TO order_mgmt_reader;

-- What will be ordered of a product, or of all that the model knows, on each of the coming days: units, and the
-- interval in which as many of the days are likely to end as the model's option interval says (80 %).
-- NULLs for a product without history; no row for what is no product. Days begin with today, or with the day
-- after the model's history where its option from is history. Where the model fails its fallback answers, if
-- that is of kind demand as well.
CREATE FUNCTION order_mgmt.forecast_demand(
    product_id text DEFAULT NULL,
    days bigint DEFAULT 28,
    model text DEFAULT 'demand'
)
RETURNS TABLE (
    product_id text,
    day date,
    expected double precision,
    low double precision,
    high double precision
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_forecast_demand';
COMMENT ON FUNCTION order_mgmt.forecast_demand(text, bigint, text) IS
    'Units that will be ordered of one product or of all, for each of 1 to 366 days, with an interval. Errors: OM001, OM004, OM005 (not trained), OM006, OM008.';
REVOKE ALL ON FUNCTION order_mgmt.forecast_demand(text, bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.forecast_demand(text, bigint, text) TO order_mgmt_reader;

-- What to buy so that the stock lasts for so many days: reorder are the units that are missing in what is on
-- hand and not reserved, if as much is ordered as the upper end of the interval of these days says.
-- Products without history have NULL expected and 0 reorder.
CREATE FUNCTION order_mgmt.suggest_reorder(
    days bigint DEFAULT 28,
    model text DEFAULT 'demand'
)
RETURNS TABLE (
    product_id text,
    on_hand bigint,
    reserved bigint,
    expected double precision,
    reorder bigint
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_suggest_reorder';
COMMENT ON FUNCTION order_mgmt.suggest_reorder(bigint, text) IS
    'For each product in stock what is expected to be ordered in 1 to 366 days, and the units that are missing for it. Errors: OM001, OM004, OM005 (not trained), OM006, OM008.';
REVOKE ALL ON FUNCTION order_mgmt.suggest_reorder(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.suggest_reorder(bigint, text) TO order_mgmt_reader;

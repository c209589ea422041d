-- Asks a model of a kind that answers from outside the server (http) about each element of a JSON array, after
-- the commit: for transactions that have changed something, which predict() does not let wait. A worker asks,
-- up to 5 times; prediction_answer() shows the answer, and NOTIFY order_mgmt_predictions says the number of the
-- request when it is there. inputs: 1 to 10000. Returns the number of the request.
CREATE FUNCTION order_mgmt.request_prediction(
    model text,
    inputs jsonb
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_request_prediction';
COMMENT ON FUNCTION order_mgmt.request_prediction(text, jsonb) IS
    'Has a worker ask a model outside about each element of an array after the commit; returns the number of the request. Errors: OM001, OM004, OM005 (it answers in the database), OM006, OM008 (its library).';
REVOKE ALL ON FUNCTION order_mgmt.request_prediction(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.request_prediction(text, jsonb) TO order_mgmt_reader;

-- What has become of a request of the calling role; no row: there is none. status: waiting, answered or failed.
-- outputs: an array, in the order of the inputs. error: of the last attempt, also while the next is waited for.
CREATE FUNCTION order_mgmt.prediction_answer(
    request_id bigint
)
RETURNS TABLE (
    status text,
    outputs jsonb,
    error_code text,
    error text,
    attempts bigint,
    requested_at timestamptz,
    answered_at timestamptz
)
LANGUAGE C STABLE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'om_prediction_answer';
COMMENT ON FUNCTION order_mgmt.prediction_answer(bigint) IS
    'The answer to a request of the calling role: status waiting, answered or failed; no row for one that is not there. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.prediction_answer(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.prediction_answer(bigint) TO order_mgmt_reader;

-- Keeps what a model of kind http needs to identify itself: {"access_key_id", "secret_access_key",
-- "session_token"?} for Amazon, {"bearer"} or {"headers": {"name": "value"}}. The model names it in option
-- "secret". False: there was one of that name, which is replaced. The value is in the statement: pass it
-- as a parameter where statements are logged.
CREATE FUNCTION order_mgmt.set_model_secret(
    name text,
    value jsonb
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_set_model_secret';
COMMENT ON FUNCTION order_mgmt.set_model_secret(text, jsonb) IS
    'Keeps keys, a token or headers for models of kind http; false when it replaces what had that name. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.set_model_secret(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.set_model_secret(text, jsonb) TO order_mgmt_admin;

-- Forgets a secret; models that name it fail from then on. False: there is none.
CREATE FUNCTION order_mgmt.drop_model_secret(
    name text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_drop_model_secret';
COMMENT ON FUNCTION order_mgmt.drop_model_secret(text) IS
    'Forgets a secret; false when there is none of that name. Errors: OM001, OM006.';
REVOKE ALL ON FUNCTION order_mgmt.drop_model_secret(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.drop_model_secret(text) TO order_mgmt_admin;

-- Asks a model about each of the inputs, as predict_batch() does; endpoint is the name of a model, which
-- is of kind http as a rule. max_rows_per_batch inputs go into one call, no more than option
-- max_rows_per_batch of the model says.
CREATE FUNCTION order_mgmt.invoke_endpoint(
    endpoint text,
    max_rows_per_batch bigint DEFAULT NULL,
    VARIADIC inputs jsonb[] DEFAULT '{}'
)
RETURNS TABLE (
    ordinal bigint,
    output jsonb
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_invoke_endpoint';
COMMENT ON FUNCTION order_mgmt.invoke_endpoint(text, bigint, jsonb[]) IS
    'Asks a model by the name of its endpoint about each of the inputs: ordinal from 1, output. Errors: as predict().';
REVOKE ALL ON FUNCTION order_mgmt.invoke_endpoint(text, bigint, jsonb[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.invoke_endpoint(text, bigint, jsonb[]) TO order_mgmt_reader;

-- Asks a model of kind http and format bedrock; model_id is its name in models, input what its template
-- puts into the body.
CREATE FUNCTION order_mgmt.invoke_bedrock(
    model_id text,
    input jsonb
)
RETURNS jsonb
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_invoke_bedrock';
COMMENT ON FUNCTION order_mgmt.invoke_bedrock(text, jsonb) IS
    'Asks a model of format bedrock. Errors: as predict().';
REVOKE ALL ON FUNCTION order_mgmt.invoke_bedrock(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.invoke_bedrock(text, jsonb) TO order_mgmt_reader;

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

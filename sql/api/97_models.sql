-- Makes a model of a kind: sql, next_basket and demand are built in, others are libraries that setting
-- order_mgmt.predict_providers must name. False: it is there already, of that kind and with these options.
-- Options that every model has: fallback (another model's name), log_sample (0 to 1), max_rows_per_batch,
-- timeout_ms, auto_deploy, keep_versions; the others belong to the kind.
CREATE FUNCTION order_mgmt.create_model(
    name text,
    kind text,
    options jsonb DEFAULT '{}'
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_create_model';
COMMENT ON FUNCTION order_mgmt.create_model(text, text, jsonb) IS
    'Makes a model; false when there is the same already. Errors: OM001, OM005 (another of that name), OM006, OM008 (its library), 42501.';
REVOKE ALL ON FUNCTION order_mgmt.create_model(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.create_model(text, text, jsonb) TO order_mgmt_admin;

-- Gives a model other options, which replace those it has. False: they are the same.
CREATE FUNCTION order_mgmt.set_model_options(
    name text,
    options jsonb
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_set_model_options';
COMMENT ON FUNCTION order_mgmt.set_model_options(text, jsonb) IS
    'Replaces the options of a model; false when it has these already. Errors: OM001, OM004, OM006, OM008, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.set_model_options(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.set_model_options(text, jsonb) TO order_mgmt_admin;

-- Makes a new version of a model, in the caller's transaction and with the caller's rights. It is deployed at
-- once, unless option auto_deploy is false and another version is deployed already.
CREATE FUNCTION order_mgmt.train_model(
    name text
)
RETURNS order_mgmt.model
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_train_model';
COMMENT ON FUNCTION order_mgmt.train_model(text) IS
    'Trains a model and returns the new version. Errors: OM004, OM005 (a kind that is not trained), OM006, OM008, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.train_model(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.train_model(text) TO order_mgmt_analyst;

-- Makes a new version of a model from the one that is deployed, by what is new since, where its kind can and that
-- will do; else it trains as train_model() does. Metrics of kind next_basket say which: update_of, or
-- anew_because_of.
CREATE FUNCTION order_mgmt.update_model(
    name text
)
RETURNS order_mgmt.model
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_update_model';
COMMENT ON FUNCTION order_mgmt.update_model(text) IS
    'Makes a new version from the one that is deployed by what is new, or trains. Errors: as train_model().';
REVOKE ALL ON FUNCTION order_mgmt.update_model(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.update_model(text) TO order_mgmt_analyst;

-- Makes a version of a model the one that predicts: the way forward, and back. Version 0 is the untrained
-- model, of kinds that predict without training. False: it is deployed already.
CREATE FUNCTION order_mgmt.deploy_model(
    name text,
    version bigint
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_deploy_model';
COMMENT ON FUNCTION order_mgmt.deploy_model(text, bigint) IS
    'Makes a version the one that predicts; false when it is already. Errors: OM001, OM004, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.deploy_model(text, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.deploy_model(text, bigint) TO order_mgmt_admin;

-- Forgets a model with all its versions. What it has logged stays.
CREATE FUNCTION order_mgmt.drop_model(
    name text
)
RETURNS boolean
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_drop_model';
COMMENT ON FUNCTION order_mgmt.drop_model(text) IS
    'Forgets a model with all its versions. Errors: OM001, OM004, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.drop_model(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.drop_model(text) TO order_mgmt_admin;

-- The answer of a model to one input. Many inputs are answered faster by predict_batch() and predict_query().
CREATE FUNCTION order_mgmt.predict(
    model text,
    input jsonb
)
RETURNS jsonb
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_predict_sql';
COMMENT ON FUNCTION order_mgmt.predict(text, jsonb) IS
    'Asks a model. Errors: OM001, OM004, OM005 (not trained), OM006, OM008 (it has failed, or took too long).';
REVOKE ALL ON FUNCTION order_mgmt.predict(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.predict(text, jsonb) TO order_mgmt_reader;

-- The answers of a model to the elements of a JSON array, by their position from 1. The provider gets
-- max_rows_per_batch of them at a time.
CREATE FUNCTION order_mgmt.predict_batch(
    model text,
    inputs jsonb
)
RETURNS TABLE (
    ordinal bigint,
    output jsonb
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_predict_batch_sql';
COMMENT ON FUNCTION order_mgmt.predict_batch(text, jsonb) IS
    'Asks a model about each element of an array: ordinal from 1, output. Errors: as predict().';
REVOKE ALL ON FUNCTION order_mgmt.predict_batch(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.predict_batch(text, jsonb) TO order_mgmt_reader;

-- The answers of a model to the rows of a query, which runs with the caller's rights. A row is one input: an
-- object of its columns, or the value where there is one column of type jsonb. The provider gets
-- max_rows_per_batch of them at a time, and no more are in memory.
CREATE FUNCTION order_mgmt.predict_query(
    model text,
    query text
)
RETURNS TABLE (
    ordinal bigint,
    input jsonb,
    output jsonb
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_predict_query';
COMMENT ON FUNCTION order_mgmt.predict_query(text, text) IS
    'Asks a model about each row of a query: ordinal from 1, input, output. Errors: as predict(), and those of the query.';
REVOKE ALL ON FUNCTION order_mgmt.predict_query(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.predict_query(text, text) TO order_mgmt_reader;

-- Measures a model, or the version that options name, by what is true. Kinds that measure themselves say how.
-- Others take options query (inputs, and a column label), label (another name of that column), score (member of
-- outputs), task (regression or binary) and threshold. The query runs with the caller's rights.
CREATE FUNCTION order_mgmt.evaluate_model(
    name text,
    options jsonb DEFAULT '{}'
)
RETURNS TABLE (
    metric text,
    value double precision
)
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_evaluate_model';
COMMENT ON FUNCTION order_mgmt.evaluate_model(text, jsonb) IS
    'Measures a model: mae, rmse, wape, bias; or auc, log_loss, accuracy, precision, recall; or what its kind measures. Errors: OM001, OM004, OM005, OM006, OM008, and those of the query.';
REVOKE ALL ON FUNCTION order_mgmt.evaluate_model(text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.evaluate_model(text, jsonb) TO order_mgmt_analyst;

-- Deletes what prediction_log has of before an interval ago; NULL: as long ago as setting
-- order_mgmt.prediction_retention says. Returns how many rows. Waits for nobody.
CREATE FUNCTION order_mgmt.purge_predictions(
    older interval DEFAULT NULL
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_purge_predictions';
COMMENT ON FUNCTION order_mgmt.purge_predictions(interval) IS
    'Deletes rows of prediction_log that are older, or past order_mgmt.prediction_retention; returns how many. Errors: OM001, OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.purge_predictions(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.purge_predictions(interval) TO order_mgmt_operator;

-- Updates every model whose newest version is older than an interval, as update_model() does, with the rights of the
-- caller; one that cannot be trained is a WARNING, and the others go on. Returns how many were trained.
-- Errors: OM001, OM005 for superusers, OM006, 42501.
CREATE FUNCTION order_mgmt.retrain_models(
    older interval DEFAULT '1 day'
)
RETURNS bigint
LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'om_retrain_models';
COMMENT ON FUNCTION order_mgmt.retrain_models(interval) IS
    'Trains again the models whose newest version is older than that; returns how many. Errors: OM001, OM005 (superuser), OM006, 42501.';
REVOKE ALL ON FUNCTION order_mgmt.retrain_models(interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION order_mgmt.retrain_models(interval) TO order_mgmt_analyst, order_mgmt_operator;

/*
 * schema.c
 *		setup(): the data tables.
 *
 * They are no members of the extension (members that are partitioned do not
 * survive pg_dump) and belong to order_mgmt_owner.  Constraints stand in a
 * list of their own: DROP EXTENSION … CASCADE takes those that call functions
 * of the extension, and setup() after a reinstall puts them back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "catalog/pg_constraint.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "clock.h"
#include "comments.h"
#include "cursors.h"
#include "errors.h"
#include "installation.h"
#include "jsonout.h"
#include "months.h"
#include "names.h"
#include "plans.h"
#include "policies.h"
#include "relations.h"
#include "rotation.h"
#include "schema.h"
#include "settings.h"
#include "ticks.h"

typedef struct DataRelation
{
	const char *name;
	const char *ddl;
	const char *comment;
	const char *grants; /* privilege and roles, or NULL */
} DataRelation;

#define READERS "order_mgmt_reader"

/* The key of customers and products sorts the same in SQL and in C. */
#define ID "text COLLATE \"C\" NOT NULL"
#define MONEY "numeric(18,4) NOT NULL"

/*
 * Who staged a row, and when; no two rows of a session have the same time.  The
 * functions pass for immutable, see api_uploads.c.
 */
#define STAGED_BY "staged_by oid GENERATED ALWAYS AS (order_mgmt.staging_role(order_ref)) STORED"
#define STAGED_AT \
	"staged_at timestamptz GENERATED ALWAYS AS (order_mgmt.staging_time(order_ref)) STORED"

static const DataRelation relations[] = {
	{"event_ids", "CREATE SEQUENCE order_mgmt.event_ids INCREMENT BY 128",
	 "SEQUENCE %s IS 'Event ids; a row of event_log owns the 128 that follow.'", NULL},
	{"installation",
	 "CREATE TABLE order_mgmt.installation (only_row boolean PRIMARY KEY DEFAULT true"
	 " CONSTRAINT installation_one_row CHECK (only_row), schema_version integer NOT NULL,"
	 " system_identifier bigint NOT NULL, database_oid oid NOT NULL, xid_base bigint NOT NULL,"
	 " moved boolean NOT NULL, lane_key bytea NOT NULL, created_at timestamptz NOT NULL)",
	 "TABLE %s IS 'The set-up of this database: version and origin of the data.'", NULL},
	{"rotations",
	 "CREATE TABLE order_mgmt.rotations (name text COLLATE \"C\" PRIMARY KEY,"
	 " slot integer NOT NULL, since timestamptz NOT NULL)",
	 "TABLE %s IS 'Which of several tables that take turns is being written.'", READERS},
	{"accounts",
	 "CREATE TABLE order_mgmt.accounts (customer_id " ID ", name text, email text,"
	 " metadata jsonb NOT NULL, balance " MONEY ", reserved " MONEY
	 ", created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,"
	 " CONSTRAINT accounts_pkey PRIMARY KEY (customer_id)) WITH (fillfactor = 25)",
	 "TABLE %s IS 'Customers and their credit; balance minus reserved can still be spent.'",
	 READERS},
	{"products",
	 "CREATE TABLE order_mgmt.products (product_id " ID ", name text, unit_price numeric(18,4),"
	 " metadata jsonb NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,"
	 " CONSTRAINT products_pkey PRIMARY KEY (product_id))",
	 "TABLE %s IS 'Products; unit_price is the default of order lines without a price.'", READERS},
	{"stock",
	 "CREATE TABLE order_mgmt.stock (product_id " ID ", on_hand bigint NOT NULL,"
	 " reserved bigint NOT NULL, updated_at timestamptz NOT NULL,"
	 " CONSTRAINT stock_pkey PRIMARY KEY (product_id)) WITH (fillfactor = 25)",
	 "TABLE %s IS 'Units on hand; on_hand minus reserved can still be sold.'", READERS},
	{"orders",
	 "CREATE TABLE order_mgmt.orders (order_id uuid NOT NULL, created_at timestamptz NOT NULL,"
	 " customer_id " ID ", order_ref text COLLATE \"C\", status text NOT NULL,"
	 " settled smallint NOT NULL, round smallint NOT NULL, reasons text[] NOT NULL, total " MONEY
	 ", metadata jsonb NOT NULL, trail bigint[] NOT NULL, updated_at timestamptz NOT NULL,"
	 " CONSTRAINT orders_pkey PRIMARY KEY (created_at, order_id)) PARTITION BY RANGE (created_at)",
	 "TABLE %s IS 'Orders, a partition per month (UTC); the time is the one inside the id.'",
	 READERS},
	{"orders_customer_idx",
	 "CREATE INDEX orders_customer_idx ON order_mgmt.orders (customer_id, created_at, order_id)",
	 NULL, NULL},
	{"orders_ref_idx",
	 "CREATE INDEX orders_ref_idx ON order_mgmt.orders (order_ref) WHERE order_ref IS NOT NULL",
	 NULL, NULL},
	{"order_lines",
	 "CREATE TABLE order_mgmt.order_lines (order_id uuid NOT NULL,"
	 " created_at timestamptz NOT NULL, line_no integer NOT NULL, product_id " ID
	 ", quantity integer NOT NULL, unit_price " MONEY
	 ", CONSTRAINT order_lines_pkey PRIMARY KEY (created_at, order_id, line_no))"
	 " PARTITION BY RANGE (created_at)",
	 "TABLE %s IS 'Lines of orders; they never change.'", READERS},
	{"event_log",
	 "CREATE TABLE order_mgmt.event_log (at timestamptz NOT NULL, lxid bigint NOT NULL,"
	 " event_id bigint NOT NULL, event_type text NOT NULL, order_ids bytea,"
	 " customer_id text COLLATE \"C\", product_id text COLLATE \"C\", detail jsonb,"
	 " CONSTRAINT event_log_pkey PRIMARY KEY (lxid, event_id, at)) PARTITION BY RANGE (at)",
	 "TABLE %s IS 'The log as stored: append-only, up to 112 orders a row; read view events.'",
	 READERS},
	{"partition_policies",
	 "CREATE TABLE order_mgmt.partition_policies (table_schema text COLLATE \"C\" NOT NULL,"
	 " table_name text COLLATE \"C\" NOT NULL, time_column text COLLATE \"C\" NOT NULL,"
	 " owner text COLLATE \"C\", premake bigint, warm_after interval,"
	 " warm_tablespace text COLLATE \"C\", cold_after interval, drop_after interval,"
	 " stay_hot_reads bigint, restored_for interval NOT NULL, lock_timeout interval NOT NULL,"
	 " created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,"
	 " CONSTRAINT partition_policies_pkey PRIMARY KEY (table_schema, table_name))",
	 "TABLE %s IS 'Tables whose months are looked after, and how.'", READERS},
	{"partition_uses",
	 "CREATE TABLE order_mgmt.partition_uses (schema_name text COLLATE \"C\" NOT NULL,"
	 " partition_name text COLLATE \"C\" NOT NULL, scans bigint NOT NULL,"
	 " reads_per_day double precision, last_read_at timestamptz, since timestamptz NOT NULL,"
	 " since_scans bigint NOT NULL, seen_at timestamptz NOT NULL, warm_since timestamptz,"
	 " CONSTRAINT partition_uses_pkey PRIMARY KEY (schema_name, partition_name))",
	 "TABLE %s IS 'Partitions: how often they are read, and since when they are warm.'", READERS},
	{"known_tables",
	 "CREATE TABLE order_mgmt.known_tables (schema_name text COLLATE \"C\" NOT NULL,"
	 " table_name text COLLATE \"C\" NOT NULL, relid oid NOT NULL, owner text COLLATE \"C\" NOT "
	 "NULL,"
	 " system_identifier bigint NOT NULL, database_oid oid NOT NULL,"
	 " CONSTRAINT known_tables_pkey PRIMARY KEY (schema_name, table_name))",
	 "TABLE %s IS 'Tables of users that are managed or have archives: which ones their names "
	 "meant.'",
	 READERS},
	{"maintenance_ids", "CREATE SEQUENCE order_mgmt.maintenance_ids",
	 "SEQUENCE %s IS 'Ids of rows of maintenance_log.'", NULL},
	{"maintenance_log",
	 "CREATE TABLE order_mgmt.maintenance_log (maintenance_id bigint NOT NULL,"
	 " at timestamptz NOT NULL, action text NOT NULL, relation text, month date, rows bigint,"
	 " bytes bigint, duration interval, error_code text, error text,"
	 " CONSTRAINT maintenance_log_pkey PRIMARY KEY (maintenance_id))",
	 "TABLE %s IS 'What maintenance has done, and what it could not do.'", READERS},
	{"event_log_customer_idx",
	 "CREATE INDEX event_log_customer_idx ON order_mgmt.event_log (customer_id, event_id)"
	 " WHERE customer_id IS NOT NULL",
	 NULL, NULL},
	{"event_log_product_idx",
	 "CREATE INDEX event_log_product_idx ON order_mgmt.event_log (product_id, event_id)"
	 " WHERE product_id IS NOT NULL",
	 NULL, NULL},
	{"consumers",
	 "CREATE TABLE order_mgmt.consumers (name text COLLATE \"C\" NOT NULL, kind text NOT NULL,"
	 " handler text, owner text COLLATE \"C\", event_types text[], max_attempts bigint NOT NULL,"
	 " backoff_base interval NOT NULL, backoff_cap interval NOT NULL, paused boolean NOT NULL,"
	 " created_at timestamptz NOT NULL, start_at timestamptz,"
	 " CONSTRAINT consumers_pkey PRIMARY KEY (name))",
	 "TABLE %s IS 'Who reads the log.'", READERS},
	{"retries",
	 "CREATE TABLE order_mgmt.retries (consumer text COLLATE \"C\" NOT NULL,"
	 " event_id bigint NOT NULL, tick_id bigint NOT NULL, lxid bigint NOT NULL,"
	 " at timestamptz NOT NULL, event_type text NOT NULL, order_id uuid,"
	 " customer_id text COLLATE \"C\", product_id text COLLATE \"C\", detail jsonb,"
	 " attempts bigint NOT NULL, first_failed_at timestamptz NOT NULL,"
	 " last_failed_at timestamptz NOT NULL, due timestamptz NOT NULL, error_code text NOT NULL,"
	 " message text NOT NULL, batch_id bigint,"
	 " CONSTRAINT retries_pkey PRIMARY KEY (consumer, event_id))",
	 "TABLE %s IS 'Events that a consumer failed to handle and will be given again.'", READERS},
	{"retries_due_idx",
	 "CREATE INDEX retries_due_idx ON order_mgmt.retries (consumer, due) WHERE batch_id IS NULL",
	 NULL, NULL},
	{"retries_batch_idx",
	 "CREATE INDEX retries_batch_idx ON order_mgmt.retries (consumer, batch_id)"
	 " WHERE batch_id IS NOT NULL",
	 NULL, NULL},
	{"dead_letter_ids", "CREATE SEQUENCE order_mgmt.dead_letter_ids",
	 "SEQUENCE %s IS 'Ids of dead letters.'", NULL},
	{"dead_letters",
	 "CREATE TABLE order_mgmt.dead_letters (dead_letter_id bigint NOT NULL,"
	 " consumer text COLLATE \"C\" NOT NULL, event_id bigint NOT NULL, order_id uuid,"
	 " attempts bigint NOT NULL, first_failed_at timestamptz NOT NULL,"
	 " last_failed_at timestamptz NOT NULL, error_code text NOT NULL, message text NOT NULL,"
	 " payload jsonb NOT NULL, tick_id bigint NOT NULL, lxid bigint NOT NULL,"
	 " CONSTRAINT dead_letters_pkey PRIMARY KEY (dead_letter_id))",
	 "TABLE %s IS 'Events that a consumer has given up.'", READERS},
	{"dead_letters_event_idx",
	 "CREATE INDEX dead_letters_event_idx ON order_mgmt.dead_letters (consumer, event_id)", NULL,
	 NULL},
	{"load_ids", "CREATE SEQUENCE order_mgmt.load_ids", "SEQUENCE %s IS 'Ids of loads.'", NULL},
	/* A load writes its row with every batch, so there is room for its versions. */
	{"loads",
	 "CREATE TABLE order_mgmt.loads (load_id bigint NOT NULL, kind text NOT NULL, mode text,"
	 " source text NOT NULL, options jsonb NOT NULL, started_by text COLLATE \"C\" NOT NULL,"
	 " status text NOT NULL, bytes_total bigint NOT NULL, bytes_read bigint NOT NULL,"
	 " rows_read bigint NOT NULL, rows_loaded bigint NOT NULL, rows_rejected bigint NOT NULL,"
	 " rows_skipped bigint NOT NULL, orders_loaded bigint NOT NULL,"
	 " orders_skipped bigint NOT NULL, errors bigint NOT NULL, sha256 bytea,"
	 " done_records bigint NOT NULL, done_sorted bigint NOT NULL, retry_of bigint,"
	 " created_at timestamptz NOT NULL, started_at timestamptz, updated_at timestamptz NOT NULL,"
	 " finished_at timestamptz, rows_per_second double precision, estimated_end timestamptz,"
	 " error_code text, error text, header text,"
	 " CONSTRAINT loads_pkey PRIMARY KEY (load_id)) WITH (fillfactor = 50)",
	 "TABLE %s IS 'Loads of CSV files, how far they are and how they ended.'", READERS},
	{"loads_unfinished_idx",
	 "CREATE INDEX loads_unfinished_idx ON order_mgmt.loads (load_id)"
	 " WHERE status IN ('queued', 'reading', 'writing')",
	 NULL, NULL},
	{"load_errors",
	 "CREATE TABLE order_mgmt.load_errors (load_id bigint NOT NULL, error_no bigint NOT NULL,"
	 " row_no bigint, line_no bigint, column_name text, error_code text NOT NULL,"
	 " message text NOT NULL, raw text, raw_is_exact boolean NOT NULL,"
	 " CONSTRAINT load_errors_pkey PRIMARY KEY (load_id, error_no))",
	 "TABLE %s IS 'Rows that a load has refused, each with its reasons.'", READERS},
	{"load_cancels",
	 "CREATE TABLE order_mgmt.load_cancels (load_id bigint NOT NULL,"
	 " requested_by text COLLATE \"C\" NOT NULL, at timestamptz NOT NULL,"
	 " CONSTRAINT load_cancels_pkey PRIMARY KEY (load_id))",
	 "TABLE %s IS 'Loads under way that are to be cancelled.'", READERS},
	/* Not compressed: it is read and written once, and soon gone. */
	{"load_parts",
	 "CREATE TABLE order_mgmt.load_parts (load_id bigint NOT NULL, at_byte bigint NOT NULL,"
	 " content bytea NOT NULL, CONSTRAINT load_parts_pkey PRIMARY KEY (load_id, at_byte));"
	 " ALTER TABLE order_mgmt.load_parts ALTER COLUMN content SET STORAGE EXTERNAL",
	 "TABLE %s IS 'What a load reads that has no file: uploads, staged rows, refused rows that are"
	 " tried again.'",
	 NULL},
	{"uploads",
	 "CREATE TABLE order_mgmt.uploads (upload_id uuid NOT NULL, load_id bigint NOT NULL,"
	 " kind text NOT NULL, mode text, options jsonb NOT NULL,"
	 " created_by text COLLATE \"C\" NOT NULL, created_at timestamptz NOT NULL,"
	 " expires_at timestamptz NOT NULL, CONSTRAINT uploads_pkey PRIMARY KEY (upload_id))",
	 "TABLE %s IS 'Files that clients send piece by piece.'", READERS},
	{"load_profiles",
	 "CREATE TABLE order_mgmt.load_profiles (name text COLLATE \"C\" NOT NULL,"
	 " options jsonb NOT NULL, changed_by text COLLATE \"C\" NOT NULL,"
	 " created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,"
	 " CONSTRAINT load_profiles_pkey PRIMARY KEY (name))",
	 "TABLE %s IS 'Options of loads under a name.'", READERS},
	/* Only administrators see it; order_mgmt itself reads it as the owner. */
	{"model_secrets",
	 "CREATE TABLE order_mgmt.model_secrets (name text COLLATE \"C\" NOT NULL,"
	 " value jsonb NOT NULL, changed_by text COLLATE \"C\" NOT NULL,"
	 " created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,"
	 " CONSTRAINT model_secrets_pkey PRIMARY KEY (name))",
	 "TABLE %s IS 'What models need to identify themselves to others.'", "order_mgmt_admin"},
	/* Its columns are those of a file, so that COPY needs no list of them: COPY leaves out what is
	   generated.  For the same reason it has no row security, with which COPY does not work. */
	{"order_staging",
	 "CREATE TABLE order_mgmt.order_staging (order_ref text COLLATE \"C\","
	 " customer_id text COLLATE \"C\", product_id text COLLATE \"C\","
	 " quantity text, unit_price text, created_at text, metadata text, " STAGED_BY ", " STAGED_AT
	 "); GRANT INSERT ON order_mgmt.order_staging TO order_mgmt_operator",
	 "TABLE %s IS 'Rows of orders that are to be loaded, put here by COPY.'", NULL},
	{"staged_rows",
	 "CREATE VIEW order_mgmt.staged_rows WITH (security_barrier = true) AS SELECT"
	 " s.order_ref, s.customer_id, s.product_id, s.quantity, s.unit_price, s.created_at,"
	 " s.metadata, s.staged_at FROM order_mgmt.order_staging AS s WHERE s.staged_by ="
	 " (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = CURRENT_USER);"
	 " GRANT SELECT, DELETE ON order_mgmt.staged_rows TO order_mgmt_operator",
	 "VIEW %s IS 'The rows that one has staged oneself: to look at, or to delete.'", NULL},
	/* By key first: statements look into all months of one. */
	{"archived_amounts",
	 "CREATE TABLE order_mgmt.archived_amounts (month timestamptz NOT NULL, kind text NOT NULL,"
	 " key " ID ", amount numeric NOT NULL, has_changes boolean NOT NULL,"
	 " CONSTRAINT archived_amounts_pkey PRIMARY KEY (kind, key, month))",
	 "TABLE %s IS 'Months in the archive: what each account''s and product''s changes less its"
	 " shipped orders came to.'",
	 READERS},
	{"archived_amounts_month_idx",
	 "CREATE INDEX archived_amounts_month_idx ON order_mgmt.archived_amounts (month)", NULL, NULL},
	{"archived_movements",
	 "CREATE TABLE order_mgmt.archived_movements (month timestamptz NOT NULL, kind text NOT NULL,"
	 " key " ID ", event_id bigint NOT NULL, at timestamptz NOT NULL, order_id uuid NOT NULL,"
	 " amount numeric NOT NULL, CONSTRAINT archived_movements_pkey PRIMARY KEY (kind, key,"
	 " event_id))",
	 "TABLE %s IS 'Orders of months in the archive that were shipped in a later month.'", READERS},
	{"archived_months",
	 "CREATE TABLE order_mgmt.archived_months (month timestamptz NOT NULL, events jsonb NOT NULL,"
	 " first_lxid bigint NOT NULL, last_lxid bigint NOT NULL, last_event_id bigint NOT NULL,"
	 " CONSTRAINT archived_months_pkey PRIMARY KEY (month))",
	 "TABLE %s IS 'Months in the archive: their events, counted.'", READERS},
	{"model_definitions",
	 "CREATE TABLE order_mgmt.model_definitions (name text COLLATE \"C\" NOT NULL,"
	 " kind text COLLATE \"C\" NOT NULL, options jsonb NOT NULL, deployed bigint,"
	 " created_at timestamptz NOT NULL, created_by text COLLATE \"C\" NOT NULL,"
	 " changed_at timestamptz NOT NULL,"
	 " CONSTRAINT model_definitions_pkey PRIMARY KEY (name))",
	 "TABLE %s IS 'Models, and which version of each predicts; read view models.'", READERS},
	/* Not compressed: models are read whole, and are dense already. */
	{"model_versions",
	 "CREATE TABLE order_mgmt.model_versions (name text COLLATE \"C\" NOT NULL,"
	 " version bigint NOT NULL, trained_at timestamptz NOT NULL,"
	 " trained_by text COLLATE \"C\" NOT NULL, options jsonb NOT NULL, metrics jsonb NOT NULL,"
	 " model bytea NOT NULL, CONSTRAINT model_versions_pkey PRIMARY KEY (name, version));"
	 " ALTER TABLE order_mgmt.model_versions ALTER COLUMN model SET STORAGE EXTERNAL",
	 "TABLE %s IS 'What trainings have made.'", NULL},
	{"models",
	 "CREATE VIEW order_mgmt.models AS SELECT d.name, d.kind, v.version,"
	 " v.version IS NOT DISTINCT FROM d.deployed AS deployed, d.options, v.trained_at, v.metrics,"
	 " v.bytes, v.trained_by, v.trained_with FROM order_mgmt.model_definitions AS d"
	 " CROSS JOIN LATERAL (SELECT s.version, s.trained_at, s.metrics,"
	 "  pg_catalog.octet_length(s.model)::bigint, s.trained_by, s.options"
	 "  FROM order_mgmt.model_versions AS s WHERE s.name = d.name"
	 "  UNION ALL SELECT 0, NULL, '{}'::jsonb, 0, NULL, NULL WHERE d.deployed = 0 OR NOT EXISTS"
	 "  (SELECT FROM order_mgmt.model_versions AS n WHERE n.name = d.name))"
	 " AS v (version, trained_at, metrics, bytes, trained_by, trained_with)",
	 "VIEW %s IS 'Models, one row per version; version 0 has not been trained.'", READERS},
	{"prediction_ids", "CREATE SEQUENCE order_mgmt.prediction_ids CACHE 32",
	 "SEQUENCE %s IS 'Ids of predictions that are logged.'", NULL},
	{"prediction_log",
	 "CREATE TABLE order_mgmt.prediction_log (prediction_id bigint NOT NULL,"
	 " at timestamptz NOT NULL, model text COLLATE \"C\" NOT NULL, version bigint NOT NULL,"
	 " customer_id text COLLATE \"C\", input jsonb NOT NULL, output jsonb,"
	 " duration_us bigint NOT NULL, error_code text,"
	 " CONSTRAINT prediction_log_pkey PRIMARY KEY (prediction_id))",
	 "TABLE %s IS 'Predictions that were sampled, as option log_sample of their model says.'",
	 "order_mgmt_analyst"},
	{"prediction_log_at_idx",
	 "CREATE INDEX prediction_log_at_idx ON order_mgmt.prediction_log (at)", NULL, NULL},
	{"request_ids", "CREATE SEQUENCE order_mgmt.request_ids",
	 "SEQUENCE %s IS 'Ids of predictions that are asked for.'", NULL},
	{"prediction_requests",
	 "CREATE TABLE order_mgmt.prediction_requests (request_id bigint NOT NULL,"
	 " model text COLLATE \"C\" NOT NULL, inputs jsonb NOT NULL,"
	 " requested_by text COLLATE \"C\" NOT NULL, requested_at timestamptz NOT NULL,"
	 " attempts integer NOT NULL, due timestamptz NOT NULL, outputs jsonb, error_code text,"
	 " error text, answered_at timestamptz,"
	 " CONSTRAINT prediction_requests_pkey PRIMARY KEY (request_id))",
	 "TABLE %s IS 'Predictions that models outside make after the commit, and the answers.'",
	 "order_mgmt_analyst"},
	{"prediction_requests_due_idx",
	 "CREATE INDEX prediction_requests_due_idx ON order_mgmt.prediction_requests"
	 " (due, request_id) WHERE answered_at IS NULL",
	 NULL, NULL},
	{"prediction_accuracy",
	 "CREATE VIEW order_mgmt.prediction_accuracy AS SELECT p.model, p.version,"
	 " (p.at AT TIME ZONE 'UTC')::date AS day, count(*) AS predictions,"
	 " sum(f.hits)::bigint AS hits, avg(f.hits::double precision / f.predicted) AS precision,"
	 " avg(f.hits::double precision / f.ordered) AS recall,"
	 " avg((f.hits > 0)::integer::double precision) AS hit_rate"
	 " FROM order_mgmt.prediction_log AS p"
	 " CROSS JOIN LATERAL (SELECT o.order_id, o.created_at FROM order_mgmt.orders AS o"
	 "  WHERE o.customer_id = p.customer_id AND o.created_at > p.at"
	 "  ORDER BY o.created_at, o.order_id LIMIT 1) AS n"
	 " CROSS JOIN LATERAL (SELECT pg_catalog.array_agg(DISTINCT i.item #>> '{}') AS items"
	 "  FROM pg_catalog.jsonb_path_query(p.output, '$.**.product_id') AS i (item)) AS t"
	 " CROSS JOIN LATERAL (SELECT pg_catalog.cardinality(t.items) AS predicted,"
	 "  count(DISTINCT l.product_id) AS ordered,"
	 "  count(DISTINCT l.product_id) FILTER (WHERE l.product_id = ANY (t.items)) AS hits"
	 "  FROM order_mgmt.order_lines AS l WHERE l.created_at = n.created_at"
	 "  AND l.order_id = n.order_id) AS f"
	 " WHERE p.error_code IS NULL AND t.items IS NOT NULL AND f.ordered > 0"
	 " GROUP BY 1, 2, 3",
	 "VIEW %s IS 'Predictions of products beside the next order of their customer, by day.'",
	 READERS},
#define CURSOR_LOG(n)                                                                         \
	{                                                                                         \
		"cursor_log_" n,                                                                      \
			"CREATE TABLE order_mgmt.cursor_log_" n " (consumer text COLLATE \"C\" NOT NULL," \
			" seq bigint NOT NULL, tick_id bigint NOT NULL, base bigint[] NOT NULL, target "  \
			"bigint[],"                                                                       \
			" lxid bigint NOT NULL, event_id bigint NOT NULL, processed bigint NOT NULL,"     \
			" restart_seq bigint NOT NULL, waiting bigint NOT NULL, at timestamptz NOT NULL," \
			" passed bigint[] NOT NULL,"                                                      \
			" CONSTRAINT cursor_log_" n "_pkey PRIMARY KEY (consumer, seq))",                 \
			"TABLE %s IS 'Positions of consumers; the newest row of each counts.'", READERS   \
	}
	CURSOR_LOG("0"),
	CURSOR_LOG("1"),
#define TICKS(n)                                                                            \
	{                                                                                       \
		"ticks_" n,                                                                         \
			"CREATE TABLE order_mgmt.ticks_" n                                              \
			" (tick_id bigint NOT NULL, snapshot bigint[] NOT NULL,"                        \
			" at timestamptz NOT NULL, CONSTRAINT ticks_" n "_pkey PRIMARY KEY (tick_id))", \
			"TABLE %s IS 'Horizons by which all consumers read the log.'", READERS          \
	}
	TICKS("0"),
	TICKS("1"),
#define KEYS(n)                                                                                \
	{                                                                                          \
		"idempotency_keys_" n,                                                                 \
			"CREATE TABLE order_mgmt.idempotency_keys_" n " (key_hash bytea NOT NULL,"         \
			" request_hash bytea NOT NULL, order_id uuid, result numeric, at timestamptz NOT " \
			"NULL,"                                                                            \
			" CONSTRAINT idempotency_keys_" n "_pkey PRIMARY KEY (key_hash))",                 \
			"TABLE %s IS 'Idempotency keys of some days, by hash.'", NULL                      \
	}
	KEYS("0"),
	KEYS("1"),
	KEYS("2"),
	KEYS("3"),
	{"archives",
	 "CREATE TABLE order_mgmt.archives (schema_name text COLLATE \"C\" NOT NULL,"
	 " table_name text COLLATE \"C\" NOT NULL, month date NOT NULL, state text NOT NULL,"
	 " partition_name text NOT NULL, lower_bound text NOT NULL, upper_bound text NOT NULL,"
	 " file text NOT NULL, rows bigint NOT NULL, bytes_raw bigint NOT NULL,"
	 " bytes_packed bigint NOT NULL, sha256 bytea NOT NULL, manifest_sha256 bytea NOT NULL,"
	 " first_at text, last_at text, first_key text[], last_key text[], key text[] NOT NULL,"
	 " schema_version integer NOT NULL, archived_at timestamptz NOT NULL, restored_at timestamptz,"
	 " CONSTRAINT archives_pkey PRIMARY KEY (schema_name, table_name, month))",
	 "TABLE %s IS 'Months that have been archived: where they are, and whether they are back.'",
	 READERS},
	{"events",
	 "CREATE VIEW order_mgmt.events AS SELECT"
	 " l.event_id + coalesce(o.ordinal - 1, 0) AS event_id, l.at, l.event_type, o.order_id,"
	 " coalesce(l.customer_id, (SELECT r.customer_id FROM order_mgmt.orders AS r"
	 "  WHERE r.created_at = order_mgmt.uuid_time(o.order_id) AND r.order_id = o.order_id))"
	 "  AS customer_id, l.product_id, coalesce(l.detail, '{}'::jsonb) AS detail, l.lxid"
	 " FROM order_mgmt.event_log AS l"
	 " LEFT JOIN LATERAL order_mgmt.unpack_orders(l.order_ids) AS o ON true",
	 "VIEW %s IS 'The event log, one row per event.'", READERS},
};

typedef struct DataConstraint
{
	const char *table;
	const char *name;
	const char *check;
} DataConstraint;

static const DataConstraint constraints[] = {
	{"accounts", "accounts_customer_id_length", "char_length(customer_id) BETWEEN 1 AND 64"},
	{"accounts", "accounts_reserved_not_negative", "reserved >= 0"},
	{"accounts", "accounts_balance_covers_reserved", "balance >= reserved"},
	{"products", "products_product_id_length", "char_length(product_id) BETWEEN 1 AND 64"},
	{"products", "products_unit_price_not_negative", "unit_price >= 0"},
	{"stock", "stock_product_id_length", "char_length(product_id) BETWEEN 1 AND 64"},
	{"stock", "stock_reserved_not_negative", "reserved >= 0"},
	{"stock", "stock_on_hand_covers_reserved", "on_hand >= reserved"},
	{"orders", "orders_created_at_is_that_of_id", "created_at = order_mgmt.uuid_time(order_id)"},
	{"orders", "orders_status_known", "order_mgmt.is_order_status(status)"},
	{"orders", "orders_reasons_known",
	 "reasons <@ '{insufficient_balance,insufficient_stock,unknown_account,unknown_product,"
	 "expired,high_risk}'::text[]"},
	{"consumers", "consumers_kind_known", "kind IN ('built-in', 'handler', 'external')"},
	{"orders", "orders_settled_known", "settled IN (0, 1, 2, 3, 7)"},
	{"orders", "orders_round_not_negative", "round >= 0"},
	{"consumers", "consumers_max_attempts_positive", "max_attempts > 0"},
	{"consumers", "consumers_backoff_ordered",
	 "backoff_base > '0'::interval AND backoff_cap >= backoff_base"},
	{"retries", "retries_event_type_known", "order_mgmt.is_event_type(event_type)"},
	{"orders", "orders_total_not_negative", "total >= 0"},
	{"order_lines", "order_lines_created_at_is_that_of_id",
	 "created_at = order_mgmt.uuid_time(order_id)"},
	{"order_lines", "order_lines_quantity_positive", "quantity > 0"},
	{"order_lines", "order_lines_unit_price_not_negative", "unit_price >= 0"},
	{"event_log", "event_log_event_type_known", "order_mgmt.is_event_type(event_type)"},
	{"loads", "loads_kind_known", "kind IN ('orders', 'accounts', 'products', 'stock')"},
	{"loads", "loads_mode_known", "mode IN ('capture', 'history')"},
	{"loads", "loads_mode_is_of_orders", "(kind = 'orders') = (mode IS NOT NULL)"},
	{"uploads", "uploads_kind_known", "kind IN ('orders', 'accounts', 'products', 'stock')"},
	{"uploads", "uploads_mode_known", "mode IN ('capture', 'history')"},
	{"uploads", "uploads_mode_is_of_orders", "(kind = 'orders') = (mode IS NOT NULL)"},
	{"archived_amounts", "archived_amounts_kind_known", "kind IN ('account', 'product')"},
	{"archived_movements", "archived_movements_kind_known", "kind IN ('account', 'product')"},
	{"partition_policies", "partition_policies_premake_not_negative", "premake >= 0"},
	{"partition_policies", "partition_policies_ages_ordered",
	 "(cold_after > warm_after) IS NOT FALSE AND (drop_after > cold_after) IS NOT FALSE"
	 " AND (drop_after > warm_after) IS NOT FALSE"},
	{"loads", "loads_status_known",
	 "status IN ('queued', 'reading', 'writing', 'done', 'failed', 'cancelled')"},
	{"archives", "archives_state_known", "state IN ('cold', 'restored')"},
	{"archives", "archives_month_is_its_first_day", "extract(day FROM month) = 1"},
};

/* A table of the same name that somebody else made is not adopted. */
static bool
exists_as_ours(const char *name)
{
	Oid relid = om_relation_find(name);
	HeapTuple tuple;
	Oid owner;

	if (!OidIsValid(relid))
		return false;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	if (owner != om_owner_role())
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY),
						errmsg("relation \"%s.%s\" exists but does not belong to %s", OM_SCHEMA,
							   name, OM_OWNER_ROLE),
						om_errdetail("table", name),
						errhint("Drop or rename it, then run setup() again.")));
	return true;
}

static void
create_relation(const DataRelation *relation)
{
	char *qualified = psprintf("%s.%s", OM_SCHEMA, relation->name);

	om_query_utility(relation->ddl);
	if (relation->comment != NULL)
	{
		StringInfoData comment;

		initStringInfo(&comment);
		appendStringInfoString(&comment, "COMMENT ON ");
		appendStringInfo(&comment, relation->comment, qualified);
		om_query_utility(comment.data);
	}
	om_comments_add(relation->name);
	if (relation->grants != NULL)
		om_query_utility(psprintf("GRANT SELECT ON %s TO %s", qualified, relation->grants));
}

/*
 * With functions go the columns that they generate.  Whose the rows were that
 * are there is not known any more; they are the owner's now.
 */
static void
mend_staging(void)
{
	Oid relid = om_relation_find("order_staging");

	if (OidIsValid(relid) && get_attnum(relid, "staged_by") == InvalidAttrNumber)
	{
		om_query_utility("ALTER TABLE order_mgmt.order_staging ADD COLUMN " STAGED_BY
						 ", ADD COLUMN " STAGED_AT);
		om_comments_add("order_staging");
	}
}

static void
create_missing_relations(void)
{
	mend_staging();
	for (int i = 0; i < (int) lengthof(relations); i++)
	{
		if (!exists_as_ours(relations[i].name))
			create_relation(&relations[i]);
	}
}

static bool
has_constraint(const DataConstraint *constraint)
{
	Oid relid = om_relation_find(constraint->table);

	return OidIsValid(relid) &&
		   OidIsValid(get_relation_constraint_oid(relid, constraint->name, true /* missing_ok */));
}

bool
om_schema_is_complete(void)
{
	for (int i = 0; i < (int) lengthof(relations); i++)
	{
		if (!OidIsValid(om_relation_find(relations[i].name)))
			return false;
	}
	for (int i = 0; i < (int) lengthof(constraints); i++)
	{
		if (!has_constraint(&constraints[i]))
			return false;
	}
	return true;
}

/* In the order in which a capture locks them, so that neither gets half of them. */
void
om_schema_lock(void)
{
	for (int i = 0; i < OM_MONTHLY_COUNT; i++)
	{
		Oid relid = om_relation_find(om_monthly_names[i]);

		if (!OidIsValid(relid))
			continue;
		LockRelationOid(relid, AccessExclusiveLock);
		(void) find_all_inheritors(relid, AccessExclusiveLock, NULL);
	}
}

static void
add_constraint(const DataConstraint *constraint)
{
	om_query_utility(psprintf("ALTER TABLE %s.%s ADD CONSTRAINT %s CHECK (%s)", OM_SCHEMA,
							  constraint->table, constraint->name, constraint->check));
}

static void
add_missing_constraints(void)
{
	for (int i = 0; i < (int) lengthof(constraints); i++)
	{
		if (has_constraint(&constraints[i]))
			continue;
		om_schema_lock();
		add_constraint(&constraints[i]);
	}
}

static OmQuery install_query = {
	.sql = "INSERT INTO order_mgmt.installation (schema_version, system_identifier, database_oid,"
		   " xid_base, moved, lane_key, created_at) VALUES ($1, $2, $3, 0, false, $4,"
		   " pg_catalog.clock_timestamp()) ON CONFLICT DO NOTHING",
	.nargs = 4,
	.types = {INT4OID, INT8OID, OIDOID, BYTEAOID}};

static OmQuery rotation_query = {
	.sql = "INSERT INTO order_mgmt.rotations VALUES ($1, 0, pg_catalog.clock_timestamp())"
		   " ON CONFLICT DO NOTHING",
	.nargs = 1,
	.types = {TEXTOID}};

static OmQuery consumer_query = {.sql = "INSERT INTO order_mgmt.consumers VALUES ($1, 'built-in', "
										"NULL, NULL, $2, 20, '1 second', '5 minutes', false,"
										" pg_catalog.clock_timestamp()) ON CONFLICT DO NOTHING",
								 .nargs = 2,
								 .types = {TEXTOID, TEXTARRAYOID}};

static bytea *
random_key(void)
{
	Size size = sizeof(((OmInstallation *) NULL)->lane_key);
	bytea *key = palloc(VARHDRSZ + size);

	SET_VARSIZE(key, VARHDRSZ + size);
	if (!pg_strong_random(VARDATA(key), size))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random bits")));
	return key;
}

static bool
insert_installation(void)
{
	const OmRotation *rotations[] = {&om_rotation_ticks, &om_rotation_cursors, &om_rotation_keys};
	Datum args[4] = {Int32GetDatum(OM_SCHEMA_VERSION), Int64GetDatum((int64) GetSystemIdentifier()),
					 ObjectIdGetDatum(MyDatabaseId), PointerGetDatum(random_key())};

	if (om_query_run(&install_query, args, NULL) == 0)
		return false;
	for (int i = 0; i < (int) lengthof(rotations); i++)
	{
		Datum name = CStringGetTextDatum(rotations[i]->name);

		om_query_run(&rotation_query, &name, NULL);
	}
	return true;
}

/* The built-in consumers begin with what comes after now. */
static void
insert_consumers(int64 tick_id, OmHorizon *horizon)
{
	static const char *const event_types[OM_STAGE_COUNT] = {
		"{order_captured}", "{order_captured}",
		"{balance_held,balance_refused,stock_held,stock_refused,order_cancelled,order_failed}",
		"{order_confirmed}"};

	for (int stage = 0; stage < OM_STAGE_COUNT; stage++)
	{
		OmQueryScope scope;
		Datum args[2] = {CStringGetTextDatum(om_stage_names[stage]),
						 OidFunctionCall3(F_ARRAY_IN, CStringGetDatum(event_types[stage]),
										  ObjectIdGetDatum(TEXTOID), Int32GetDatum(-1))};

		om_query_begin(&scope);
		om_query_run(&consumer_query, args, NULL);
		om_query_end(&scope);
		om_cursor_create(om_stage_names[stage], tick_id, om_horizon_copy(horizon));
	}
}

static void
refuse_in_script(const char *function)
{
	if (creating_extension)
		ereport(ERROR, (errcode(ERRCODE_OM_STATE),
						errmsg("%s cannot run inside an extension script", function),
						om_errdetail("context", "extension script"),
						errhint("The data tables would become part of the extension.")));
}

bool
om_schema_create(void)
{
	OmQueryScope scope;
	bool is_new;

	refuse_in_script("setup()");
	om_query_begin(&scope);
	create_missing_relations();
	add_missing_constraints();
	is_new = insert_installation();
	om_query_end(&scope);
	CommandCounterIncrement();
	om_installation_changed();
	om_policies_create_ours();
	(void) om_months_premake(om_clock_now(), om_policy_premake_ours());
	if (is_new)
	{
		int64 tick_id;
		OmHorizon *horizon;

		(void) GetTopTransactionId();
		horizon = om_tick_private(0 /* xid_base */, &tick_id);
		insert_consumers(tick_id, horizon);
	}
	return is_new;
}

/* ---------- earlier versions of the stored data ---------- */

/* Partitions have it from their table, and lose and get it with that. */
static void
replace_constraint(const char *name)
{
	for (int i = 0; i < (int) lengthof(constraints); i++)
	{
		const DataConstraint *constraint = &constraints[i];

		if (strcmp(constraint->name, name) != 0)
			continue;
		om_query_utility(psprintf("ALTER TABLE %s.%s DROP CONSTRAINT IF EXISTS %s", OM_SCHEMA,
								  constraint->table, name));
		add_constraint(constraint);
	}
}

/* 3: high_risk is a reason of orders. */
static void
migrate_to_3(void)
{
	replace_constraint("orders_reasons_known");
}

/* Each brings data of the version before to its own. */
static const struct
{
	int version;
	void (*migrate)(void);
} migrations[] = {{3, migrate_to_3}};

static OmQuery version_query = {.sql = "UPDATE order_mgmt.installation SET schema_version = $1",
								.nargs = 1,
								.types = {INT4OID}};

static void
raise_no_way(int version)
{
	ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY),
					errmsg("data of schema version %d cannot be brought to version %d", version,
						   OM_SCHEMA_VERSION),
					om_errdetail("schema_version", psprintf("%d", version)),
					errhint("Install the library that belongs to the data.")));
}

static void
migrate_from(int version)
{
	Datum target = Int32GetDatum(OM_SCHEMA_VERSION);
	OmQueryScope scope;

	om_query_begin(&scope);
	create_missing_relations(); /* a new table alone is no reason for a version */
	for (int i = 0; i < (int) lengthof(migrations); i++)
	{
		if (migrations[i].version > version)
			migrations[i].migrate();
	}
	om_query_run(&version_query, &target, NULL);
	om_query_end(&scope);
	CommandCounterIncrement();
	om_installation_changed();
}

bool
om_schema_migrate(void)
{
	int version = om_installation_version();

	refuse_in_script("migrate()");
	if (version < migrations[0].version - 1 || version > OM_SCHEMA_VERSION)
		raise_no_way(version);
	if (version == OM_SCHEMA_VERSION)
		return false;
	om_schema_lock();
	/* Somebody else may have done it while we waited. */
	version = om_installation_version();
	if (version == OM_SCHEMA_VERSION)
		return false;
	migrate_from(version);
	return true;
}

void
om_schema_drop(void)
{
	OmQueryScope scope;

	om_query_begin(&scope);
	for (int i = (int) lengthof(relations) - 1; i >= 0; i--)
	{
		Oid relid = om_relation_find(relations[i].name);
		char kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';

		if (kind == RELKIND_VIEW)
			om_query_utility(psprintf("DROP VIEW %s.%s", OM_SCHEMA, relations[i].name));
		else if (kind == RELKIND_SEQUENCE)
			om_query_utility(psprintf("DROP SEQUENCE %s.%s", OM_SCHEMA, relations[i].name));
		else if (kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE)
			om_query_utility(psprintf("DROP TABLE %s.%s", OM_SCHEMA, relations[i].name));
	}
	om_query_end(&scope);
}

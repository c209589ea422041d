/*
 * settings.c
 *		Defines the configuration parameters, described in docs/configuration.md.
 *
 * What an operator may want to differ from database to database can be set
 * with ALTER DATABASE (PGC_SUSET); what the launcher reads is of the whole
 * server (PGC_SIGHUP).
 */
#include "postgres.h"

#include <float.h>
#include <limits.h>

#include "nodes/pg_list.h"
#include "utils/guc.h"
#include "utils/varlena.h"

#include "clock.h"
#include "settings.h"

bool om_setting_workers = true;
bool om_setting_auto_ship = true;
bool om_setting_resume_after_restore = false;
int om_setting_hold_timeout = 0;
int om_setting_premake_months = 3;
int om_setting_idempotency_retention = 30 * 24 * 60;
int om_setting_load_retention = 0;
int om_setting_dead_letter_retention = 0;
int om_setting_workers_per_database = 1;
int om_setting_batch_size = 1000;
int om_setting_handler_timeout = 30000;
char *om_setting_archive_directory = NULL;
char *om_setting_http_endpoints = NULL;
char *om_setting_predict_providers = NULL;
char *om_setting_check_model = NULL;
double om_setting_check_threshold = 0.5;
int om_setting_check_on_failure = OM_CHECK_PASS;
int om_setting_predict_timeout = 0;
int om_setting_model_cache_size = 256 * 1024;

static void
define_int(const char *name, const char *description, int *variable, int initial, int min, int max,
		   GucContext context, int flags)
{
	DefineCustomIntVariable(name, description, NULL, variable, initial, min, max, context, flags,
							NULL, NULL, NULL);
}

static void
define_bool(const char *name, const char *description, bool *variable, bool initial)
{
	DefineCustomBoolVariable(name, description, NULL, variable, initial, PGC_SUSET, 0, NULL, NULL,
							 NULL);
}

/* A list of identifiers. */
static bool
check_list(char **value, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
	List *names = NIL;
	bool is_list = SplitIdentifierString(pstrdup(*value), ',', &names);

	list_free(names);
	if (!is_list)
		GUC_check_errdetail("List syntax is invalid.");
	return is_list;
}

static const struct config_enum_entry check_failures[] = {
	{"pass", OM_CHECK_PASS, false}, {"retry", OM_CHECK_RETRY, false}, {NULL, 0, false}};

static void
define_check(void)
{
	DefineCustomStringVariable("order_mgmt.check_model",
							   "Model that is asked about each order that is captured.", NULL,
							   &om_setting_check_model, "", PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomRealVariable(
		"order_mgmt.check_threshold", "Score of that model from which on an order is rejected.",
		NULL, &om_setting_check_threshold, 0.5, -DBL_MAX, DBL_MAX, PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("order_mgmt.check_on_failure",
							 "What becomes of orders when that model fails.", NULL,
							 &om_setting_check_on_failure, OM_CHECK_PASS, check_failures, PGC_SUSET,
							 0, NULL, NULL, NULL);
}

/* What predictions are made by, and how long that may take. */
static void
define_predictions(void)
{
	DefineCustomStringVariable(
		"order_mgmt.predict_providers", "Kinds of models whose libraries may be loaded.", NULL,
		&om_setting_predict_providers, "", PGC_SUSET, GUC_LIST_INPUT, check_list, NULL, NULL);
	define_int("order_mgmt.predict_timeout",
			   "Time after which a model has failed to answer; 0 waits for ever.",
			   &om_setting_predict_timeout, 0, 0, INT_MAX / 2, PGC_USERSET, GUC_UNIT_MS);
	define_int("order_mgmt.model_cache_size", "Memory for models that a session keeps loaded.",
			   &om_setting_model_cache_size, 256 * 1024, 0, INT_MAX, PGC_USERSET, GUC_UNIT_KB);
}

void
om_settings_define(void)
{
	define_bool("order_mgmt.workers", "Runs background workers in this database.",
				&om_setting_workers, true);
	define_bool("order_mgmt.auto_ship", "Ships an order as soon as it is confirmed.",
				&om_setting_auto_ship, true);
	define_bool("order_mgmt.resume_after_restore",
				"Lets restored or copied data go on at once, without post_restore().",
				&om_setting_resume_after_restore, false);
	define_int("order_mgmt.hold_timeout",
			   "Cancels an order that stays confirmed for longer than this; 0 never does.",
			   &om_setting_hold_timeout, 0, 0, INT_MAX / 1000, PGC_SUSET, GUC_UNIT_S);
	define_int("order_mgmt.premake_months", "Months for which partitions are made ahead.",
			   &om_setting_premake_months, 3, 1, 120, PGC_SUSET, 0);
	define_int(
		"order_mgmt.idempotency_retention", "Time for which idempotency keys are kept at least.",
		&om_setting_idempotency_retention, 30 * 24 * 60, 1, INT_MAX / 60, PGC_SUSET, GUC_UNIT_MIN);
	define_int("order_mgmt.load_retention",
			   "Time after which loads that have ended are deleted; 0 keeps them.",
			   &om_setting_load_retention, 0, 0, INT_MAX / 60, PGC_SUSET, GUC_UNIT_MIN);
	define_int("order_mgmt.dead_letter_retention",
			   "Time after which dead letters are discarded; 0 keeps them.",
			   &om_setting_dead_letter_retention, 0, 0, INT_MAX / 60, PGC_SUSET, GUC_UNIT_MIN);
	define_int("order_mgmt.workers_per_database",
			   "Number of workers among which the stages of a database are shared out.",
			   &om_setting_workers_per_database, 1, 1, 4, PGC_SIGHUP, 0);
	define_int("order_mgmt.batch_size", "Number of orders that a stage takes at a time.",
			   &om_setting_batch_size, 1000, 1, 100000, PGC_SUSET, 0);
	define_int("order_mgmt.handler_timeout",
			   "Time after which the handler of a subscription is cancelled.",
			   &om_setting_handler_timeout, 30000, 1, INT_MAX / 2, PGC_SUSET, GUC_UNIT_MS);
	DefineCustomStringVariable(
		"order_mgmt.archive_directory", "Directory of the server for the files of archived months.",
		NULL, &om_setting_archive_directory, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	om_clock_define();
	DefineCustomStringVariable("order_mgmt.http_endpoints",
							   "Beginnings of the URLs that models of kind http may call.", NULL,
							   &om_setting_http_endpoints, "", PGC_SUSET, 0, NULL, NULL, NULL);
	define_predictions();
	define_check();
	MarkGUCPrefixReserved("order_mgmt");
}

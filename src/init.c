/*
 * init.c
 *		Loading of the library.
 */
#include "postgres.h"

#include "fmgr.h"

#include "archivepaths.h"
#include "installation.h"
#include "keys.h"
#include "kindbasket.h"
#include "kinddemand.h"
#include "kindsql.h"
#include "launcher.h"
#include "models.h"
#include "pipeline.h"
#include "predictionlog.h"
#include "relations.h"
#include "settings.h"
#include "shared.h"
#include "opened.h"
#include "utility_hook.h"
#include "wakeup.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	om_settings_define();
	om_shared_init();
	om_wakeup_init();
	om_relations_init();
	om_opened_init();
	om_keys_init();
	om_archive_init();
	om_installation_init();
	om_pipeline_init();
	om_models_init();
	om_predictionlog_init();
	om_kindbasket_init();
	om_kindsql_init();
	om_kinddemand_init();
	om_utility_hook_init();
	om_launcher_register();
}

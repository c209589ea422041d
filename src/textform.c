/*
 * textform.c
 *		Settings under which the text of a value gives the value back.
 */
#include "postgres.h"

#include "utils/guc.h"

#include "textform.h"

typedef struct FixedSetting
{
	const char *name;
	const char *value;
} FixedSetting;

static const FixedSetting fixed[] = {
	{"DateStyle", "ISO, YMD"},     {"TimeZone", "UTC"},
	{"IntervalStyle", "postgres"}, {"bytea_output", "hex"},
	{"extra_float_digits", "1"},   {"lc_monetary", "C"},
	{"xmloption", "content"},      {"search_path", "pg_catalog, pg_temp"},
};

int
om_textform_begin(void)
{
	int level = NewGUCNestLevel();

	for (int i = 0; i < (int) lengthof(fixed); i++)
		(void) set_config_option(fixed[i].name, fixed[i].value, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
om_textform_end(int level)
{
	AtEOXact_GUC(true, level);
}

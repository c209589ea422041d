/*
 * settings.h
 *		The configuration parameters of order_mgmt.
 */
#ifndef OM_SETTINGS_H
#define OM_SETTINGS_H

#include "postgres.h"

/* What becomes of orders when the model that checks them fails */
typedef enum OmCheckFailure
{
	OM_CHECK_PASS,
	OM_CHECK_RETRY
} OmCheckFailure;

extern bool om_setting_workers;
extern bool om_setting_auto_ship;
extern bool om_setting_resume_after_restore;
extern int om_setting_hold_timeout; /* seconds, 0 = off */
extern int om_setting_premake_months;
extern int om_setting_idempotency_retention; /* minutes */
extern int om_setting_load_retention;        /* minutes; 0: for ever */
extern int om_setting_dead_letter_retention; /* minutes; 0: for ever */
extern int om_setting_workers_per_database;
extern int om_setting_batch_size;
extern int om_setting_handler_timeout; /* milliseconds */
extern char *om_setting_predict_providers;
extern char *om_setting_check_model;
extern double om_setting_check_threshold;
extern int om_setting_check_on_failure; /* OmCheckFailure */
extern int om_setting_predict_timeout;  /* milliseconds, 0 = none */
extern int om_setting_model_cache_size; /* kilobytes */

extern char *om_setting_archive_directory; /* '' = not set */
/* The library of kind http reads it by its name. */
extern char *om_setting_http_endpoints;

extern void om_settings_define(void);

#endif /* OM_SETTINGS_H */

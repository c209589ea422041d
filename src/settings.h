/*
 * settings.h
 *		The configuration parameters of order_mgmt.
 */
#ifndef OM_SETTINGS_H
#define OM_SETTINGS_H

#include "postgres.h"

extern bool om_setting_workers;
extern bool om_setting_auto_ship;
extern bool om_setting_resume_after_restore;
extern int om_setting_hold_timeout; /* seconds, 0 = off */
extern int om_setting_premake_months;
extern int om_setting_idempotency_retention; /* minutes */
extern int om_setting_workers_per_database;
extern int om_setting_batch_size;
extern int om_setting_handler_timeout; /* milliseconds */
extern char *om_setting_predict_providers;
extern char *om_setting_check_model;
extern double om_setting_check_threshold;
extern int om_setting_predict_timeout;  /* milliseconds, 0 = none */
extern int om_setting_model_cache_size; /* kilobytes */

/* The library of kind http reads it by its name. */
extern char *om_setting_http_endpoints;

extern void om_settings_define(void);

#endif /* OM_SETTINGS_H */

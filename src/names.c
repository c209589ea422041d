/*
 * names.c
 *		The stored words, spelled once.
 */
#include "postgres.h"

#include "names.h"

const char *const om_monthly_names[OM_MONTHLY_COUNT] = {"event_log", "orders", "order_lines"};

const char *const om_status_names[OM_STATUS_COUNT] = {"captured", "confirmed", "shipped",
													  "rejected", "cancelled", "failed"};

const char *const om_event_names[OM_EVENT_COUNT] = {
	"order_captured",  "balance_held",   "balance_refused", "stock_held",      "stock_refused",
	"order_confirmed", "order_rejected", "order_shipped",   "order_cancelled", "order_failed",
	"order_released",  "order_noted",    "balance_changed", "stock_changed",   "order_imported"};

const char *const om_reason_names[OM_REASON_COUNT] = {"insufficient_balance",
													  "insufficient_stock",
													  "unknown_account",
													  "unknown_product",
													  "expired",
													  "high_risk"};

const char *const om_stage_names[OM_STAGE_COUNT] = {"balance_checker", "stock_checker",
													"order_updater", "shipper"};

const char *const om_load_kind_names[OM_LOAD_KIND_COUNT] = {"orders", "accounts", "products",
															"stock"};

const char *const om_load_mode_names[OM_LOAD_MODE_COUNT] = {"capture", "history"};

const char *const om_load_status_names[OM_LOAD_STATUS_COUNT] = {"queued", "reading", "writing",
																"done",   "failed",  "cancelled"};

int
om_names_find(const char *const *names, int count, const char *word, int length)
{
	for (int i = 0; i < count; i++)
	{
		if (strlen(names[i]) == (size_t) length && memcmp(names[i], word, length) == 0)
			return i;
	}
	return -1;
}

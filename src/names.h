/*
 * names.h
 *		The words that are stored: order states, event types, refusal reasons,
 *		those of loads, and the names of the built-in consumers and of the data tables.
 *
 * In the database they are text with a CHECK; in C they are these enums.
 */
#ifndef OM_NAMES_H
#define OM_NAMES_H

#define OM_SCHEMA "order_mgmt"
#define OM_OWNER_ROLE "order_mgmt_owner"

typedef enum OmStatus
{
	OM_STATUS_CAPTURED,
	OM_STATUS_CONFIRMED,
	OM_STATUS_SHIPPED,
	OM_STATUS_REJECTED,
	OM_STATUS_CANCELLED,
	OM_STATUS_FAILED
} OmStatus;

#define OM_STATUS_COUNT 6
#define OM_STATUS_IS_FINAL(status) ((status) >= OM_STATUS_SHIPPED)

typedef enum OmEventType
{
	OM_EVENT_ORDER_CAPTURED,
	OM_EVENT_BALANCE_HELD,
	OM_EVENT_BALANCE_REFUSED,
	OM_EVENT_STOCK_HELD,
	OM_EVENT_STOCK_REFUSED,
	OM_EVENT_ORDER_CONFIRMED,
	OM_EVENT_ORDER_REJECTED,
	OM_EVENT_ORDER_SHIPPED,
	OM_EVENT_ORDER_CANCELLED,
	OM_EVENT_ORDER_FAILED,
	OM_EVENT_ORDER_RELEASED,
	OM_EVENT_ORDER_NOTED,
	OM_EVENT_BALANCE_CHANGED,
	OM_EVENT_STOCK_CHANGED,
	OM_EVENT_ORDER_IMPORTED
} OmEventType;

#define OM_EVENT_COUNT 15
#define OM_EVENT_BIT(type) (1u << (type))
#define OM_EVENTS_ALL ((1u << OM_EVENT_COUNT) - 1)

typedef enum OmReason
{
	OM_REASON_INSUFFICIENT_BALANCE,
	OM_REASON_INSUFFICIENT_STOCK,
	OM_REASON_UNKNOWN_ACCOUNT,
	OM_REASON_UNKNOWN_PRODUCT,
	OM_REASON_EXPIRED,
	OM_REASON_HIGH_RISK
} OmReason;

#define OM_REASON_COUNT 6

/* The built-in consumers, in the order in which an order meets them. */
typedef enum OmStage
{
	OM_STAGE_BALANCE_CHECKER,
	OM_STAGE_STOCK_CHECKER,
	OM_STAGE_ORDER_UPDATER,
	OM_STAGE_SHIPPER
} OmStage;

#define OM_STAGE_COUNT 4
#define OM_STAGE_BIT(stage) (1u << (stage))
#define OM_STAGES_ALL ((1u << OM_STAGE_COUNT) - 1)

/* What a file holds, what becomes of orders from one, and how far a load is. */
typedef enum OmLoadKind
{
	OM_LOAD_ORDERS,
	OM_LOAD_ACCOUNTS,
	OM_LOAD_PRODUCTS,
	OM_LOAD_STOCK
} OmLoadKind;

#define OM_LOAD_KIND_COUNT 4

typedef enum OmLoadMode
{
	OM_LOAD_CAPTURE,
	OM_LOAD_HISTORY
} OmLoadMode;

#define OM_LOAD_MODE_COUNT 2

typedef enum OmLoadStatus
{
	OM_LOAD_QUEUED,
	OM_LOAD_READING,
	OM_LOAD_WRITING,
	OM_LOAD_DONE,
	OM_LOAD_FAILED,
	OM_LOAD_CANCELLED
} OmLoadStatus;

#define OM_LOAD_STATUS_COUNT 6
#define OM_LOAD_HAS_ENDED(status) ((status) >= OM_LOAD_DONE)

/* The tables that have a partition per month, in the order in which captures lock them. */
#define OM_MONTHLY_COUNT 3
extern const char *const om_monthly_names[OM_MONTHLY_COUNT];

extern const char *const om_status_names[OM_STATUS_COUNT];
extern const char *const om_event_names[OM_EVENT_COUNT];
extern const char *const om_reason_names[OM_REASON_COUNT];
extern const char *const om_stage_names[OM_STAGE_COUNT];
extern const char *const om_load_kind_names[OM_LOAD_KIND_COUNT];
extern const char *const om_load_mode_names[OM_LOAD_MODE_COUNT];
extern const char *const om_load_status_names[OM_LOAD_STATUS_COUNT];

/* Position of a word in a list of words, or -1. */
extern int om_names_find(const char *const *names, int count, const char *word, int length);

#endif /* OM_NAMES_H */

/*
 * names.h
 *		The words that are stored: order states, event types, refusal reasons,
 *		and the names of the built-in consumers and of the data tables.
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
	OM_EVENT_STOCK_CHANGED
} OmEventType;

#define OM_EVENT_COUNT 14
#define OM_EVENT_BIT(type) (1u << (type))
#define OM_EVENTS_ALL ((1u << OM_EVENT_COUNT) - 1)

typedef enum OmReason
{
	OM_REASON_INSUFFICIENT_BALANCE,
	OM_REASON_INSUFFICIENT_STOCK,
	OM_REASON_UNKNOWN_ACCOUNT,
	OM_REASON_UNKNOWN_PRODUCT,
	OM_REASON_EXPIRED
} OmReason;

#define OM_REASON_COUNT 5

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

extern const char *const om_status_names[OM_STATUS_COUNT];
extern const char *const om_event_names[OM_EVENT_COUNT];
extern const char *const om_reason_names[OM_REASON_COUNT];
extern const char *const om_stage_names[OM_STAGE_COUNT];

/* Position of a word in a list of words, or -1. */
extern int om_names_find(const char *const *names, int count, const char *word, int length);

#endif /* OM_NAMES_H */

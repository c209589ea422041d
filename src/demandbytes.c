/*
 * demandbytes.c
 *		Forecasts of demand as bytes, the same on every machine.
 *
 * A mark, the history's days, the paths, the spread, and the items by product_id.
 */
#include "postgres.h"

#include "datatype/timestamp.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"

#include "demandbytes.h"
#include "errors.h"

#define MARK 0x4f4d4431 /* OMD1: another layout has another number */

/* --- out -------------------------------------------------------------------------------------------- */

static void
put_floats(StringInfo out, const float *values, int count)
{
	for (int i = 0; i < count; i++)
		pq_sendfloat4(out, values[i]);
}

static void
put_item(StringInfo out, const OmDemandItem *item)
{
	int length = strlen(item->product_id);

	pq_sendint16(out, length);
	pq_sendbytes(out, item->product_id, length);
	put_floats(out, item->level, OM_DEMAND_PATHS);
	put_floats(out, &item->line, 1);
	put_floats(out, item->weekday, OM_DEMAND_WEEK);
}

bytea *
om_demand_to_bytes(const OmDemandModel *model)
{
	StringInfoData out;

	pq_begintypsend(&out);
	pq_sendint32(&out, MARK);
	pq_sendint32(&out, model->begin);
	pq_sendint32(&out, model->end);
	pq_sendfloat8(&out, model->interval);
	pq_sendfloat8(&out, model->wape);
	put_floats(&out, &model->outlook.path[0][0], OM_DEMAND_PATHS * OM_DEMAND_HORIZON);
	put_floats(&out, &model->spread.low[0][0], OM_DEMAND_SPANS * OM_DEMAND_BINS);
	put_floats(&out, &model->spread.high[0][0], OM_DEMAND_SPANS * OM_DEMAND_BINS);
	pq_sendint32(&out, model->nitems);
	for (int i = 0; i < model->nitems; i++)
		put_item(&out, &model->items[i]);
	return pq_endtypsend(&out);
}

/* --- in --------------------------------------------------------------------------------------------- */

static void
get_floats(StringInfo in, float *values, int count)
{
	for (int i = 0; i < count; i++)
		values[i] = pq_getmsgfloat4(in);
}

static void
get_item(StringInfo in, OmDemandItem *item)
{
	int length = pq_getmsgint(in, sizeof(uint16));

	item->product_id = pnstrdup(pq_getmsgbytes(in, length), length);
	get_floats(in, item->level, OM_DEMAND_PATHS);
	get_floats(in, &item->line, 1);
	get_floats(in, item->weekday, OM_DEMAND_WEEK);
}

#define LEAST_ITEM_SIZE (sizeof(uint16) + sizeof(float) * (OM_DEMAND_PATHS + 1 + OM_DEMAND_WEEK))

static void
refuse_bytes(void)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION), errmsg("this is no forecast of demand"),
					errhint("Train the model again.")));
}

OmDemandModel *
om_demand_from_bytes(const char *data, Size size)
{
	OmDemandModel *model = palloc0(sizeof(OmDemandModel));
	StringInfoData in = {.data = unconstify(char *, data), .len = (int) size, .maxlen = -1};

	if (size < sizeof(uint32) || pq_getmsgint(&in, sizeof(uint32)) != MARK)
		refuse_bytes();
	model->begin = (int32) pq_getmsgint(&in, sizeof(int32));
	model->end = (int32) pq_getmsgint(&in, sizeof(int32));
	if (!IS_VALID_DATE(model->begin) || !IS_VALID_DATE(model->end) || model->begin > model->end)
		refuse_bytes();
	model->interval = pq_getmsgfloat8(&in);
	model->wape = pq_getmsgfloat8(&in);
	get_floats(&in, &model->outlook.path[0][0], OM_DEMAND_PATHS * OM_DEMAND_HORIZON);
	get_floats(&in, &model->spread.low[0][0], OM_DEMAND_SPANS * OM_DEMAND_BINS);
	get_floats(&in, &model->spread.high[0][0], OM_DEMAND_SPANS * OM_DEMAND_BINS);
	model->nitems = (int32) pq_getmsgint(&in, sizeof(int32));
	if (model->nitems < 0 || model->nitems > (int) (size / LEAST_ITEM_SIZE))
		refuse_bytes();
	model->items = MemoryContextAllocExtended(CurrentMemoryContext,
											  sizeof(OmDemandItem) * (Size) Max(1, model->nitems),
											  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < model->nitems; i++)
	{
		CHECK_FOR_INTERRUPTS();
		get_item(&in, &model->items[i]);
	}
	return model;
}

/*
 * basketbytes.c
 *		A version of a model of next baskets as it is stored.
 *
 * The parameters that training has chosen, the time up to which orders were
 * settled then (the horizon), and the baskets of all customers.  At the end, in
 * a fixed number of bytes, what says how old all this is: without it two versions
 * of the same orders and parameters are the same bytes.
 */
#include "postgres.h"

#include "basketbytes.h"
#include "basketoptions.h"

/* "OMNB", and the version of what follows. */
#define MAGIC 0x4F4D4E42
#define FORMAT 2

/* No weight that is learnt comes near. */
#define MOST_WEIGHT 1e9

static void
write_double(StringInfo buffer, double value)
{
	uint64 bits;

	memcpy(&bits, &value, sizeof(bits));
	om_baskets_write_number(buffer, bits);
}

static double
read_double(const char **position, const char *end)
{
	uint64 bits = om_baskets_read_number(position, end);
	double value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

static void
write_parameters(StringInfo buffer, const OmBasketParameters *parameters)
{
	om_baskets_write_number(buffer, parameters->algorithm);
	om_baskets_write_number(buffer, parameters->neighbours);
	om_baskets_write_number(buffer, parameters->groups);
	write_double(buffer, parameters->within_decay);
	write_double(buffer, parameters->group_decay);
	write_double(buffer, parameters->alpha);
	om_baskets_write_number(buffer, parameters->recency);
	write_double(buffer, parameters->asymmetry);
	write_double(buffer, parameters->locality);
	for (int i = 0; i < OM_BASKET_FEATURES; i++)
		write_double(buffer, parameters->weights[i]);
}

static void refuse_bytes(void) __attribute__((noreturn));

static void
refuse_bytes(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
					errmsg("these are not the bytes of a model of next baskets"),
					errhint("Train the model again.")));
}

/* What follows computes with these numbers, and finds its places in memory by them. */
static int
read_count(const char **position, const char *end, int least, int most)
{
	uint64 count = om_baskets_read_number(position, end);

	if (count < (uint64) least || count > (uint64) most)
		refuse_bytes();
	return (int) count;
}

static double
read_part(const char **position, const char *end, double least, double most)
{
	double value = read_double(position, end);

	if (!(value >= least && value <= most)) /* NaN is neither */
		refuse_bytes();
	return value;
}

static void
read_parameters(const char **position, const char *end, OmBasketParameters *parameters)
{
	parameters->algorithm = read_count(position, end, 0, OM_BASKET_ALGORITHM_COUNT - 1);
	parameters->neighbours = read_count(position, end, 1, OM_BASKET_MAX_NEIGHBOURS);
	parameters->groups = read_count(position, end, 1, OM_BASKET_MAX_GROUPS);
	parameters->within_decay = read_part(position, end, OM_BASKET_LEAST_DECAY, 1);
	parameters->group_decay = read_part(position, end, OM_BASKET_LEAST_DECAY, 1);
	parameters->alpha = read_part(position, end, 0, 1);
	parameters->recency = read_count(position, end, 1, OM_BASKET_MAX_HISTORY);
	parameters->asymmetry = read_part(position, end, 0, 1);
	parameters->locality = read_part(position, end, 0, OM_BASKET_MAX_LOCALITY);
	for (int i = 0; i < OM_BASKET_FEATURES; i++)
		parameters->weights[i] = read_part(position, end, -MOST_WEIGHT, MOST_WEIGHT);
}

static void
write_period(StringInfo buffer, const OmBasketPeriod *period)
{
	om_baskets_write_number(buffer, period->since);
	om_baskets_write_number(buffer, period->until);
	om_baskets_write_number(buffer, period->least);
	om_baskets_write_number(buffer, period->most);
	om_baskets_write_number(buffer, period->horizon);
}

static void
read_period(const char **position, const char *end, OmBasketPeriod *period)
{
	period->since = om_baskets_read_number(position, end);
	period->until = om_baskets_read_number(position, end);
	period->least = read_count(position, end, 1, OM_BASKET_MAX_HISTORY);
	period->most = read_count(position, end, 1, OM_BASKET_MAX_HISTORY);
	period->horizon = om_baskets_read_number(position, end);
}

static void
write_fixed(StringInfo buffer, int64 value)
{
	for (int i = 0; i < 8; i++)
		appendStringInfoCharMacro(buffer, (char) ((uint64) value >> (8 * i)));
}

static int64
read_fixed(const char **position, const char *end)
{
	uint64 value = 0;

	if (end - *position < 8)
		refuse_bytes();
	for (int i = 0; i < 8; i++)
		value |= (uint64) (uint8) * (*position)++ << (8 * i);
	return (int64) value;
}

bytea *
om_basketbytes_pack(const OmBasketVersion *version)
{
	StringInfoData buffer;

	initStringInfo(&buffer);
	appendStringInfoSpaces(&buffer, VARHDRSZ);
	om_baskets_write_number(&buffer, MAGIC);
	om_baskets_write_number(&buffer, FORMAT);
	write_parameters(&buffer, &version->parameters);
	write_period(&buffer, &version->period);
	om_baskets_write_number(&buffer, version->options);
	om_baskets_write_number(&buffer, version->imported);
	om_baskets_write(version->baskets, &buffer);
	write_fixed(&buffer, version->full_at);
	write_fixed(&buffer, version->full_orders);
	SET_VARSIZE(buffer.data, buffer.len);
	return (bytea *) buffer.data;
}

/* Moves behind what says what bytes these are. */
static bool
skip_header(const char **position, const char *end)
{
	return *position < end && om_baskets_read_number(position, end) == MAGIC && *position < end &&
		   om_baskets_read_number(position, end) == FORMAT;
}

bool
om_basketbytes_are_current(OmModelBytes bytes)
{
	const char *position = bytes.data;

	return bytes.data != NULL && skip_header(&position, bytes.data + bytes.size);
}

OmBasketVersion *
om_basketbytes_unpack(OmModelBytes bytes)
{
	OmBasketVersion *version = palloc0(sizeof(OmBasketVersion));
	const char *position = bytes.data;
	const char *end = bytes.data + bytes.size;

	if (!skip_header(&position, end))
		refuse_bytes();
	read_parameters(&position, end, &version->parameters);
	read_period(&position, end, &version->period);
	version->options = (uint32) om_baskets_read_number(&position, end);
	version->imported = (int64) om_baskets_read_number(&position, end);
	version->baskets = om_baskets_read(&position, end);
	version->full_at = read_fixed(&position, end);
	version->full_orders = read_fixed(&position, end);
	return version;
}

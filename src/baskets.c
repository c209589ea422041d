/*
 * baskets.c
 *		What customers have ordered, order by order, as a model learns from it.
 *
 * Everything lies in the memory context that is current when it is made.
 * Arrays may exceed a gigabyte.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "baskets.h"

typedef struct ProductEntry
{
	const char *id;
	int number;
	char status;
} ProductEntry;

#define SH_PREFIX product
#define SH_ELEMENT_TYPE ProductEntry
#define SH_KEY_TYPE const char *
#define SH_KEY id
#define SH_HASH_KEY(table, key) string_hash((key), strlen(key) + 1)
#define SH_EQUAL(table, a, b) (strcmp((a), (b)) == 0)
#define SH_SCOPE static inline
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

struct OmBasketsBuilder
{
	OmBaskets *baskets;
	int least;
	int most;
	int customers_room;
	int baskets_room;
	int products_room;
	int64 nitems;
	int64 items_room;
	product_hash *products;
	MemoryContext context;
};

static void *
allocate(Size size)
{
	return MemoryContextAllocHuge(CurrentMemoryContext, Max(size, 1));
}

/* Room for one more element, and where a growing array lies now. */
static void *
grow(void *array, int64 count, int64 *room, Size size)
{
	if (count < *room)
		return array;
	*room = Max(*room * 2, 1024);
	return repalloc_huge(array, *room * size);
}

static void *
grow_int(void *array, int count, int *room, Size size)
{
	int64 wide = *room;
	void *grown = grow(array, count, &wide, size);

	*room = wide;
	return grown;
}

OmBasketsBuilder *
om_baskets_begin(int least, int most)
{
	OmBasketsBuilder *builder = palloc0(sizeof(OmBasketsBuilder));
	OmBaskets *baskets = palloc0(sizeof(OmBaskets));

	builder->baskets = baskets;
	builder->least = least;
	builder->most = most;
	builder->context = CurrentMemoryContext;
	builder->products = product_create(CurrentMemoryContext, 1024, NULL);
	baskets->customer_ids = allocate(0);
	baskets->product_ids = allocate(0);
	baskets->first_basket = allocate(0);
	baskets->first_item = allocate(0);
	baskets->items = allocate(0);
	baskets->nsettled = allocate(0);
	return builder;
}

/* The customer's oldest baskets make room: so many are the newest that count. */
static void
drop_oldest(OmBasketsBuilder *builder, int first, int count)
{
	OmBaskets *baskets = builder->baskets;
	int excess = count - builder->most;
	int start = baskets->first_item[first];
	int shift = baskets->first_item[first + excess] - start;

	builder->nitems -= shift;
	memmove(baskets->items + start, baskets->items + start + shift,
			sizeof(int32) * (builder->nitems - start));
	baskets->nbaskets -= excess;
	for (int i = first; i < baskets->nbaskets; i++)
		baskets->first_item[i] = baskets->first_item[i + excess] - shift;
	baskets->nsettled[baskets->ncustomers - 1] =
		Max(baskets->nsettled[baskets->ncustomers - 1] - excess, 0);
}

static void
end_customer(OmBasketsBuilder *builder)
{
	OmBaskets *baskets = builder->baskets;
	int first;
	int count;

	if (baskets->ncustomers == 0)
		return;
	first = baskets->first_basket[baskets->ncustomers - 1];
	count = baskets->nbaskets - first;
	if (count > builder->most)
		drop_oldest(builder, first, count);
	if (count >= builder->least)
		return;
	builder->nitems = count > 0 ? baskets->first_item[first] : builder->nitems;
	baskets->nbaskets = first;
	baskets->ncustomers--;
}

void
om_baskets_begin_customer(OmBasketsBuilder *builder, const char *id, int length)
{
	OmBaskets *baskets = builder->baskets;
	MemoryContext caller = MemoryContextSwitchTo(builder->context);
	int room = builder->customers_room;

	end_customer(builder);
	baskets->customer_ids =
		grow_int(baskets->customer_ids, baskets->ncustomers, &room, sizeof(char *));
	if (room != builder->customers_room)
	{
		baskets->first_basket = repalloc_huge(baskets->first_basket, sizeof(int) * (room + 1));
		baskets->nsettled = repalloc_huge(baskets->nsettled, sizeof(int) * room);
		builder->customers_room = room;
	}
	baskets->customer_ids[baskets->ncustomers] = pnstrdup(id, length);
	baskets->first_basket[baskets->ncustomers] = baskets->nbaskets;
	baskets->nsettled[baskets->ncustomers++] = 0;
	MemoryContextSwitchTo(caller);
}

void
om_baskets_begin_basket(OmBasketsBuilder *builder, bool is_settled)
{
	OmBaskets *baskets = builder->baskets;

	/* One element more than there are baskets: the end. */
	baskets->first_item =
		grow_int(baskets->first_item, baskets->nbaskets + 1, &builder->baskets_room, sizeof(int));
	if (builder->nitems > PG_INT32_MAX - 1)
		ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						errmsg("there are too many order lines to learn from at once"),
						errhint("Set \"since\" or a smaller \"max_history\" among the options.")));
	baskets->first_item[baskets->nbaskets++] = builder->nitems;
	baskets->nsettled[baskets->ncustomers - 1] += is_settled;
}

static int
number_product(OmBasketsBuilder *builder, const char *id, int length)
{
	OmBaskets *baskets = builder->baskets;
	char *key = pnstrdup(id, length);
	bool found;
	ProductEntry *entry = product_insert(builder->products, key, &found);

	if (found)
	{
		pfree(key);
		return entry->number;
	}
	baskets->product_ids =
		grow_int(baskets->product_ids, baskets->nproducts, &builder->products_room, sizeof(char *));
	entry->id = key;
	entry->number = baskets->nproducts;
	baskets->product_ids[baskets->nproducts] = key;
	return baskets->nproducts++;
}

/* A product may come several times. */
void
om_baskets_add_item(OmBasketsBuilder *builder, const char *id, int length)
{
	OmBaskets *baskets = builder->baskets;
	MemoryContext caller = MemoryContextSwitchTo(builder->context);
	int number = number_product(builder, id, length);
	int first = baskets->first_item[baskets->nbaskets - 1];

	MemoryContextSwitchTo(caller);
	/* Lines of an order come by product. */
	if (builder->nitems > first && baskets->items[builder->nitems - 1] == number)
		return;
	baskets->items = grow(baskets->items, builder->nitems, &builder->items_room, sizeof(int32));
	baskets->items[builder->nitems++] = number;
}

/* ---------- finishing ---------- */

static int
compare_ids(const void *a, const void *b, void *ids)
{
	return strcmp(((char **) ids)[*(const int *) a], ((char **) ids)[*(const int *) b]);
}

static int
compare_numbers(const void *a, const void *b)
{
	int32 left = *(const int32 *) a;
	int32 right = *(const int32 *) b;

	return (left > right) - (left < right);
}

/* Numbers products by the order of their ids; those that no basket has any more go. */
static void
renumber_products(OmBasketsBuilder *builder)
{
	OmBaskets *baskets = builder->baskets;
	int *order = allocate(sizeof(int) * baskets->nproducts);
	int *number = palloc_extended(sizeof(int) * Max(baskets->nproducts, 1),
								  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	char **ids = allocate(sizeof(char *) * baskets->nproducts);
	int nused = 0;

	for (int64 i = 0; i < builder->nitems; i++)
		number[baskets->items[i]] = 1;
	for (int i = 0; i < baskets->nproducts; i++)
		if (number[i])
			order[nused++] = i;
	qsort_arg(order, nused, sizeof(int), compare_ids, baskets->product_ids);
	for (int i = 0; i < nused; i++)
	{
		number[order[i]] = i;
		ids[i] = baskets->product_ids[order[i]];
	}
	for (int64 i = 0; i < builder->nitems; i++)
		baskets->items[i] = number[baskets->items[i]];
	baskets->product_ids = ids;
	baskets->nproducts = nused;
	pfree(order);
	pfree(number);
}

OmBaskets *
om_baskets_finish(OmBasketsBuilder *builder)
{
	OmBaskets *baskets = builder->baskets;

	end_customer(builder);
	baskets->first_basket =
		repalloc_huge(baskets->first_basket, sizeof(int) * (baskets->ncustomers + 1));
	baskets->first_basket[baskets->ncustomers] = baskets->nbaskets;
	baskets->first_item = repalloc_huge(baskets->first_item, sizeof(int) * (baskets->nbaskets + 1));
	baskets->first_item[baskets->nbaskets] = builder->nitems;
	renumber_products(builder);
	for (int i = 0; i < baskets->nbaskets; i++)
		qsort(baskets->items + baskets->first_item[i], om_baskets_nitems(baskets, i), sizeof(int32),
			  compare_numbers);
	product_destroy(builder->products);
	pfree(builder);
	return baskets;
}

/* ---------- using them ---------- */

static int
find_id(char **ids, int count, const char *id)
{
	int low = 0;
	int high = count - 1;

	while (low <= high)
	{
		int middle = low + (high - low) / 2;
		int difference = strcmp(ids[middle], id);

		if (difference == 0)
			return middle;
		if (difference < 0)
			low = middle + 1;
		else
			high = middle - 1;
	}
	return -1;
}

int
om_baskets_find_customer(const OmBaskets *baskets, const char *id)
{
	return find_id(baskets->customer_ids, baskets->ncustomers, id);
}

int
om_baskets_find_product(const OmBaskets *baskets, const char *id)
{
	return find_id(baskets->product_ids, baskets->nproducts, id);
}

/* FNV-1a, and its bits mixed. */
uint32
om_baskets_lot(const OmBaskets *baskets, int customer)
{
	uint32 hash = 2166136261u;

	for (const char *c = baskets->customer_ids[customer]; *c != '\0'; c++)
		hash = (hash ^ (uint8) *c) * 16777619u;
	return murmurhash32(hash);
}

OmBasketRun
om_baskets_run(const OmBaskets *baskets, int customer, int count, int room)
{
	OmBasketRun run = {.nbaskets = count};
	int first = customer < 0 ? 0 : baskets->first_basket[customer];

	run.items = palloc(sizeof(int32 *) * Max(count + room, 1));
	run.nitems = palloc(sizeof(int) * Max(count + room, 1));
	for (int i = 0; i < count; i++)
	{
		run.items[i] = baskets->items + baskets->first_item[first + i];
		run.nitems[i] = om_baskets_nitems(baskets, first + i);
	}
	return run;
}

static void
copy_basket(OmBaskets *to, const OmBaskets *from, int basket)
{
	int start = to->first_item[to->nbaskets];
	int count = om_baskets_nitems(from, basket);

	memcpy(to->items + start, from->items + from->first_item[basket], sizeof(int32) * count);
	to->first_item[++to->nbaskets] = start + count;
}

OmBaskets *
om_baskets_without_last(const OmBaskets *baskets)
{
	OmBaskets *shorter = palloc(sizeof(OmBaskets));

	*shorter = *baskets;
	shorter->nbaskets = 0;
	shorter->first_basket = allocate(sizeof(int) * (baskets->ncustomers + 1));
	shorter->first_item = allocate(sizeof(int) * (baskets->nbaskets + 1));
	shorter->items = allocate(sizeof(int32) * baskets->first_item[baskets->nbaskets]);
	shorter->first_item[0] = 0;
	for (int i = 0; i < baskets->ncustomers; i++)
	{
		shorter->first_basket[i] = shorter->nbaskets;
		for (int b = baskets->first_basket[i]; b < baskets->first_basket[i + 1] - 1; b++)
			copy_basket(shorter, baskets, b);
	}
	shorter->first_basket[baskets->ncustomers] = shorter->nbaskets;
	return shorter;
}

/* ---------- as bytes ---------- */

void
om_baskets_write_number(StringInfo buffer, uint64 number)
{
	while (number >= 0x80)
	{
		appendStringInfoCharMacro(buffer, (char) (number | 0x80));
		number >>= 7;
	}
	appendStringInfoCharMacro(buffer, (char) number);
}

static void
refuse_bytes(void)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("the bytes of the model are damaged")));
}

uint64
om_baskets_read_number(const char **position, const char *end)
{
	uint64 number = 0;

	for (int shift = 0; *position < end && shift < 64; shift += 7)
	{
		uint8 byte = (uint8) * (*position)++;

		number |= (uint64) (byte & 0x7F) << shift;
		if (byte < 0x80)
			return number;
	}
	refuse_bytes();
	return 0;
}

/* Nothing that is counted takes less than a byte, so counts cannot exceed what is left. */
static int
read_count(const char **position, const char *end)
{
	uint64 count = om_baskets_read_number(position, end);

	if (count > (uint64) (end - *position) || count > PG_INT32_MAX - 1)
		refuse_bytes();
	return (int) count;
}

static void
write_ids(StringInfo buffer, char **ids, int count)
{
	om_baskets_write_number(buffer, count);
	for (int i = 0; i < count; i++)
	{
		om_baskets_write_number(buffer, strlen(ids[i]));
		appendBinaryStringInfo(buffer, ids[i], strlen(ids[i]));
	}
}

static char **
read_ids(const char **position, const char *end, int *count)
{
	char **ids;

	*count = read_count(position, end);
	ids = allocate(sizeof(char *) * *count);
	for (int i = 0; i < *count; i++)
	{
		int length = read_count(position, end);

		ids[i] = pnstrdup(*position, length);
		*position += length;
	}
	return ids;
}

/* Products of a basket ascend: each is written as the distance from the one before. */
static void
write_basket(const OmBaskets *baskets, int basket, StringInfo buffer)
{
	int32 previous = -1;

	om_baskets_write_number(buffer, om_baskets_nitems(baskets, basket));
	for (int i = baskets->first_item[basket]; i < baskets->first_item[basket + 1]; i++)
	{
		om_baskets_write_number(buffer, baskets->items[i] - previous);
		previous = baskets->items[i];
	}
}

static void
read_basket(OmBaskets *baskets, int basket, int64 room, const char **position, const char *end)
{
	int count = read_count(position, end);
	int64 product = -1;
	int start = baskets->first_item[basket];

	if (count > room - start)
		refuse_bytes();
	for (int i = 0; i < count; i++)
	{
		uint64 distance = om_baskets_read_number(position, end);

		if (distance == 0 || distance >= (uint64) (baskets->nproducts - product))
			refuse_bytes();
		product += distance;
		baskets->items[start + i] = product;
	}
	baskets->first_item[basket + 1] = start + count;
}

void
om_baskets_write(const OmBaskets *baskets, StringInfo buffer)
{
	write_ids(buffer, baskets->product_ids, baskets->nproducts);
	write_ids(buffer, baskets->customer_ids, baskets->ncustomers);
	om_baskets_write_number(buffer, baskets->nbaskets);
	om_baskets_write_number(buffer, baskets->first_item[baskets->nbaskets]);
	for (int i = 0; i < baskets->ncustomers; i++)
	{
		om_baskets_write_number(buffer, om_baskets_of(baskets, i));
		om_baskets_write_number(buffer, baskets->nsettled[i]);
		for (int b = baskets->first_basket[i]; b < baskets->first_basket[i + 1]; b++)
			write_basket(baskets, b, buffer);
	}
}

static void
read_customer(OmBaskets *baskets, int customer, int nbaskets, int64 nitems, const char **position,
			  const char *end)
{
	int first = baskets->first_basket[customer];
	int count = read_count(position, end);
	uint64 nsettled = om_baskets_read_number(position, end);

	if (count > nbaskets - first || nsettled > (uint64) count)
		refuse_bytes();
	baskets->nsettled[customer] = nsettled;
	for (int i = 0; i < count; i++)
		read_basket(baskets, first + i, nitems, position, end);
	baskets->first_basket[customer + 1] = first + count;
}

OmBaskets *
om_baskets_read(const char **position, const char *end)
{
	OmBaskets *baskets = palloc0(sizeof(OmBaskets));
	int nitems;

	baskets->product_ids = read_ids(position, end, &baskets->nproducts);
	baskets->customer_ids = read_ids(position, end, &baskets->ncustomers);
	baskets->nbaskets = read_count(position, end);
	nitems = read_count(position, end);
	baskets->first_basket = allocate(sizeof(int) * (baskets->ncustomers + 1));
	baskets->nsettled = allocate(sizeof(int) * baskets->ncustomers);
	baskets->first_item = allocate(sizeof(int) * (baskets->nbaskets + 1));
	baskets->items = allocate(sizeof(int32) * nitems);
	baskets->first_basket[0] = 0;
	baskets->first_item[0] = 0;
	for (int i = 0; i < baskets->ncustomers; i++)
	{
		CHECK_FOR_INTERRUPTS();
		read_customer(baskets, i, baskets->nbaskets, nitems, position, end);
	}
	if (baskets->first_basket[baskets->ncustomers] != baskets->nbaskets ||
		baskets->first_item[baskets->nbaskets] != nitems)
		refuse_bytes();
	return baskets;
}

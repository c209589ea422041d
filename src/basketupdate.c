/*
 * basketupdate.c
 *		Goes on from a version of a model of next baskets by what has been ordered since.
 *
 * What a version knows from before its horizon is taken over, what came since is
 * read from the tables.  That is what reading everything would give, unless
 * orders from before the horizon have come or changed; where that can be seen,
 * everything is read.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/timestamp.h"

#include "basketupdate.h"

/* Weights are learnt anew when so much has been added to what they were learnt from. */
#define MOST_GROWTH 1.25

const char *
om_basketupdate_obstacle(const OmBasketVersion *previous, const OmBasketPlan *plan)
{
	int64 oldest =
		GetCurrentTransactionStartTimestamp() - plan->options->update_days * USECS_PER_DAY;

	if (previous->options != plan->options_hash)
		return "options";
	if (plan->period.least > 1)
		return "min_orders";
	if (previous->imported != plan->imported)
		return "history";
	if (plan->period.horizon < previous->period.horizon)
		return "horizon";
	if (previous->full_at <= oldest)
		return "age";
	if (previous->baskets->nbaskets > previous->full_orders * MOST_GROWTH)
		return "growth";
	return NULL;
}

/* ---------- merging ---------- */

typedef struct Merging
{
	const OmBasketVersion *previous;
	const OmBasketPeriod *period;
	const OmBaskets *new_orders; /* none of them is from before the horizon of the version */
	OmBasketsBuilder *builder;
	int64 nread;
} Merging;

static void
copy_basket(Merging *merging, const OmBaskets *from, int basket, bool is_settled)
{
	om_baskets_begin_basket(merging->builder, is_settled);
	for (int i = from->first_item[basket]; i < from->first_item[basket + 1]; i++)
	{
		const char *id = from->product_ids[from->items[i]];

		om_baskets_add_item(merging->builder, id, strlen(id));
	}
}

/* The first so many of a customer. */
static void
copy_baskets(Merging *merging, const OmBaskets *from, int customer, int count)
{
	int first = from->first_basket[customer];

	for (int i = 0; i < count; i++)
		copy_basket(merging, from, first + i, i < from->nsettled[customer]);
}

/* Older ones made room for some that have gone since. */
static bool
has_lost(const Merging *merging, int old, int new)
{
	const OmBaskets *baskets = merging->previous->baskets;
	int count = baskets->nsettled[old];

	if (om_baskets_of(baskets, old) < merging->period->most)
		return false;
	if (new >= 0)
		count += om_baskets_of(merging->new_orders, new);
	return count < merging->period->most;
}

static void
read_again(Merging *merging, const char *customer_id)
{
	OmBaskets *own = om_baskethistory_read_customer(merging->period, customer_id);
	int customer = om_baskets_find_customer(own, customer_id);

	if (customer < 0)
		return;
	merging->nread += om_baskets_of(own, customer);
	copy_baskets(merging, own, customer, om_baskets_of(own, customer));
}

/* -1: there is none. */
static void
merge_customer(Merging *merging, const char *customer_id, int old, int new)
{
	const OmBaskets *baskets = merging->previous->baskets;

	om_baskets_begin_customer(merging->builder, customer_id, strlen(customer_id));
	if (old >= 0 && has_lost(merging, old, new))
	{
		read_again(merging, customer_id);
		return;
	}
	if (old >= 0)
		copy_baskets(merging, baskets, old, baskets->nsettled[old]);
	if (new >= 0)
		copy_baskets(merging, merging->new_orders, new, om_baskets_of(merging->new_orders, new));
}

/* Both are in the order of the ids. */
static void
merge(Merging *merging)
{
	const OmBaskets *baskets = merging->previous->baskets;
	const OmBaskets *new_orders = merging->new_orders;
	int old = 0;
	int new = 0;

	while (old < baskets->ncustomers || new < new_orders->ncustomers)
	{
		int difference = old == baskets->ncustomers ? 1
					   : new == new_orders->ncustomers
						   ? -1
						   : strcmp(baskets->customer_ids[old], new_orders->customer_ids[new]);

		CHECK_FOR_INTERRUPTS();
		merge_customer(merging,
					   difference <= 0 ? baskets->customer_ids[old] : new_orders->customer_ids[new],
					   difference <= 0 ? old : -1, difference >= 0 ? new : -1);
		old += difference <= 0;
		new += difference >= 0;
	}
}

OmBaskets *
om_basketupdate_read(const OmBasketVersion *previous, const OmBasketPeriod *period, int64 *nread)
{
	OmBasketPeriod since = *period;
	Merging merging = {.previous = previous, .period = period};

	since.since = Max(period->since, previous->period.horizon);
	since.least = 0;
	merging.new_orders = om_baskethistory_read(&since);
	merging.nread = merging.new_orders->nbaskets;
	merging.builder = om_baskets_begin(period->least, period->most);
	merge(&merging);
	*nread = merging.nread;
	return om_baskets_finish(merging.builder);
}

/*
 * basketlearning.c
 *		Learns the weights of the blend.
 *
 * A customer's list are the products that might come next; those that came in the
 * basket that was held back are to get the largest part of a softmax over the
 * list.  That loss is convex, and Newton's method goes down to its least value,
 * wherever it begins.  What holds the weights back near the first ones counts like
 * so many customers more.  How many those are, how many neighbours are asked, and
 * which groups of features do harm is chosen by customers of whom nothing was learnt.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"

#include "basketexamples.h"
#include "basketlearning.h"

#define N OM_BASKET_FEATURES

#define MAX_STEPS 20
#define LEAST_GAIN 1e-2 /* of a step, in the loss of all customers together */
#define LEAST_STEP 1e-3

/* Of information that the first weights have about a feature, in that of one customer. */
#define LEAST_PRECISION 1e-6

/* Rows with a smaller part of the softmax bend the loss too little to matter. */
#define LEAST_PART 1e-5

/* Strengths to choose from, and the one without a choice. */
static const double strengths[] = {100, 10, 1, 0.1};
#define USUAL_STRENGTH 10

/* Customers by whom it is chosen how many neighbours are asked. */
#define TRIAL_LISTS 1000

/* Fewer customers than this choose nothing. */
#define LEAST_CHOOSING 30

/* A group is left out where customers are predicted better without it by so many standard errors. */
#define SURE 2

#define PART(name) (1 << OM_BASKET_FOR_##name)

/* The loss of some customers, and its derivatives by the weights. */
typedef struct Slope
{
	double loss;
	double gradient[N];
	double hessian[N][N]; /* below the diagonal, and on it */
} Slope;

typedef struct Learning
{
	const OmBasketExamples *examples;
	double *parts; /* room for a list */
	int nchoosing;
	double *losses; /* of those who choose */
	double first[N];
	double precision[N]; /* of the first weights, for a strength of 1 */
	double strength;
	uint32 left_out;
	double weights[N];
	Slope slope; /* of the weights, with what holds them back */
} Learning;

static bool
is_used(const Learning *learning, int feature)
{
	return (om_basketfeatures_groups(feature) & learning->left_out) == 0;
}

/* ---------- the loss ---------- */

static double
score_row(const double *weights, const OmBasketRow *row, const float *features)
{
	double score = row->offset;

	weights += om_basket_row_first(row);
	for (int i = 0; i < om_basket_row_width(row); i++)
		score += weights[i] * features[i];
	return score;
}

/* Fills the parts of the softmax; returns the loss. */
static double
share_out(const OmBasketList *list, const OmBasketRow *rows, const float *features,
		  const double *weights, double *parts)
{
	double highest = -DBL_MAX;
	double hits = 0;
	double sum = 0;

	for (int i = 0; i < list->nrows; features += om_basket_row_width(&rows[i++]))
	{
		parts[i] = score_row(weights, &rows[i], features);
		highest = Max(highest, parts[i]);
		if (rows[i].is_hit)
			hits += parts[i];
	}
	for (int i = 0; i < list->nrows; i++)
		sum += parts[i] = exp(parts[i] - highest);
	for (int i = 0; i < list->nrows; i++)
		parts[i] /= sum;
	return highest + log(sum) - hits / list->nhits;
}

static inline void
bend(Slope *slope, double *mean, int first, int width, const float *features, double part)
{
	for (int i = 0; i < width; i++)
	{
		double weighted = part * features[i];
		double *line = slope->hessian[first + i] + first;

		mean[first + i] += weighted;
		for (int j = 0; j <= i; j++)
			line[j] += weighted * features[j];
	}
}

static void
add_list(Slope *slope, const OmBasketList *list, const OmBasketRow *rows, const float *features,
		 const double *parts)
{
	double mean[N] = {0}; /* of the rows that bend */
	double sum = 0;

	for (int i = 0; i < list->nrows; features += om_basket_row_width(&rows[i++]))
	{
		double error = parts[i] - (rows[i].is_hit ? 1.0 / list->nhits : 0);
		double *gradient = slope->gradient + om_basket_row_first(&rows[i]);

		for (int j = 0; j < om_basket_row_width(&rows[i]); j++)
			gradient[j] += error * features[j];
		if (parts[i] < LEAST_PART)
			continue;
		sum += parts[i];
		if (rows[i].is_owned)
			bend(slope, mean, 0, OM_BASKET_OWNED_FEATURES, features, parts[i]);
		else
			bend(slope, mean, OM_BASKET_OWNED_FEATURES, OM_BASKET_OTHER_FEATURES, features,
				 parts[i]);
	}
	for (int i = 0; i < N; i++)
		for (int j = 0; j <= i; j++)
			slope->hessian[i][j] -= mean[i] * mean[j] / sum;
}

/* Of customers of some parts (bits). */
static void
measure(const Learning *learning, const double *weights, int of_parts, Slope *slope)
{
	const OmBasketExamples *examples = learning->examples;

	memset(slope, 0, sizeof(Slope));
	for (int i = 0; i < examples->nlists; i++)
	{
		const OmBasketList *list = &examples->lists[i];
		const OmBasketRow *rows = examples->rows + list->first_row;
		const float *features = examples->features + list->first_feature;

		if ((of_parts & (1 << list->part)) == 0)
			continue;
		CHECK_FOR_INTERRUPTS();
		slope->loss += share_out(list, rows, features, weights, learning->parts);
		add_list(slope, list, rows, features, learning->parts);
	}
}

static void
measure_held_back(const Learning *learning, const double *weights, int of_parts, Slope *slope)
{
	measure(learning, weights, of_parts, slope);
	for (int i = 0; i < N; i++)
	{
		double precision = learning->strength * learning->precision[i];
		double distance = weights[i] - learning->first[i];

		if (!is_used(learning, i))
			continue;
		slope->loss += precision * distance * distance / 2;
		slope->gradient[i] += precision * distance;
		slope->hessian[i][i] += precision;
	}
}

/* ---------- the loss of those who choose ---------- */

/* Of each customer by whom is chosen. */
static void
measure_choosing(const Learning *learning, const double *weights, double *losses)
{
	const OmBasketExamples *examples = learning->examples;
	int count = 0;

	for (int i = 0; i < examples->nlists; i++)
	{
		const OmBasketList *list = &examples->lists[i];

		CHECK_FOR_INTERRUPTS();
		if (list->part == OM_BASKET_FOR_CHOOSING)
			losses[count++] =
				share_out(list, examples->rows + list->first_row,
						  examples->features + list->first_feature, weights, learning->parts);
	}
}

static double
mean_of(const double *losses, int count)
{
	double sum = 0;

	for (int i = 0; i < count; i++)
		sum += losses[i];
	return sum / count;
}

/* By how many standard errors the first losses are larger than the second, customer by customer. */
static double
compare(const double *losses, const double *others, int count)
{
	double mean = mean_of(losses, count) - mean_of(others, count);
	double squares = 0;

	for (int i = 0; i < count; i++)
		squares += pow(losses[i] - others[i] - mean, 2);
	return mean / sqrt(Max(squares / (count - 1) / count, 1e-30));
}

/* ---------- the least loss ---------- */

/* Solves hessian * result = right for the features in use, by Cholesky's method. */
static void
solve(const Learning *learning, const double *right, double *result)
{
	double lower[N][N];
	double between[N];
	int feature[N];
	int count = 0;

	for (int i = 0; i < N; i++)
		if (is_used(learning, i))
			feature[count++] = i;
	for (int i = 0; i < count; i++)
	{
		between[i] = right[feature[i]];
		for (int j = 0; j <= i; j++)
		{
			double sum = learning->slope.hessian[feature[i]][feature[j]];

			for (int k = 0; k < j; k++)
				sum -= lower[i][k] * lower[j][k];
			lower[i][j] = i == j ? sqrt(Max(sum, 1e-12)) : sum / lower[j][j];
		}
		for (int k = 0; k < i; k++)
			between[i] -= lower[i][k] * between[k];
		between[i] /= lower[i][i];
	}
	memset(result, 0, sizeof(double) * N);
	for (int i = count - 1; i >= 0; i--)
	{
		for (int k = i + 1; k < count; k++)
			between[i] -= lower[k][i] * between[k];
		between[i] /= lower[i][i];
		result[feature[i]] = between[i];
	}
}

/* As far into a direction as the loss grows less; false: it does not. */
static bool
step(Learning *learning, const double *direction, int of_parts, Slope *next)
{
	double weights[N];

	for (double size = 1; size >= LEAST_STEP; size /= 2)
	{
		for (int i = 0; i < N; i++)
			weights[i] = learning->weights[i] - size * direction[i];
		measure_held_back(learning, weights, of_parts, next);
		if (!(next->loss < learning->slope.loss))
			continue;
		memcpy(learning->weights, weights, sizeof(weights));
		learning->slope = *next;
		return true;
	}
	return false;
}

/* From the weights as they are on. */
static void
descend(Learning *learning, int of_parts)
{
	Slope *next = palloc(sizeof(Slope));

	for (int i = 0; i < N; i++)
		if (!is_used(learning, i))
			learning->weights[i] = 0;
	measure_held_back(learning, learning->weights, of_parts, &learning->slope);
	for (int i = 0; i < MAX_STEPS; i++)
	{
		double direction[N];
		double gain = 0;

		solve(learning, learning->slope.gradient, direction);
		for (int j = 0; j < N; j++)
			gain += direction[j] * learning->slope.gradient[j];
		if (!(gain > LEAST_GAIN) || !step(learning, direction, of_parts, next))
			break;
	}
	pfree(next);
}

/* ---------- choices ---------- */

static void
choose_strength(Learning *learning)
{
	double best[N];
	double strength = USUAL_STRENGTH;
	double least = INFINITY;

	for (int i = 0; i < (int) lengthof(strengths); i++)
	{
		learning->strength = strengths[i];
		descend(learning, PART(LEARNING));
		measure_choosing(learning, learning->weights, learning->losses);
		if (!(mean_of(learning->losses, learning->nchoosing) < least))
			continue;
		least = mean_of(learning->losses, learning->nchoosing);
		strength = strengths[i];
		memcpy(best, learning->weights, sizeof(best));
	}
	if (learning->strength == strength)
		return;
	learning->strength = strength;
	memcpy(learning->weights, best, sizeof(best));
	descend(learning, PART(LEARNING)); /* for its derivatives */
}

/*
 * The weights without some groups, by how the loss bends where it is least: the
 * others take over what they can of what these have said.
 */
static void
leave_out(const Learning *learning, uint32 groups, double *weights)
{
	Learning *without = palloc(sizeof(Learning));
	double pull[N] = {0};
	double change[N];

	*without = *learning;
	without->left_out |= groups;
	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++)
			if (is_used(learning, j) && !is_used(without, j))
				pull[i] += learning->slope.hessian[Max(i, j)][Min(i, j)] * learning->weights[j];
	solve(without, pull, change);
	for (int i = 0; i < N; i++)
		weights[i] = is_used(without, i) ? learning->weights[i] + change[i] : 0;
	pfree(without);
}

/* The group without which customers are most surely predicted better; 0: there is none. */
static uint32
find_harmful(const Learning *learning)
{
	double *losses = palloc(sizeof(double) * learning->nchoosing);
	double least = -SURE;
	uint32 found = 0;

	for (int i = 0; i < OM_BASKET_FEATURE_GROUPS; i++)
	{
		double weights[N];
		double difference;

		if ((learning->left_out & (1u << i)) != 0)
			continue;
		leave_out(learning, 1u << i, weights);
		measure_choosing(learning, weights, losses);
		difference = compare(losses, learning->losses, learning->nchoosing);
		if (difference < least)
		{
			least = difference;
			found = 1u << i;
		}
	}
	pfree(losses);
	return found;
}

/* The losses are those of the weights as they are. */
static void
choose_groups(Learning *learning)
{
	for (;;)
	{
		uint32 group;

		measure_choosing(learning, learning->weights, learning->losses);
		group = find_harmful(learning);
		if (group == 0)
			break;
		learning->left_out |= group;
		descend(learning, PART(LEARNING));
	}
}

/* ---------- learning ---------- */

static int
count_lists(const OmBasketExamples *examples, int of_parts)
{
	int count = 0;

	for (int i = 0; i < examples->nlists; i++)
		count += (of_parts & (1 << examples->lists[i].part)) != 0;
	return count;
}

/* What is known of each feature before anything is learnt: as much as a customer tells. */
static void
begin(Learning *learning, const OmBasketExamples *examples, uint32 left_out)
{
	int longest = 1;

	learning->examples = examples;
	for (int i = 0; i < examples->nlists; i++)
		longest = Max(longest, examples->lists[i].nrows);
	learning->parts = palloc(sizeof(double) * longest);
	learning->nchoosing = count_lists(examples, PART(CHOOSING));
	learning->losses = palloc(sizeof(double) * Max(learning->nchoosing, 1));
	learning->strength = USUAL_STRENGTH;
	learning->left_out = left_out;
	om_basketfeatures_fill_first(learning->first);
	memcpy(learning->weights, learning->first, sizeof(learning->weights));
	measure(learning, learning->first, PART(LEARNING) | PART(CHOOSING), &learning->slope);
	for (int i = 0; i < N; i++)
		learning->precision[i] =
			Max(learning->slope.hessian[i][i] / Max(examples->nlists, 1), LEAST_PRECISION);
}

static OmBasketLearnt
learn(Learning *learning, const OmBasketExamples *examples, uint32 left_out)
{
	int all = PART(LEARNING) | PART(CHOOSING);
	OmBasketLearnt learnt = {.learnt_from = count_lists(examples, all), .loss = NAN};

	begin(learning, examples, left_out);
	if (learning->nchoosing >= LEAST_CHOOSING)
	{
		choose_strength(learning);
		choose_groups(learning);
		learnt.chosen_by = learning->nchoosing;
		learnt.loss = mean_of(learning->losses, learning->nchoosing);
	}
	descend(learning, all);
	learnt.strength = learning->strength;
	learnt.left_out = learning->left_out;
	return learnt;
}

/* How those who choose are predicted with so many neighbours; infinite where they are too few. */
static double
try_neighbours(OmBasketModel *model, const OmBaskets *whole, uint32 left_out, int neighbours)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "neighbours", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Learning *learning = palloc0(sizeof(Learning));
	double loss = INFINITY;

	model->parameters.neighbours = neighbours;
	begin(learning, om_basketexamples_collect(model, whole, TRIAL_LISTS), left_out);
	if (learning->nchoosing >= LEAST_CHOOSING)
	{
		descend(learning, PART(LEARNING));
		measure_choosing(learning, learning->weights, learning->losses);
		loss = mean_of(learning->losses, learning->nchoosing);
	}
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return loss;
}

/* As many as wanted, a third, or a tenth. */
static void
choose_neighbours(OmBasketModel *model, const OmBaskets *whole, uint32 left_out)
{
	static const int parts[] = {1, 3, 10};
	int wanted = model->parameters.neighbours;
	int chosen = wanted;
	double least = INFINITY;

	for (int i = 0; i < (int) lengthof(parts); i++)
	{
		int neighbours = Max(wanted / parts[i], 1);
		double loss = try_neighbours(model, whole, left_out, neighbours);

		if (!(loss < least))
			continue;
		least = loss;
		chosen = neighbours;
	}
	model->parameters.neighbours = chosen;
}

OmBasketLearnt
om_basketlearning_learn(OmBasketModel *model, const OmBaskets *whole, uint32 left_out)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt learning", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Learning *learning = palloc0(sizeof(Learning));
	OmBasketLearnt learnt;

	choose_neighbours(model, whole, left_out);
	learnt =
		learn(learning, om_basketexamples_collect(model, whole, OM_BASKET_MAX_LISTS), left_out);
	memcpy(model->parameters.weights, learning->weights, sizeof(model->parameters.weights));
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return learnt;
}

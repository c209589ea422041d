/*
 * census.c
 *		Counts events without reading all of them.
 *
 * Every cursor row says how many events of each type lie behind it: a reader
 * passes all rows of its windows, so to count them costs nothing.  The events
 * that a snapshot shows are therefore those behind any position that it shows,
 * and those before it.  Of all positions the one that has the most behind it is
 * taken, which leaves the least to be read; consumers at work store theirs at
 * least every STORE_AFTER_ROWS rows (reader.c).  What a consumer has before it
 * is the difference to what lies behind its own.
 *
 * Where no consumer has been at work, more may be left than anybody wants to
 * read.  Then the rest is estimated from samples: event ids step from row to
 * row, so two of them tell how many rows lie between.  What these rows are is
 * taken to change evenly from one sample to the next; more samples are taken
 * where many rows lie between, and where neighbours differ.
 *
 * The snapshot must be the active one.  Nothing is locked beyond the reads.
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "census.h"
#include "clock.h"
#include "plans.h"
#include "reader.h"
#include "relations.h"
#include "tables.h"

/* Columns of table consumers */
#define CONSUMER_NAME 1

/* What is looked at to find the first event of a consumer. */
#define FIRST_MAX_ROWS 2000

/* An estimate takes so many samples of so many rows, the first ones at even distances. */
#define SAMPLES 120
#define EVEN_SAMPLES 60
#define SAMPLE_ROWS 8

static const OmLogPosition beginning = {0, 0};

static int64
sum_events(const OmLogCounts *counts, uint32 types)
{
	int64 sum = 0;

	for (int type = 0; type < OM_EVENT_COUNT; type++)
	{
		if (types & OM_EVENT_BIT(type))
			sum += counts->events[type];
	}
	return sum;
}

/* ---------- what lies past a position ---------- */

typedef struct Tail
{
	const OmCursor *cursor;
	OmHorizon *now;
	uint32 types;
	int max_events;
	int64 max_rows;
	OmLogRows *rows; /* of these types */
	OmLogCounts passed;
} Tail;

/* False when enough has been read. */
static bool
read_window(Tail *tail, const OmHorizon *from, const OmHorizon *to, OmLogPosition after)
{
	OmLogRows *rows = tail->rows;
	int64 room = tail->max_rows == 0 ? 0 : tail->max_rows - tail->passed.rows;

	if (tail->max_rows > 0 && room <= 0)
		return false;
	om_log_look(rows, &(OmLogWindow){from, to, after}, tail->types, tail->max_events, room);
	for (int type = 0; type < OM_EVENT_COUNT; type++)
		tail->passed.events[type] += rows->passed.events[type];
	tail->passed.rows += rows->passed.rows;
	return rows->exhausted && (tail->max_events == 0 || rows->nevents < tail->max_events);
}

/* What lies past a cursor; true when it has been read to the end. */
static bool
read_tail(Tail *tail)
{
	const OmCursor *cursor = tail->cursor;

	tail->rows = om_log_rows_create();
	tail->now = om_reader_now(GetActiveSnapshot());
	if (cursor->target != NULL &&
		!read_window(tail, cursor->base, cursor->target, cursor->position))
		return false;
	return read_window(tail, om_cursor_after_window(cursor), tail->now, beginning);
}

/* ---------- how many there are ---------- */

typedef struct Search
{
	Snapshot snapshot;
	OmCursor *furthest;
} Search;

static void
compare_cursor(OmTable *table, HeapTuple row, void *arg)
{
	Search *search = arg;
	char *name = TextDatumGetCString(om_row_get_not_null(table, row, CONSUMER_NAME));
	OmCursor *cursor = om_cursor_find(name, search->snapshot);

	if (cursor == NULL)
		return;
	if (search->furthest == NULL || sum_events(&cursor->passed, OM_EVENTS_ALL) >
										sum_events(&search->furthest->passed, OM_EVENTS_ALL))
		search->furthest = cursor;
}

static OmCursor *
find_furthest(Snapshot snapshot)
{
	Search search = {snapshot, NULL};
	OmTable *table = om_table_open(om_relation_get("consumers"), AccessShareLock);

	om_table_scan(table, NULL, 0, snapshot, compare_cursor, &search);
	om_table_close(table);
	if (search.furthest == NULL)
		elog(ERROR, "no consumer has a position in the log");
	return search.furthest;
}

static OmQuery newest_query = {.sql = "SELECT last_value FROM order_mgmt.event_ids"};

static int64
newest_event_id(void)
{
	OmQueryScope scope;
	int64 newest;
	bool isnull;

	om_query_begin(&scope);
	om_query_read(&newest_query, NULL, NULL);
	newest = DatumGetInt64(om_result_get(0, 1, &isnull));
	om_query_end(&scope);
	return newest;
}

typedef struct Sample
{
	int64 lxid;                    /* it begins with this transaction */
	int64 event_id;                /* of its last row */
	double events[OM_EVENT_COUNT]; /* per row */
	double sum;
} Sample;

/* The samples, by transaction. */
typedef struct Survey
{
	OmLogWindow window;
	int64 newest; /* event id */
	int count;
	Sample samples[SAMPLES];
} Survey;

static void
fill_sample(Sample *sample, const OmLogCounts *counts)
{
	sample->sum = 0;
	for (int type = 0; type < OM_EVENT_COUNT; type++)
	{
		sample->events[type] = (double) counts->events[type] / (double) Max(counts->rows, 1);
		sample->sum += sample->events[type];
	}
}

/* Samples the rows past a position, and puts that behind sample i. */
static void
add_sample(Survey *survey, int i, OmLogPosition after)
{
	Sample *sample = &survey->samples[i + 1];
	OmLogRows *rows = om_log_rows_create();

	memmove(sample + 1, sample, sizeof(Sample) * (survey->count - i - 1));
	survey->count++;
	*sample = survey->samples[i];
	sample->lxid = after.lxid;
	survey->window.after = after;
	om_log_look(rows, &survey->window, 0, 0, SAMPLE_ROWS);
	sample->event_id = survey->newest;
	if (rows->passed.rows == 0)
		return; /* there is nothing behind it: as before */
	sample->event_id = Min(rows->reached.event_id, survey->newest);
	fill_sample(sample, &rows->passed);
}

static double
rows_behind(const Survey *survey, int i)
{
	int64 next = i + 1 < survey->count ? survey->samples[i + 1].event_id : survey->newest;

	return (double) Max(next - survey->samples[i].event_id, 0) / OM_EVENT_ID_STEP;
}

/*
 * The gap between two samples in which there is the most to be wrong about:
 * first that with the most rows, then where these may be the most different; -1:
 * there is none.
 */
static int
find_doubtful(const Survey *survey)
{
	int found = -1;
	double most = 0;

	for (int i = 0; i + 1 < survey->count; i++)
	{
		const Sample *sample = &survey->samples[i];
		double doubt = rows_behind(survey, i);

		if (survey->count >= EVEN_SAMPLES)
			doubt *= fabs(sample[1].sum - sample->sum);
		if (sample[1].lxid - sample->lxid > 1 && doubt > most)
		{
			most = doubt;
			found = i;
		}
	}
	return found;
}

static OmLogPosition
between(const Sample *left, const Sample *right)
{
	return (OmLogPosition){(left->lxid + right->lxid) / 2, 0};
}

/* One of the last transactions that have written to the log. */
static int64
find_last(Survey *survey, int64 first)
{
	int64 lxid = first;

	for (int back = 1; back <= SAMPLE_ROWS; back *= 2)
	{
		OmLogRows *rows = om_log_rows_create();

		lxid = Max(survey->window.to->xmax - back, first);
		survey->window.after = (OmLogPosition){lxid, 0};
		om_log_look(rows, &survey->window, 0, 0, 1 /* max_rows */);
		if (rows->passed.rows > 0)
			break;
	}
	return lxid;
}

static void
take_samples(Survey *survey)
{
	int64 last = find_last(survey, survey->samples[0].lxid);
	int gap = 0;

	if (last > survey->samples[0].lxid)
		add_sample(survey, survey->count - 1, (OmLogPosition){last, 0});
	while (survey->count < SAMPLES && (gap = find_doubtful(survey)) >= 0)
		add_sample(survey, gap, between(&survey->samples[gap], &survey->samples[gap + 1]));
}

/* Adds what lies behind the rows that have been read. */
static void
extrapolate(Tail *tail)
{
	const OmLogPosition *reached = &tail->rows->reached;
	Survey survey = {.window = {.from = tail->cursor->base, .to = tail->now},
					 .newest = newest_event_id(),
					 .count = 1};

	survey.samples[0] = (Sample){.lxid = reached->lxid, .event_id = reached->event_id};
	add_sample(&survey, 0, *reached);
	memcpy(survey.samples[0].events, survey.samples[1].events, sizeof(survey.samples[0].events));
	take_samples(&survey);
	for (int i = 0; i < survey.count; i++)
	{
		const Sample *left = &survey.samples[i];
		const Sample *right = &survey.samples[Min(i + 1, survey.count - 1)];

		for (int type = 0; type < OM_EVENT_COUNT; type++)
			tail->passed.events[type] += (int64) rint(
				rows_behind(&survey, i) * (left->events[type] + right->events[type]) / 2);
	}
}

OmCensus
om_census_take(Snapshot snapshot, int64 max_rows)
{
	OmCensus census = {.is_exact = true};
	Tail tail = {.cursor = find_furthest(snapshot), .max_rows = max_rows};

	if (!read_tail(&tail))
	{
		census.is_exact = false;
		extrapolate(&tail);
	}
	census.counts = tail.cursor->passed;
	for (int type = 0; type < OM_EVENT_COUNT; type++)
		census.counts.events[type] += tail.passed.events[type];
	return census;
}

int64
om_census_unread(const OmCensus *census, const OmCursor *cursor, uint32 types)
{
	return Max(sum_events(&census->counts, types) - sum_events(&cursor->passed, types), 0);
}

/* ---------- which is the first ---------- */

/*
 * The events past a position that were written before the consumer's start, and
 * the time of the first one after them.  Of those that begin at some time in
 * the past there are few: the position was chosen by that time.
 */
static TimestampTz
skip_to_start(Tail *tail, TimestampTz start_at, int64 *skipped)
{
	tail->max_events = 0;
	tail->passed = (OmLogCounts){0};
	(void) read_tail(tail);
	for (int i = 0; i < tail->rows->count; i++)
	{
		const OmLogRow *row = &tail->rows->rows[i];

		if (row->at >= start_at)
			return row->at;
		*skipped += Max(row->norders, 1);
	}
	return 0;
}

static TimestampTz
find_first(const OmCursor *cursor, uint32 types, TimestampTz start_at, int64 *skipped)
{
	Tail tail = {.cursor = cursor, .types = types, .max_events = 1, .max_rows = FIRST_MAX_ROWS};

	*skipped = 0;
	if (read_tail(&tail) || tail.rows->count > 0)
	{
		if (tail.rows->count == 0 || tail.rows->rows[0].at >= start_at)
			return tail.rows->count == 0 ? 0 : tail.rows->rows[0].at;
		return skip_to_start(&tail, start_at, skipped);
	}
	/* It is among what comes later, so it is not older than the first of any kind. */
	tail = (Tail){.cursor = cursor, .types = OM_EVENTS_ALL, .max_events = 1};
	(void) read_tail(&tail);
	return tail.rows->count == 0 ? 0 : Max(tail.rows->rows[0].at, start_at);
}

TimestampTz
om_census_first(const OmCursor *cursor, uint32 types)
{
	int64 skipped;

	return find_first(cursor, types, DT_NOBEGIN, &skipped);
}

void
om_census_add_unread(const OmCensus *census, const OmCursor *cursor, uint32 types,
					 TimestampTz start_at, OmQueueState *state)
{
	int64 unread = om_census_unread(census, cursor, types);
	TimestampTz first;
	int64 skipped;

	if (unread == 0 || start_at > om_clock_now())
		return;
	first = find_first(cursor, types, start_at, &skipped);
	state->pending += Max(unread - skipped, 0);
	if (first != 0 && (state->oldest == 0 || first < state->oldest))
		state->oldest = first;
}

bool
om_census_is_anything_unread(const OmCensus *census, const OmCursor *cursor, uint32 types)
{
	Tail tail = {.cursor = cursor, .types = types, .max_events = 1};

	if (census->is_exact)
		return om_census_unread(census, cursor, types) > 0;
	(void) read_tail(&tail);
	return tail.rows->count > 0;
}

/* ---------- without limits ---------- */

OmLogCounts
om_census_told_by(const OmCursor *cursor)
{
	OmLogCounts counts = cursor->passed;
	Tail tail = {.cursor = cursor};

	(void) read_tail(&tail);
	for (int type = 0; type < OM_EVENT_COUNT; type++)
		counts.events[type] += tail.passed.events[type];
	return counts;
}

void
om_census_init(OmCursor *cursor)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	OmLogCounts before;
	OmCensus census;

	PushActiveSnapshot(snapshot);
	census = om_census_take(snapshot, 0 /* max_rows */);
	before = om_census_told_by(cursor); /* nothing lies behind it yet */
	PopActiveSnapshot();
	UnregisterSnapshot(snapshot);
	for (int type = 0; type < OM_EVENT_COUNT; type++)
		cursor->passed.events[type] = census.counts.events[type] - before.events[type];
}

/*
 * circuits.c
 *		Leaves a model alone that keeps failing.
 *
 * After so many failures in a row the circuit of a model is open: its calls
 * fail at once.  When the time is over, one call is let through, the probe; the
 * others go on failing until it is known what became of it.  A success closes
 * the circuit, a failure opens it anew.
 *
 * The caller makes the calls of all sessions, so what it keeps here holds for all
 * of them.  Only circuits with failures are kept, and a caller that has some
 * does not end for want of work.
 */
#include "http.h"

#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define KEY_SIZE 320

/* Failures that are older are not in a row with anything. */
#define FORGET_MS (10 * 60 * 1000)

struct HttpCircuit
{
	char key[KEY_SIZE];
	int failures; /* in a row */
	TimestampTz last_failure;
	TimestampTz open_until; /* 0: closed */
	bool probing;
};

static HTAB *circuits;

void
http_circuits_init(void)
{
	HASHCTL control = {
		.keysize = KEY_SIZE, .entrysize = sizeof(HttpCircuit), .hcxt = TopMemoryContext};

	circuits =
		hash_create("order_mgmt circuits", 16, &control, HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
}

static HttpCircuit *
find(const char *key, HASHACTION action, bool *found)
{
	char bounded[KEY_SIZE];

	strlcpy(bounded, key, sizeof(bounded));
	return hash_search(circuits, bounded, action, found);
}

/* A model that is to have no circuit any more has none, whatever there was before. */
bool
http_circuit_admits(const char *key, int failures_to_open, bool *is_probe)
{
	HttpCircuit *circuit = find(key, failures_to_open == 0 ? HASH_REMOVE : HASH_FIND, NULL);

	*is_probe = false;
	if (failures_to_open == 0 || circuit == NULL || circuit->open_until == 0)
		return true;
	if (circuit->probing || GetCurrentTimestamp() < circuit->open_until)
		return false;
	circuit->probing = true;
	*is_probe = true;
	return true;
}

void
http_circuit_succeeded(const char *key)
{
	(void) find(key, HASH_REMOVE, NULL);
}

void
http_circuit_failed(const char *key, int failures_to_open, int open_ms)
{
	bool found;
	HttpCircuit *circuit;

	if (failures_to_open == 0)
	{
		(void) find(key, HASH_REMOVE, NULL);
		return;
	}
	circuit = find(key, HASH_ENTER, &found);
	if (!found)
	{
		circuit->failures = 0;
		circuit->open_until = 0;
	}
	circuit->probing = false;
	circuit->failures++;
	circuit->last_failure = GetCurrentTimestamp();
	if (circuit->failures >= failures_to_open)
		circuit->open_until = TimestampTzPlusMilliseconds(circuit->last_failure, open_ms);
}

void
http_circuit_abandoned(const char *key)
{
	HttpCircuit *circuit = find(key, HASH_FIND, NULL);

	if (circuit != NULL)
		circuit->probing = false;
}

/* Open for longer than failures are remembered: remembered as long as that. */
static bool
is_old(const HttpCircuit *circuit, TimestampTz now)
{
	return !circuit->probing && circuit->open_until <= now &&
		   TimestampTzPlusMilliseconds(circuit->last_failure, FORGET_MS) <= now;
}

void
http_circuits_review(int *remembered, int *open)
{
	TimestampTz now = GetCurrentTimestamp();
	HASH_SEQ_STATUS scan;
	HttpCircuit *circuit;

	*remembered = *open = 0;
	hash_seq_init(&scan, circuits);
	while ((circuit = hash_seq_search(&scan)) != NULL)
	{
		if (is_old(circuit, now))
			(void) hash_search(circuits, circuit->key, HASH_REMOVE, NULL);
		else
		{
			++*remembered;
			*open += circuit->open_until > now;
		}
	}
}

/*
 * proofs.h
 *		What must be true of the data, as a table of invariants, and the
 *		statements that prove it.
 *
 * Invariants that follow from the same rows share a proof: one pass over the
 * data gives each of them a row per difference.
 */
#ifndef OM_PROOFS_H
#define OM_PROOFS_H

#include "postgres.h"

#include "plans.h"

typedef enum OmProof
{
	OM_PROOF_ACCOUNTS,
	OM_PROOF_STOCK,
	OM_PROOF_PRODUCTS,
	OM_PROOF_ORDERS,
	OM_PROOF_CAPTURES,
	OM_PROOF_HISTORIES,
	OM_PROOF_REASONS,
	OM_PROOF_EVENTS,
	OM_PROOF_EVENT_ROWS,
	OM_PROOF_EVENT_IDS,
	OM_PROOF_EVENT_SEQUENCE,
	OM_PROOF_KEYS,
	OM_PROOF_KEY_TABLES,
	OM_PROOF_COUNT,
	OM_PROOF_PIPELINE = OM_PROOF_COUNT /* by C code, not by a statement */
} OmProof;

/* What cannot be derived any more where an invariant is broken. */
typedef enum OmBlocks
{
	OM_BLOCKS_NOTHING,
	OM_BLOCKS_ORDER, /* what depends on the order that the subject begins with */
	OM_BLOCKS_ALL
} OmBlocks;

typedef struct OmInvariant
{
	OmProof proof;
	const char *name;
	const char *per; /* what a subject is */
	const char *meaning;
	bool mended; /* repair_invariants() can mend it */
	OmBlocks blocks;
	/* Expressions over the columns of the proof's source */
	const char *subject;
	const char *expected;
	const char *actual;
} OmInvariant;

extern const OmInvariant om_invariants[];
extern const int om_invariant_count;

/* Returns the statement whose rows are (invariant, subject, expected, actual). */
extern OmQuery *om_proof_query(OmProof proof);

/*
 * Like om_query_begin(), and without compiling: of statements of so many
 * expressions that takes seconds, however few rows there are.
 */
extern void om_proofs_begin(OmQueryScope *scope);

/*
 * Statements that give what repair_invariants() may write.
 *
 * orders: $1 orders to look at, $2 orders whose data cannot be trusted;
 *		(order_id, settled, derived_settled, trail, missing lxids or NULL)
 * accounts, stock: $1 as $2 above; (key, total, reserved, derived_total,
 *		derived_reserved)
 */
extern OmQuery om_proof_orders_query;
extern OmQuery om_proof_accounts_query;
extern OmQuery om_proof_stock_query;

#endif /* OM_PROOFS_H */

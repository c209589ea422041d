/*
 * dialect.h
 *		How a CSV file is written: the options that the reader knows.
 */
#ifndef OM_DIALECT_H
#define OM_DIALECT_H

#include "postgres.h"

#include "utils/jsonb.h"

#define OM_DIALECT_MAX_FIELD_BYTES (16 * 1024 * 1024)
#define OM_DIALECT_MAX_RECORD_LINES 1000000

typedef struct OmDialect
{
	char delimiter;
	char quote;             /* '\0': there are none */
	char escape;            /* the quote itself, unless the file has another */
	bool keep_stray_quotes; /* a quote inside an unquoted cell is data, no error */
	bool trim;              /* blanks around cells are not data */
	int header;             /* so many records at the start are no data */
	int skip_lines;         /* so many lines even before these */
	const char *null;       /* what stands for NULL when unquoted; NULL: nothing does */
	int encoding;           /* -1: UTF-8 */
	int max_field_bytes;
	int max_record_lines;
} OmDialect;

/* The keys of options that stand for these. */
#define OM_DIALECT_NKEYS 11
extern const char *const om_dialect_keys[OM_DIALECT_NKEYS];

/* What is left out has its default; keys of others are passed over.  Wrong values are OM001. */
extern void om_dialect_parse(Jsonb *options, OmDialect *dialect);

/* OM001 for a key that is neither among om_dialect_keys nor among these. */
extern void om_dialect_check_keys(Jsonb *options, const char *const *others, int nothers);

#endif /* OM_DIALECT_H */

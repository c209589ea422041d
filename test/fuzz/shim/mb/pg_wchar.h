#include "postgres.h"
/* Numbers of their own: the reader only compares them. */
#define PG_SQL_ASCII 0
#define PG_UTF8 6
#define PG_LATIN1 8
#define MAX_CONVERSION_GROWTH 4
extern int GetDatabaseEncoding(void);
extern const char *pg_encoding_to_char(int encoding);
extern int pg_encoding_verifymbstr(int encoding, const char *text, int length);
extern int pg_encoding_verifymbchar(int encoding, const char *text, int length);
extern int pg_encoding_mbcliplen(int encoding, const char *text, int length, int limit);
extern int pg_do_encoding_conversion_buf(Oid conversion, int from, int to, unsigned char *text,
										 int length, unsigned char *result, int room, bool no_error);

/*
 * textform.h
 *		Values as text that does not depend on the session's settings.
 */
#ifndef OM_TEXTFORM_H
#define OM_TEXTFORM_H

#include "postgres.h"

/*
 * From here to the end every value comes out, and goes in, in one form: ISO dates in UTC,
 * intervals as PostgreSQL writes them, bytea in hex, floats to the last bit.
 * An error undoes it with the (sub)transaction.
 */
extern int om_textform_begin(void);
extern void om_textform_end(int level);

#endif /* OM_TEXTFORM_H */

/*
 * kindsql.h
 *		Kind "sql": a function of the user's as a model.
 */
#ifndef OM_KINDSQL_H
#define OM_KINDSQL_H

/* To be called when the library is loaded. */
extern void om_kindsql_init(void);

#endif /* OM_KINDSQL_H */

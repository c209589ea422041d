/*
 * utility_hook.h
 *		SQL commands that concern the workers: DROP DATABASE and its like.
 */
#ifndef OM_UTILITY_HOOK_H
#define OM_UTILITY_HOOK_H

/* Sends this database's workers away until the transaction ends. */
extern void om_quiesce_here(void);

extern void om_utility_hook_init(void);

#endif /* OM_UTILITY_HOOK_H */

/*
 * utility_hook.h
 *		SQL commands that concern the workers: DROP DATABASE and its like.
 */
#ifndef OM_UTILITY_HOOK_H
#define OM_UTILITY_HOOK_H

extern void om_utility_hook_init(void);

#endif /* OM_UTILITY_HOOK_H */

/*
 * providers.h
 *		The kinds of models there are: built in, or in libraries of their own.
 */
#ifndef OM_PROVIDERS_H
#define OM_PROVIDERS_H

#include "postgres.h"

#include "order_mgmt.h"

/* A kind of our own, which stays where it is; called when the library is loaded. */
extern void om_provider_register(const OmPredictProvider *provider);

/*
 * The provider of a kind, whose library is loaded at its first use.  OM001: that
 * is no name of a kind; OM008: there is none, it may not be loaded, or it is not
 * as it should be.
 */
extern const OmPredictProvider *om_provider_get(const char *kind);

/*
 * Runs work(arg), which calls a provider, in a subtransaction.  Settings, user
 * and memory context are afterwards what they were.  NULL: it has worked; else
 * what it has raised, in the current memory context, and all it did is undone.
 */
extern ErrorData *om_provider_attempt(void (*work)(void *arg), void *arg);

/*
 * OM005 where models of this kind wait for somebody outside, and others may wait
 * for this transaction: to be asked before one is asked, trained or measured.
 */
extern void om_provider_require_free(const OmPredictProvider *provider, const char *model);

/* False: models of this kind do not wait for somebody outside; true: they do, or their library is not loaded yet. */
extern bool om_provider_may_wait(const char *kind);

/* Errors that are not the provider's: the session is to end, or the transaction to be run again. */
extern bool om_provider_error_is_alien(const ErrorData *error);

/* An error of an attempt as OM008: "training model "m" (kind "k") failed: ...". */
extern void om_provider_raise(const ErrorData *error, const char *doing, const char *model,
							  const char *kind) __attribute__((noreturn));

/* The JSON object that is the DETAIL of such an error; what is NULL is left out. */
extern char *om_provider_detail(const ErrorData *error, const char *model, const char *kind);

#endif /* OM_PROVIDERS_H */

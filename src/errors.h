/*
 * errors.h
 *		The SQLSTATEs of order_mgmt, class OM.
 *
 * DETAIL of these errors is one JSON object for programs; HINT is a sentence
 * for people.  docs/errors.md lists every one.
 */
#ifndef OM_ERRORS_H
#define OM_ERRORS_H

#include "utils/elog.h"

#define ERRCODE_OM_INVALID MAKE_SQLSTATE('O', 'M', '0', '0', '1')
#define ERRCODE_OM_KEY_REUSED MAKE_SQLSTATE('O', 'M', '0', '0', '2')
#define ERRCODE_OM_RATE_LIMIT MAKE_SQLSTATE('O', 'M', '0', '0', '3')
#define ERRCODE_OM_NOT_FOUND MAKE_SQLSTATE('O', 'M', '0', '0', '4')
#define ERRCODE_OM_STATE MAKE_SQLSTATE('O', 'M', '0', '0', '5')
#define ERRCODE_OM_NOT_READY MAKE_SQLSTATE('O', 'M', '0', '0', '6')
#define ERRCODE_OM_LOAD MAKE_SQLSTATE('O', 'M', '0', '0', '7')
#define ERRCODE_OM_PREDICTION MAKE_SQLSTATE('O', 'M', '0', '0', '8')

#endif /* OM_ERRORS_H */

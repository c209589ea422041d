#ifndef SHIM_JSONB_H
#define SHIM_JSONB_H
#include "postgres.h"
typedef uintptr_t Datum;
typedef struct Jsonb Jsonb;
typedef struct JsonbParseState JsonbParseState;
typedef struct JsonbValue JsonbValue;
#endif

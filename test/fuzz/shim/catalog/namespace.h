#include "postgres.h"
extern Oid FindDefaultConversionProc(int from, int to);

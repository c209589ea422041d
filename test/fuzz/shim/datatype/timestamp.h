#include "postgres.h"
typedef int64 TimestampTz;

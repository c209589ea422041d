#include "postgres.h"
#define CHECK_FOR_INTERRUPTS() ((void) 0)

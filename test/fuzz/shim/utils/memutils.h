#include "postgres.h"
#define ALLOCSET_DEFAULT_SIZES 0
extern MemoryContext AllocSetContextCreate(MemoryContext parent, const char *name, int sizes);
extern void *MemoryContextAlloc(MemoryContext context, size_t size);
extern void MemoryContextDelete(MemoryContext context);
#define MemoryContextAllocHuge MemoryContextAlloc

/*
 * postgres.h
 *		As much of PostgreSQL as the CSV reader needs, for a program without a server.
 *
 * Memory comes from contexts that are freed as a whole, each piece allocated by
 * itself, so that the address sanitizer sees every byte too many.  ERROR jumps
 * back to the harness.
 */
#ifndef SHIM_POSTGRES_H
#define SHIM_POSTGRES_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t uint8;
typedef int32_t int32;
typedef uint32_t uint32;
typedef int64_t int64;
typedef uint64_t uint64;
typedef unsigned int Oid;
typedef size_t Size;
typedef struct Context *MemoryContext;

#define InvalidOid 0
#define OidIsValid(oid) ((oid) != 0)
#define PG_INT32_MAX 0x7FFFFFFF
#define Min(a, b) ((a) < (b) ? (a) : (b))
#define Max(a, b) ((a) > (b) ? (a) : (b))
#define lengthof(array) (sizeof(array) / sizeof((array)[0]))
#define pg_attribute_unused() __attribute__((unused))
#define pg_attribute_printf(f, a) __attribute__((format(printf, f, a)))
#define pg_attribute_noreturn() __attribute__((noreturn))
#define IS_HIGHBIT_SET(c) ((unsigned char) (c) & 0x80)

extern MemoryContext CurrentMemoryContext;
extern MemoryContext MemoryContextSwitchTo(MemoryContext context);
extern void *palloc(size_t size);
extern void *palloc0(size_t size);
extern void *repalloc(void *memory, size_t size);
extern void pfree(void *memory);
#define repalloc_huge repalloc

/* Enough for ereport(ERROR, (errcode(), errmsg(), ...)). */
#define ERROR 21
#define MAKE_SQLSTATE(a, b, c, d, e) ((a) + ((b) << 6) + ((c) << 12) + ((d) << 18) + ((e) << 24))
#define ERRCODE_CHARACTER_NOT_IN_REPERTOIRE MAKE_SQLSTATE('2', '2', '0', '2', '1')
#define ERRCODE_BAD_COPY_FILE_FORMAT MAKE_SQLSTATE('2', '2', 'P', '0', '4')
#define ERRCODE_PROGRAM_LIMIT_EXCEEDED MAKE_SQLSTATE('5', '4', '0', '0', '0')
#define ERRCODE_TOO_MANY_COLUMNS MAKE_SQLSTATE('5', '4', '0', '1', '1')
extern int errcode(int code);
extern int errmsg(const char *format, ...) pg_attribute_printf(1, 2);
extern int errhint(const char *format, ...) pg_attribute_printf(1, 2);
extern void raise_error(void) pg_attribute_noreturn();
#define ereport(level, parts) ((void) (parts), raise_error())
/* A cannot-happen is what is looked for. */
#define elog(level, ...) (fprintf(stderr, __VA_ARGS__), abort())

#endif /* SHIM_POSTGRES_H */

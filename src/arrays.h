/*
 * arrays.h
 *		Arrays of bigint, as rows store them.
 */
#ifndef OM_ARRAYS_H
#define OM_ARRAYS_H

#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"

static inline ArrayType *
om_int8_array(const int64 *elements, int count)
{
	Size size = ARR_OVERHEAD_NONULLS(1) + sizeof(int64) * count;
	ArrayType *array = palloc0(size);

	Assert(count > 0);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = INT8OID;
	ARR_DIMS(array)[0] = count;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), elements, sizeof(int64) * count);
	return array;
}

#endif /* OM_ARRAYS_H */

/*
 * scores.c
 *		Scores of outputs.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "scores.h"

bool
om_score_of_value(const JsonbValue *value, double *number)
{
	if (value->type == jbvBool)
		*number = value->val.boolean ? 1 : 0;
	else if (value->type == jbvNumeric)
		*number = DatumGetFloat8(
			DirectFunctionCall1(numeric_float8, NumericGetDatum(value->val.numeric)));
	else
		return false;
	return true;
}

static bool
find_member(Jsonb *output, const char *member, double *number)
{
	JsonbValue value;

	return getKeyJsonValueFromContainer(&output->root, member, strlen(member), &value) != NULL &&
		   om_score_of_value(&value, number);
}

bool
om_score_of_output(Jsonb *output, const char *member, double *number)
{
	static const char *const usual[] = {"score", "probability", "prediction", "expected", "value"};
	JsonbValue value;

	if (JB_ROOT_IS_SCALAR(output))
		return JsonbExtractScalar(&output->root, &value) && om_score_of_value(&value, number);
	if (!JB_ROOT_IS_OBJECT(output))
		return false;
	if (member != NULL)
		return find_member(output, member, number);
	for (int i = 0; i < (int) lengthof(usual); i++)
	{
		if (find_member(output, usual[i], number))
			return true;
	}
	return false;
}

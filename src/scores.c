/*
 * scores.c
 *		Scores of outputs.
 */
#include "postgres.h"

#include <math.h>

#include "options.h"
#include "scores.h"

bool
om_score_of_value(const JsonbValue *value, double *number)
{
	if (value->type == jbvBool)
		*number = value->val.boolean ? 1 : 0;
	else if (value->type == jbvNumeric)
		*number = om_option_to_double(value);
	else
		return false;
	return isfinite(*number);
}

static bool
find_member(Jsonb *output, const char *member, double *number)
{
	JsonbValue value;

	return om_option_get(output, member, &value) && om_score_of_value(&value, number);
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

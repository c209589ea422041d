/*
 * wire.c
 *		Calls and answers as bytes, between a session and the caller.
 *
 * Both ends are processes of one server and use one library, so numbers are as
 * the machine has them.  What arrives is checked all the same: a frame that is
 * none ends its connection, not its reader.
 */
#include "http.h"

#include "utils/memutils.h"

/* --- writing -------------------------------------------------------------------------------- */

static void
put_int(StringInfo out, int value)
{
	int32 number = value;

	appendBinaryStringInfo(out, (const char *) &number, sizeof(number));
}

static void
put_bytes(StringInfo out, const char *data, int size)
{
	put_int(out, size);
	appendBinaryStringInfo(out, data, size);
}

static void
put_text(StringInfo out, const char *text)
{
	put_bytes(out, text == NULL ? "" : text, text == NULL ? 0 : strlen(text));
}

/* The size is known at the end. */
static int
begin_frame(StringInfo out)
{
	int start = out->len;

	put_int(out, 0);
	return start;
}

static void
end_frame(StringInfo out, int start)
{
	int32 size = out->len - start - sizeof(int32);

	memcpy(out->data + start, &size, sizeof(size));
}

void
http_wire_put_call(StringInfo out, const HttpCall *call)
{
	int start = begin_frame(out);
	ListCell *cell;

	put_int(out, call->id);
	put_text(out, call->url);
	put_text(out, call->aws);
	put_text(out, call->user);
	put_text(out, call->password);
	put_text(out, call->ca_file);
	put_text(out, call->circuit);
	put_int(out, call->verify_tls);
	put_int(out, call->timeout_ms);
	put_int(out, call->connect_timeout_ms);
	put_int(out, call->retries);
	put_int(out, call->backoff_ms);
	put_int(out, call->circuit_failures);
	put_int(out, call->circuit_open_ms);
	put_int(out, call->max_response_bytes);
	put_int(out, list_length(call->headers));
	foreach(cell, call->headers)
		put_text(out, lfirst(cell));
	put_bytes(out, call->body, call->body_size);
	end_frame(out, start);
}

void
http_wire_put_answer(StringInfo out, const HttpAnswer *answer)
{
	int start = begin_frame(out);

	put_int(out, answer->id);
	put_int(out, answer->outcome);
	put_int(out, answer->status);
	put_int(out, answer->attempts);
	put_text(out, answer->content_type);
	put_text(out, answer->message);
	put_bytes(out, answer->body, answer->body_size);
	end_frame(out, start);
}

/* --- reading -------------------------------------------------------------------------------- */

typedef struct Reader
{
	const char *at;
	const char *end;
} Reader;

static void
raise_broken(void)
{
	ereport(ERROR, (errcode(ERRCODE_PROTOCOL_VIOLATION),
					errmsg("order_mgmt caller: what was received makes no sense")));
}

static int
get_int(Reader *reader)
{
	int32 number;

	if ((Size) (reader->end - reader->at) < sizeof(number))
		raise_broken();
	memcpy(&number, reader->at, sizeof(number));
	reader->at += sizeof(number);
	return number;
}

/* With a zero byte behind it, which does not count. */
static char *
get_bytes(Reader *reader, int *size)
{
	char *data;

	*size = get_int(reader);
	if (*size < 0 || *size > reader->end - reader->at)
		raise_broken();
	data = palloc(*size + 1);
	memcpy(data, reader->at, *size);
	data[*size] = '\0';
	reader->at += *size;
	return data;
}

static char *
get_text(Reader *reader)
{
	int size;

	return get_bytes(reader, &size);
}

Size
http_wire_frame(const char *data, Size size)
{
	int32 payload;

	if (size < sizeof(payload))
		return 0;
	memcpy(&payload, data, sizeof(payload));
	if (payload < 0 || payload > (int32) (MaxAllocSize - sizeof(payload)))
		raise_broken();
	return size - sizeof(payload) < (Size) payload ? 0 : sizeof(payload) + payload;
}

HttpCall *
http_wire_get_call(const char *frame, Size size)
{
	Reader reader = {frame + sizeof(int32), frame + size};
	HttpCall *call = palloc0(sizeof(HttpCall));

	call->id = get_int(&reader);
	call->url = get_text(&reader);
	call->aws = get_text(&reader);
	call->user = get_text(&reader);
	call->password = get_text(&reader);
	call->ca_file = get_text(&reader);
	call->circuit = get_text(&reader);
	call->verify_tls = get_int(&reader) != 0;
	call->timeout_ms = get_int(&reader);
	call->connect_timeout_ms = get_int(&reader);
	call->retries = get_int(&reader);
	call->backoff_ms = get_int(&reader);
	call->circuit_failures = get_int(&reader);
	call->circuit_open_ms = get_int(&reader);
	call->max_response_bytes = get_int(&reader);
	for (int n = get_int(&reader); n > 0; n--)
		call->headers = lappend(call->headers, get_text(&reader));
	call->body = get_bytes(&reader, &call->body_size);
	return call;
}

HttpAnswer *
http_wire_get_answer(const char *frame, Size size)
{
	Reader reader = {frame + sizeof(int32), frame + size};
	HttpAnswer *answer = palloc0(sizeof(HttpAnswer));

	answer->id = get_int(&reader);
	answer->outcome = (HttpOutcome) get_int(&reader);
	answer->status = get_int(&reader);
	answer->attempts = get_int(&reader);
	answer->content_type = get_text(&reader);
	answer->message = get_text(&reader);
	answer->body = get_bytes(&reader, &answer->body_size);
	return answer;
}

/*
 * exchange.c
 *		Hands calls to the caller and waits for its answers.
 *
 * The socket is all that connects a session with the caller: when the session
 * stops waiting, for whatever reason, it is closed, and the caller gives up the
 * calls; when the caller ends, the session sees that at once.
 *
 * A caller that is about to end may have been found still: what it has not
 * greeted it has not taken, and another is started.
 */
#include "http.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define START_TIMEOUT_MS 15000
#define START_CHECK_MS 20
#define MAX_STARTS 5
#define LOOK_MS 60000 /* at the time, at least so often: latches count no further than weeks */
#define READ_SIZE 65536

/* --- waiting -------------------------------------------------------------------------------- */

static void
raise_too_late(void)
{
	ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION), errmsg("no answer came in time"),
					errhint("Option timeout_ms of the model, or setting "
							"order_mgmt.predict_timeout, says how long to wait.")));
}

static long
time_left(TimestampTz deadline)
{
	long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (left <= 0)
		raise_too_late();
	return Min(left, LOOK_MS);
}

static void
wait_for(int fd, int events, TimestampTz deadline)
{
	int happened =
		WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH | events, fd,
						  time_left(deadline), PG_WAIT_EXTENSION);

	if (happened & WL_LATCH_SET)
		ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static void
raise_caller_gone(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OM_PREDICTION), errmsg("the process that makes the calls has ended"),
			 errhint("Try again: another is started.")));
}

/* --- connecting ----------------------------------------------------------------------------- */

/* Returns -1 where there is no caller, or where it has no time for us just now. */
static int
try_to_connect(bool *is_busy)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		ereport(ERROR, (errcode_for_socket_access(), errmsg("could not create a socket: %m")));
	strlcpy(address.sun_path, HTTP_SOCKET, sizeof(address.sun_path));
	if (connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0)
		return fd;
	*is_busy = would_block();
	close(fd);
	return -1;
}

/* False: it ended before it took us. */
static bool
is_greeted(int fd, TimestampTz deadline)
{
	char greeting[HTTP_GREETING_SIZE];
	int have = 0;

	while (have < HTTP_GREETING_SIZE)
	{
		ssize_t bytes = recv(fd, greeting + have, HTTP_GREETING_SIZE - have, 0);

		if (bytes == 0 || (bytes < 0 && !would_block()))
			return false;
		if (bytes > 0)
			have += bytes;
		else
			wait_for(fd, WL_SOCKET_READABLE, deadline);
	}
	if (memcmp(greeting, HTTP_GREETING, HTTP_GREETING_SIZE) != 0)
		ereport(ERROR, (errcode(ERRCODE_OM_NOT_READY),
						errmsg("the process that makes the calls is of another version"),
						errhint("End it: SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
								"WHERE backend_type = 'order_mgmt caller'.")));
	return true;
}

static BackgroundWorkerHandle *
start_caller(void)
{
	BackgroundWorker bgw = {.bgw_flags =
								BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
							.bgw_start_time = BgWorkerStart_ConsistentState,
							.bgw_restart_time = BGW_NEVER_RESTART,
							.bgw_notify_pid = MyProcPid};
	BackgroundWorkerHandle *handle;

	strlcpy(bgw.bgw_library_name, "order_mgmt_http", BGW_MAXLEN);
	strlcpy(bgw.bgw_function_name, "order_mgmt_http_caller_main", BGW_MAXLEN);
	strlcpy(bgw.bgw_type, "order_mgmt caller", BGW_MAXLEN);
	strlcpy(bgw.bgw_name, "order_mgmt caller", BGW_MAXLEN);
	if (!RegisterDynamicBackgroundWorker(&bgw, &handle))
		ereport(ERROR, (errcode(ERRCODE_OM_PREDICTION),
						errmsg("no process could be started to make the calls"),
						errhint("Increase max_worker_processes.")));
	return handle;
}

static void
nap(TimestampTz deadline)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(START_CHECK_MS, time_left(deadline)), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Several sessions may start one at the same time; all but one of these end at once. */
static int
connect_to_caller(TimestampTz deadline)
{
	BackgroundWorkerHandle *handle = NULL;
	bool is_busy = false;
	int starts = 0;
	int fd;
	pid_t pid;

	while ((fd = try_to_connect(&is_busy)) < 0)
	{
		if (is_busy || (handle != NULL && GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED))
			nap(deadline);
		else if (starts++ < MAX_STARTS)
		{
			handle = start_caller();
			nap(deadline);
		}
		else
			raise_caller_gone();
	}
	return fd;
}

/* --- the exchange --------------------------------------------------------------------------- */

typedef struct Line
{
	HttpExchange *exchange;
	int fd; /* -1: not connected */
	bool has_fd;
	int produced;
	int consumed;
	StringInfoData out;
	int sent;
	StringInfoData in;
	MemoryContext answer_context;
} Line;

static void
hang_up(Line *line)
{
	if (line->fd >= 0)
		close(line->fd);
	line->fd = -1;
	if (line->has_fd)
		ReleaseExternalFD();
	line->has_fd = false;
}

static void
call_up(Line *line)
{
	TimestampTz start = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), START_TIMEOUT_MS);
	TimestampTz deadline = Min(start, line->exchange->deadline);

	line->has_fd = AcquireExternalFD();
	if (!line->has_fd)
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_RESOURCES),
						errmsg("could not connect to the process that makes the calls: %m")));
	for (int i = 0; i < MAX_STARTS; i++)
	{
		line->fd = connect_to_caller(deadline);
		if (is_greeted(line->fd, deadline))
			return;
		close(line->fd);
		line->fd = -1;
	}
	raise_caller_gone();
}

/* So many calls are with the caller at the same time, and no more in our memory. */
static void
produce(Line *line)
{
	HttpExchange *exchange = line->exchange;

	if (line->sent == line->out.len)
	{
		resetStringInfo(&line->out);
		line->sent = 0;
	}
	while (line->produced < exchange->count &&
		   line->produced - line->consumed < exchange->concurrency)
	{
		MemoryContext caller = MemoryContextSwitchTo(line->answer_context);
		HttpCall *call = exchange->produce(exchange, line->produced);

		call->id = line->produced++;
		MemoryContextSwitchTo(caller);
		http_wire_put_call(&line->out, call);
		MemoryContextReset(line->answer_context);
	}
}

static void
send_calls(Line *line)
{
	while (line->sent < line->out.len)
	{
		ssize_t bytes =
			send(line->fd, line->out.data + line->sent, line->out.len - line->sent, MSG_NOSIGNAL);

		if (bytes < 0 && would_block())
			return;
		if (bytes < 0)
			raise_caller_gone();
		line->sent += bytes;
	}
}

static void
consume(Line *line, Size size)
{
	MemoryContext caller = MemoryContextSwitchTo(line->answer_context);

	line->consumed++;
	line->exchange->consume(line->exchange, http_wire_get_answer(line->in.data, size));
	MemoryContextSwitchTo(caller);
	MemoryContextReset(line->answer_context);
	memmove(line->in.data, line->in.data + size, line->in.len - size);
	line->in.len -= size;
}

/* Everything that is there. */
static void
receive_answers(Line *line)
{
	for (;;)
	{
		ssize_t bytes;
		Size size;

		enlargeStringInfo(&line->in, READ_SIZE);
		bytes = recv(line->fd, line->in.data + line->in.len, READ_SIZE, 0);
		if (bytes == 0 || (bytes < 0 && !would_block()))
			raise_caller_gone();
		if (bytes < 0)
			return;
		line->in.len += bytes;
		while ((size = http_wire_frame(line->in.data, line->in.len)) > 0)
			consume(line, size);
		if (line->consumed == line->exchange->count)
			return;
	}
}

static void
converse(Line *line)
{
	HttpExchange *exchange = line->exchange;

	call_up(line);
	while (line->consumed < exchange->count)
	{
		int events = WL_SOCKET_READABLE;

		produce(line);
		send_calls(line);
		if (line->sent < line->out.len)
			events |= WL_SOCKET_WRITEABLE;
		wait_for(line->fd, events, exchange->deadline);
		receive_answers(line);
	}
}

void
http_exchange_run(HttpExchange *exchange)
{
	Line *line = palloc0(sizeof(Line));

	line->exchange = exchange;
	line->fd = -1;
	initStringInfo(&line->out);
	initStringInfo(&line->in);
	line->answer_context =
		AllocSetContextCreate(CurrentMemoryContext, "order_mgmt answer", ALLOCSET_DEFAULT_SIZES);
	PG_TRY();
	{
		converse(line);
	}
	PG_FINALLY();
	{
		hang_up(line);
	}
	PG_END_TRY();
}

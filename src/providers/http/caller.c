/*
 * caller.c
 *		The process that makes the calls of all sessions.
 *
 * A call may take half a minute, and nobody wants to be in its way: so it is made
 * in a process that is connected to no database, runs no transaction, holds no
 * lock and has no snapshot.  DROP DATABASE and its like need not know of it.
 * It is started by the first session that looks for it in vain and ends when it
 * has been idle for a while.  There is one for all databases: it makes any number of
 * calls at the same time.
 *
 * Sessions reach it by a socket in the data directory, whether or not anything
 * is preloaded.  A connection is a session that predicts.  It ends when the
 * session has all its answers, but also when it is cancelled, fails or dies: then
 * its calls are given up.  In the same way sessions see the end of this process.
 *
 * A file lock makes it the only one; the system lets it go with the process,
 * however that ends.  Errors end the process: it keeps nothing but circuits.
 */
#include "http.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/ilist.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "storage/procsignal.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define IDLE_MS 60000
#define LOOK_MS 10000 /* after old circuits, at least so often */
#define BACKLOG 128
#define MAX_PEERS 900
#define READ_SIZE 65536

PGDLLEXPORT void order_mgmt_http_caller_main(Datum arg);

/* A session that predicts. */
typedef struct Peer
{
	dlist_node node;
	int fd;
	bool is_gone;
	MemoryContext context;
	StringInfoData in;
	StringInfoData out;
	int sent; /* of "out" */
	struct curl_waitfd *polled;
} Peer;

static dlist_head peers = DLIST_STATIC_INIT(peers);
static int npeers = 0;
static int listener = -1;
static int wakeup[2] = {-1, -1};
static volatile sig_atomic_t is_to_end = false;

/* --- signals -------------------------------------------------------------------------------- */

/* Before or during the sleep: the byte is there. */
static void
end_sleep(void)
{
	int saved = errno;
	ssize_t written pg_attribute_unused() = write(wakeup[1], "", 1);

	errno = saved;
}

static void
handle_end(SIGNAL_ARGS)
{
	(void) postgres_signal_arg;
	is_to_end = true;
	end_sleep();
}

static void
handle_message(SIGNAL_ARGS)
{
	procsignal_sigusr1_handler(postgres_signal_arg);
	end_sleep();
}

static void
set_up_signals(void)
{
	if (pipe2(wakeup, O_NONBLOCK | O_CLOEXEC) != 0)
		ereport(FATAL, (errcode_for_socket_access(), errmsg("could not create a pipe: %m")));
	pqsignal(SIGTERM, handle_end);
	pqsignal(SIGUSR1, handle_message);
	pqsignal(SIGINT, SIG_IGN);
	pqsignal(SIGHUP, SIG_IGN);
	pqsignal(SIGPIPE, SIG_IGN);
	BackgroundWorkerUnblockSignals();
}

/* --- being the only one ----------------------------------------------------------------------- */

static void
become_the_only_one(void)
{
	int fd = open(HTTP_LOCK, O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);

	if (fd < 0)
		ereport(FATAL,
				(errcode_for_file_access(), errmsg("could not open file \"%s\": %m", HTTP_LOCK)));
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		proc_exit(0); /* another session has started one at the same time */
}

/* Sessions that come later start another. */
static void
stop_listening(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
	unlink(HTTP_SOCKET);
	close(listener);
}

static void
start_listening(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strlcpy(address.sun_path, HTTP_SOCKET, sizeof(address.sun_path));
	unlink(HTTP_SOCKET); /* of one that was killed */
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *) &address, sizeof(address)) != 0 ||
		chmod(HTTP_SOCKET, S_IRUSR | S_IWUSR) != 0 || listen(listener, BACKLOG) != 0)
		ereport(FATAL, (errcode_for_socket_access(),
						errmsg("could not listen on socket \"%s\": %m", HTTP_SOCKET)));
	on_proc_exit(stop_listening, (Datum) 0);
}

/* --- sessions ------------------------------------------------------------------------------- */

static void
add_peer(int fd)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt session", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Peer *peer = palloc0(sizeof(Peer));

	peer->fd = fd;
	peer->context = context;
	initStringInfo(&peer->in);
	initStringInfo(&peer->out);
	appendBinaryStringInfo(&peer->out, HTTP_GREETING, HTTP_GREETING_SIZE);
	MemoryContextSwitchTo(caller);
	dlist_push_tail(&peers, &peer->node);
	npeers++;
}

static void
accept_all(void)
{
	int fd;

	while (npeers < MAX_PEERS &&
		   (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		add_peer(fd);
}

static void
remove_peer(Peer *peer)
{
	http_transfers_cancel(peer);
	close(peer->fd);
	dlist_delete(&peer->node);
	npeers--;
	MemoryContextDelete(peer->context);
}

static bool
would_block(void)
{
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

static void
send_answers(Peer *peer)
{
	while (peer->sent < peer->out.len)
	{
		ssize_t bytes = send(peer->fd, peer->out.data + peer->sent, peer->out.len - peer->sent, 0);

		if (bytes < 0)
		{
			peer->is_gone = !would_block();
			return;
		}
		peer->sent += bytes;
	}
	resetStringInfo(&peer->out);
	peer->sent = 0;
}

/* The call gets a context of its own, and the transfer with it. */
static void
begin_call(Peer *peer, const char *frame, Size size)
{
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt call", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	HttpCall *call = http_wire_get_call(frame, size);

	MemoryContextSwitchTo(caller);
	http_transfer_begin(peer, call, context);
}

static void
begin_calls(Peer *peer)
{
	Size done = 0;
	Size size;

	while ((size = http_wire_frame(peer->in.data + done, peer->in.len - done)) > 0)
	{
		begin_call(peer, peer->in.data + done, size);
		done += size;
	}
	if (done == 0)
		return;
	memmove(peer->in.data, peer->in.data + done, peer->in.len - done);
	peer->in.len -= done;
}

static void
receive_calls(Peer *peer)
{
	for (;;)
	{
		ssize_t bytes;

		enlargeStringInfo(&peer->in, READ_SIZE);
		bytes = recv(peer->fd, peer->in.data + peer->in.len, READ_SIZE, 0);
		if (bytes <= 0)
		{
			peer->is_gone = bytes == 0 || !would_block();
			break;
		}
		peer->in.len += bytes;
		begin_calls(peer);
	}
}

static void
answer_peer(void *owner, HttpTransfer *transfer pg_attribute_unused(), const HttpAnswer *answer)
{
	Peer *peer = owner;

	http_wire_put_answer(&peer->out, answer);
}

static void
serve_peers(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &peers)
	{
		Peer *peer = dlist_container(Peer, node, iter.cur);

		if (peer->polled != NULL && peer->polled->revents != 0)
			receive_calls(peer);
		peer->polled = NULL;
		if (!peer->is_gone)
			send_answers(peer);
		if (peer->is_gone)
			remove_peer(peer);
	}
}

/* --- the process ---------------------------------------------------------------------------- */

static void
show_activity(int open)
{
	static int shown_calls = -1;
	static int shown_open = -1;
	int calls = http_transfers_count();

	if (calls == shown_calls && open == shown_open)
		return;
	shown_calls = calls;
	shown_open = open;
	pgstat_report_activity(calls > 0 ? STATE_RUNNING : STATE_IDLE,
						   psprintf("calls under way: %d, open circuits: %d", calls, open));
}

static void
sleep_until_something(int timeout_ms)
{
	int count = 0;
	struct curl_waitfd *fds = palloc0((npeers + 3) * sizeof(struct curl_waitfd));
	char drained[64];
	dlist_iter iter;

	fds[count++] = (struct curl_waitfd){.fd = wakeup[0], .events = CURL_WAIT_POLLIN};
	fds[count++] = (struct curl_waitfd){.fd = postmaster_alive_fds[POSTMASTER_FD_WATCH],
										.events = CURL_WAIT_POLLIN};
	fds[count++] =
		(struct curl_waitfd){.fd = npeers < MAX_PEERS ? listener : -1, .events = CURL_WAIT_POLLIN};
	dlist_foreach(iter, &peers)
	{
		Peer *peer = dlist_container(Peer, node, iter.cur);

		fds[count] = (struct curl_waitfd){.fd = peer->fd, .events = CURL_WAIT_POLLIN};
		if (peer->sent < peer->out.len)
			fds[count].events |= CURL_WAIT_POLLOUT;
		peer->polled = &fds[count++];
	}
	http_transfers_wait(fds, count, timeout_ms);
	if (fds[1].revents != 0 && !PostmasterIsAlive())
		proc_exit(1);
	while (read(wakeup[0], drained, sizeof(drained)) > 0)
		;
	serve_peers();
	if (fds[2].revents != 0)
		accept_all();
}

/* How long to sleep at most; 0: there is nothing left to stay for. */
static int
patience_ms(TimestampTz busy_at)
{
	int idle = (int) TimestampDifferenceMilliseconds(busy_at, GetCurrentTimestamp());
	int remembered, open;

	http_circuits_review(&remembered, &open);
	show_activity(open);
	if (npeers > 0 || remembered > 0)
		return LOOK_MS;
	return Max(IDLE_MS - idle, 0);
}

static void
serve(void)
{
	TimestampTz busy_at = GetCurrentTimestamp();
	MemoryContext round =
		AllocSetContextCreate(TopMemoryContext, "order_mgmt round", ALLOCSET_DEFAULT_SIZES);
	int patience;

	MemoryContextSwitchTo(round);
	while (!is_to_end && (patience = patience_ms(busy_at)) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		sleep_until_something(patience);
		http_transfers_run();
		if (npeers > 0)
			busy_at = GetCurrentTimestamp();
		MemoryContextReset(round);
	}
}

void
order_mgmt_http_caller_main(Datum arg pg_attribute_unused())
{
	set_up_signals();
	become_the_only_one();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	http_circuits_init();
	http_transfers_init(answer_peer);
	start_listening();
	serve();
	proc_exit(0);
}

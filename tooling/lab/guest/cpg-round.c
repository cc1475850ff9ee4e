/*
 * How long one ordered message takes: sends it to a group of its own and waits for its delivery, again and again.
 *
 *   cpg-round <rounds>     prints the median and the 90th percentile in microseconds
 *
 * libcpg is opened at run time, with declarations of our own (its ABI is that of 2010), so that no headers of corosync are needed.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CS_OK = 1, CS_ERR_TRY_AGAIN = 6, CS_DISPATCH_ONE = 1, CPG_TYPE_AGREED = 2, ROUNDS_MAX = 100000, TRIES_MAX = 10000 };

struct cpg_name { uint32_t length; char value[128]; };
typedef void deliver_fn(uint64_t, const struct cpg_name *, uint32_t, uint32_t, void *, size_t);
typedef void confchg_fn(uint64_t, const struct cpg_name *, const void *, size_t, const void *, size_t, const void *, size_t);
struct callbacks { deliver_fn *deliver; confchg_fn *confchg; };

static int delivered;

static void on_deliver(uint64_t handle, const struct cpg_name *group, uint32_t node, uint32_t pid, void *bytes, size_t length)
{
	(void)handle, (void)group, (void)node, (void)pid, (void)bytes, (void)length;
	delivered++;
}

static void on_confchg(uint64_t handle, const struct cpg_name *group, const void *members, size_t count, const void *left,
		       size_t left_count, const void *joined, size_t joined_count)
{
	(void)handle, (void)group, (void)members, (void)count, (void)left, (void)left_count, (void)joined, (void)joined_count;
}

static void *symbol(void *library, const char *name)
{
	void *found = dlsym(library, name);
	if (found == NULL) {
		fprintf(stderr, "libcpg has no %s\n", name);
		exit(1);
	}
	return found;
}

static void check(int error, const char *what)
{
	if (error == CS_OK)
		return;
	fprintf(stderr, "%s: corosync error %d\n", what, error);
	exit(1);
}

static double now_us(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e6 + time.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
	double left = *(const double *)a, right = *(const double *)b;
	return (left > right) - (left < right);
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 0;
	if (rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: cpg-round <1 to %d>\n", ROUNDS_MAX);
		return 2;
	}
	void *library = dlopen("libcpg.so.4", RTLD_NOW);
	if (library == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	int (*initialize)(uint64_t *, struct callbacks *) = symbol(library, "cpg_initialize");
	int (*join)(uint64_t, const struct cpg_name *) = symbol(library, "cpg_join");
	int (*dispatch)(uint64_t, int) = symbol(library, "cpg_dispatch");
	int (*mcast)(uint64_t, int, const struct iovec *, unsigned) = symbol(library, "cpg_mcast_joined");

	struct callbacks callbacks = { on_deliver, on_confchg };
	uint64_t handle;
	check(initialize(&handle, &callbacks), "cpg_initialize");
	struct cpg_name group;
	memset(&group, 0, sizeof group);
	group.length = (uint32_t)snprintf(group.value, sizeof group.value, "cpg-round-%d", (int)getpid());
	check(join(handle, &group), "cpg_join");

	double *times = calloc((size_t)rounds, sizeof *times);
	if (times == NULL)
		return 1;
	char message[64] = { 0 };
	struct iovec part = { message, sizeof message };
	for (int round = 0; round < rounds; round++) {
		double start = now_us();
		int error = CS_ERR_TRY_AGAIN;
		for (int tries = 0; error == CS_ERR_TRY_AGAIN && tries < TRIES_MAX; tries++) {
			error = mcast(handle, CPG_TYPE_AGREED, &part, 1);
			if (error == CS_ERR_TRY_AGAIN)
				usleep(1000);
		}
		check(error, "cpg_mcast_joined");
		while (delivered <= round)
			check(dispatch(handle, CS_DISPATCH_ONE), "cpg_dispatch");
		times[round] = now_us() - start;
	}
	qsort(times, (size_t)rounds, sizeof *times, ascending);
	printf("median %.0f p90 %.0f\n", times[rounds / 2], times[rounds * 9 / 10]);
	return 0;
}

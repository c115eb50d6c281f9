/*
 * DPDK's rte_ring under the loads of `podswitch-bench ring`: numbers of 8 bytes from one thread to another, every one checked.
 *
 *   ring-dpdk KIND PRODUCERS CPU BURST ITEMS
 *
 * KIND is the ends' synchronisation: spsc, mpsc or mpmc. PRODUCERS are the CPUs of the producers' threads, such as 0 or 0,1;
 * CPU is that of the consumer. Where PRODUCERS is `-` one thread pushes each burst and pops it again. Each producer sends ITEMS
 * numbers, and the output is how many millions of them arrived a second, all producers together.
 *
 * A ring needs no environment abstraction layer, so there is none: no hugepages, no root.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_pause.h>
#include <rte_ring.h>

enum { CAPACITY = 1024, BURST_MAX = 256, PRODUCERS_MAX = 2, EMPTY_LOOKS_MAX = 100 };

struct producer {
	pthread_t thread;
	int cpu;
	uint64_t first;
};

static struct rte_ring *ring;
static unsigned int burst;
static uint64_t items;
/* Threads share a CPU, so who waits lets the other run. */
static bool crowded;
static pthread_barrier_t start;

static void fail(const char *what)
{
	fprintf(stderr, "ring-dpdk: %s\n", what);
	exit(1);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		fail("that CPU may not be used");
}

static inline void wait_a_moment(unsigned int *empty_looks)
{
	if (crowded && ++*empty_looks > EMPTY_LOOKS_MAX) {
		sched_yield();
		*empty_looks = 0;
	} else {
		rte_pause();
	}
}

static inline unsigned int push(uint64_t *numbers, uint64_t next, unsigned int count)
{
	if (burst == 1) {
		return rte_ring_enqueue(ring, (void *)(uintptr_t)next) == 0;
	}
	for (unsigned int at = 0; at < count; at++)
		numbers[at] = next + at;
	return rte_ring_enqueue_burst(ring, (void **)numbers, count, NULL);
}

static void *produce(void *argument)
{
	const struct producer *self = argument;
	uint64_t numbers[BURST_MAX], next = self->first, end = self->first + items;
	unsigned int empty_looks = 0;

	pin(self->cpu);
	pthread_barrier_wait(&start);
	while (next < end) {
		unsigned int count = end - next < burst ? end - next : burst;
		unsigned int pushed = push(numbers, next, count);

		if (pushed == 0)
			wait_a_moment(&empty_looks);
		next += pushed;
	}
	return NULL;
}

static inline unsigned int pop(uint64_t *numbers)
{
	if (burst == 1)
		return rte_ring_dequeue(ring, (void **)numbers) == 0;
	return rte_ring_dequeue_burst(ring, (void **)numbers, burst, NULL);
}

/* Not zero if these are not `next` and those that follow it. */
static inline uint64_t differ(const uint64_t *numbers, unsigned int count, uint64_t next)
{
	uint64_t difference = 0;

	for (unsigned int at = 0; at < count; at++)
		difference |= numbers[at] ^ (next + at);
	return difference;
}

static void consume_one_producer(void)
{
	uint64_t numbers[BURST_MAX], next = 0, wrong = 0;
	unsigned int empty_looks = 0;

	while (next < items) {
		unsigned int popped = pop(numbers);

		if (popped == 0)
			wait_a_moment(&empty_looks);
		wrong |= differ(numbers, popped, next);
		next += popped;
	}
	if (wrong != 0)
		fail("numbers came in another order");
}

/* Numbers of several producers are told apart by their highest bit. */
static void consume_of_several(unsigned int producers)
{
	uint64_t numbers[BURST_MAX], next[PRODUCERS_MAX] = {0}, wrong = 0, left = items * producers;
	unsigned int empty_looks = 0;

	while (left > 0) {
		unsigned int popped = pop(numbers);

		if (popped == 0)
			wait_a_moment(&empty_looks);
		for (unsigned int at = 0; at < popped; at++)
			wrong |= (numbers[at] << 1 >> 1) ^ next[numbers[at] >> 63]++;
		left -= popped;
	}
	if (wrong != 0)
		fail("numbers of a producer came in another order");
}

static void push_and_pop(void)
{
	uint64_t in[BURST_MAX], out[BURST_MAX], wrong = 0;

	for (uint64_t next = 0; next < items; next += burst) {
		push(in, next, burst);
		wrong |= differ(out, pop(out), next);
	}
	if (wrong != 0)
		fail("other numbers came out than went in");
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static unsigned int parse_producers(char *list, struct producer *producers)
{
	unsigned int count = 0;

	for (char *cpu = strtok(list, ","); cpu != NULL && count < PRODUCERS_MAX; cpu = strtok(NULL, ",")) {
		producers[count] = (struct producer){.cpu = atoi(cpu), .first = (uint64_t)count << 63};
		count++;
	}
	return count;
}

static unsigned int flags_of(const char *kind)
{
	if (strcmp(kind, "spsc") == 0)
		return RING_F_SP_ENQ | RING_F_SC_DEQ;
	if (strcmp(kind, "mpsc") == 0)
		return RING_F_SC_DEQ;
	if (strcmp(kind, "mpmc") == 0)
		return 0;
	fail("KIND is spsc, mpsc or mpmc");
	return 0;
}

int main(int count, char **arguments)
{
	struct producer producers[PRODUCERS_MAX];
	unsigned int number;
	int cpu;

	if (count != 6)
		fail("usage: ring-dpdk KIND PRODUCERS CPU BURST ITEMS");
	number = strcmp(arguments[2], "-") == 0 ? 0 : parse_producers(arguments[2], producers);
	cpu = atoi(arguments[3]);
	burst = atoi(arguments[4]);
	items = strtoull(arguments[5], NULL, 10);
	if (burst < 1 || burst > BURST_MAX)
		fail("BURST is 1 to 256");
	ring = aligned_alloc(RTE_CACHE_LINE_SIZE * 2, rte_ring_get_memsize(CAPACITY));
	/* An exact size has room for all of CAPACITY less one, like the ring that DPDK's own tests measure. */
	if (ring == NULL || rte_ring_init(ring, "bench", CAPACITY, flags_of(arguments[1])) != 0)
		fail("no ring could be made");

	pin(cpu);
	pthread_barrier_init(&start, NULL, number + 1);
	for (unsigned int at = 0; at < number; at++) {
		crowded |= producers[at].cpu == cpu;
		pthread_create(&producers[at].thread, NULL, produce, &producers[at]);
	}
	pthread_barrier_wait(&start);
	double began = now();
	if (number == 0)
		push_and_pop();
	else if (number == 1)
		consume_one_producer();
	else
		consume_of_several(number);
	double seconds = now() - began;

	for (unsigned int at = 0; at < number; at++)
		pthread_join(producers[at].thread, NULL);
	printf("%.3f\n", items * (number > 0 ? number : 1) / seconds / 1e6);
	free(ring);
	return 0;
}

/*
 * DPDK's rte_hash under the load of `podswitch-bench flow-cache`: flows of 16 bytes, looked up in bulk in random order.
 *
 *   flow_cache CPU FLOWS BURST LOOKUPS
 *
 * The table has FLOWS flows and room for twice as many. The output is how many millions of LOOKUPS were done a second; each found
 * value is checked.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_hash.h>

enum { BURST_MAX = 64, ORDER = 1 << 16 };

struct key {
	uint64_t words[2];
};

static void fail(const char *what)
{
	fprintf(stderr, "flow_cache: %s\n", what);
	exit(1);
}

/* The same flows as on the other side, from port to port of two addresses. */
static struct key key_of(uint64_t number)
{
	return (struct key){.words = {(UINT64_C(0x0af40000) + number % 4096) << 32 | UINT64_C(0x0a600001),
				      UINT64_C(6) << 32 | (1024 + number / 4096) << 16 | 443}};
}

/* The generator of the other side: splitmix64. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t mixed = *state += UINT64_C(0x9e3779b97f4a7c15);

	mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94d049bb133111eb);
	return mixed ^ mixed >> 31;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static void start(char *cpu)
{
	char *arguments[] = {"flow_cache", "-l", cpu, "-m", "512", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry",
			     "--log-level", "*:error"};

	if (rte_eal_init(sizeof(arguments) / sizeof(*arguments), arguments) < 0)
		fail("DPDK does not start");
}

int main(int count, char **arguments)
{
	static struct key order[ORDER];
	static uint64_t expected[ORDER];
	uint64_t flows, lookups, state = 1, wrong = 0;
	struct rte_hash *table;
	unsigned int burst;

	if (count != 5)
		fail("usage: flow_cache CPU FLOWS BURST LOOKUPS");
	flows = strtoull(arguments[2], NULL, 10);
	burst = atoi(arguments[3]);
	lookups = strtoull(arguments[4], NULL, 10);
	if (burst < 1 || burst > BURST_MAX || ORDER % burst != 0)
		fail("BURST is a power of two up to 64");
	start(arguments[1]);
	table = rte_hash_create(&(struct rte_hash_parameters){.name = "flows", .entries = 2 * flows, .key_len = 16});
	if (table == NULL)
		fail("no table could be made");
	for (uint64_t number = 0; number < flows; number++) {
		struct key key = key_of(number);

		if (rte_hash_add_key_data(table, &key, (void *)(uintptr_t)(number + 1)) != 0)
			fail("a flow was refused");
	}
	for (unsigned int at = 0; at < ORDER; at++) {
		uint64_t number = next_random(&state) % flows;

		order[at] = key_of(number);
		expected[at] = number + 1;
	}

	double began = now();
	for (uint64_t done = 0; done < lookups; done += burst) {
		unsigned int at = done % ORDER;
		const void *keys[BURST_MAX];
		void *values[BURST_MAX];
		uint64_t hits = 0;

		if (burst == 1) {
			hits = rte_hash_lookup_data(table, &order[at], values) >= 0;
		} else {
			for (unsigned int key = 0; key < burst; key++)
				keys[key] = &order[at + key];
			rte_hash_lookup_bulk_data(table, keys, burst, &hits, values);
		}
		for (unsigned int key = 0; key < burst; key++)
			wrong |= (uint64_t)(uintptr_t)values[key] ^ expected[at + key];
		wrong |= (uint64_t)__builtin_popcountll(hits) ^ burst;
	}
	double seconds = now() - began;

	if (wrong != 0)
		fail("another value was found than was put in");
	printf("%.3f\n", lookups / seconds / 1e6);
	return 0;
}

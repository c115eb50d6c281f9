/*
 * DPDK's longest prefix match under the loads of `podswitch-bench lookup`: bursts of 32 addresses, every answer checked once.
 *
 *   lookup KIND CPU ROUTES KEYS...
 *
 * KIND is lpm, fib, lpm6 or fib6. ROUTES and KEYS are files of records of 20 bytes: 16 of address (an IPv4 address in the first
 * four, network order), one of length, one unused, and the next hop, little-endian; a key's is the answer expected for it. The
 * first line of output is how many seconds loading took. Then each line of input says which file of keys to take, from 0, and
 * how many bursts of it to look up; it goes on where it stopped. Each is answered by how many millions of lookups were done a
 * second.
 *
 * These tables allocate from DPDK's own heap, so its environment is started, with ordinary memory and no devices: no root, no
 * reserved hugepages. That memory is advised to be huge pages, like ours.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>
#include <rte_lpm6.h>
#include <rte_memory.h>

enum { BURST = 32, HALVES_OF_DEFAULT = 2, TBL8_V4 = 1 << 15, TBL8_V6 = 1 << 19, KEYS_MAX = 4 };

struct record {
	uint8_t address[16];
	uint8_t length;
	uint8_t unused;
	uint16_t hop;
};

/* Addresses of one file, and where to go on. */
struct keys {
	uint32_t *v4;
	uint8_t (*v6)[16];
	size_t bursts, next;
};

/* One kind of table: how to make it, fill it and ask it. */
struct kind {
	const char *name;
	bool is_v6;
	void (*make)(unsigned int routes);
	int (*add)(const struct record *route);
	void (*look_up)(const struct keys *keys, size_t burst);
	uint64_t (*answer)(unsigned int at);
};

static struct rte_lpm *lpm;
static struct rte_lpm6 *lpm6;
static struct rte_fib *fib;
static struct rte_fib6 *fib6;

static uint32_t hops32[BURST];
static int32_t hops_signed[BURST];
static uint64_t hops64[BURST];

static void fail(const char *what)
{
	fprintf(stderr, "lookup: %s\n", what);
	exit(1);
}

static uint32_t v4(const uint8_t *address)
{
	return (uint32_t)address[0] << 24 | address[1] << 16 | address[2] << 8 | address[3];
}

static void make_lpm(unsigned int routes)
{
	struct rte_lpm_config config = {.max_rules = routes + HALVES_OF_DEFAULT, .number_tbl8s = TBL8_V4};

	lpm = rte_lpm_create("bench", SOCKET_ID_ANY, &config);
}

/* It knows no prefix of length 0: two halves stand for it. */
static int add_lpm(const struct record *route)
{
	if (route->length > 0)
		return rte_lpm_add(lpm, v4(route->address), route->length, route->hop);
	return rte_lpm_add(lpm, 0, 1, route->hop) | rte_lpm_add(lpm, 1u << 31, 1, route->hop);
}

static void look_up_lpm(const struct keys *keys, size_t burst)
{
	const uint32_t *to = keys->v4 + burst * BURST;

	for (unsigned int at = 0; at < BURST; at += 4)
		rte_lpm_lookupx4(lpm, _mm_loadu_si128((const __m128i *)(to + at)), hops32 + at, 0);
}

static uint64_t answer32(unsigned int at)
{
	return hops32[at];
}

static void make_fib(unsigned int routes)
{
	struct rte_fib_conf config = {.type = RTE_FIB_DIR24_8, .max_routes = routes + 1};

	config.dir24_8.nh_sz = RTE_FIB_DIR24_8_2B;
	config.dir24_8.num_tbl8 = TBL8_V4 - 1;
	fib = rte_fib_create("bench", SOCKET_ID_ANY, &config);
	/* Without AVX-512 the best of the others stays selected. */
	if (fib != NULL)
		(void)rte_fib_select_lookup(fib, RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512);
}

static int add_fib(const struct record *route)
{
	return rte_fib_add(fib, v4(route->address), route->length, route->hop);
}

static void look_up_fib(const struct keys *keys, size_t burst)
{
	rte_fib_lookup_bulk(fib, keys->v4 + burst * BURST, hops64, BURST);
}

static uint64_t answer64(unsigned int at)
{
	return hops64[at];
}

static void make_lpm6(unsigned int routes)
{
	struct rte_lpm6_config config = {.max_rules = routes + HALVES_OF_DEFAULT, .number_tbl8s = TBL8_V6};

	lpm6 = rte_lpm6_create("bench", SOCKET_ID_ANY, &config);
}

static int add_lpm6(const struct record *route)
{
	uint8_t half[16] = {0}, address[16];

	memcpy(address, route->address, sizeof(address));
	if (route->length > 0)
		return rte_lpm6_add(lpm6, address, route->length, route->hop);
	memcpy(address, half, sizeof(half));
	half[0] = 0x80;
	return rte_lpm6_add(lpm6, address, 1, route->hop) | rte_lpm6_add(lpm6, half, 1, route->hop);
}

static void look_up_lpm6(const struct keys *keys, size_t burst)
{
	rte_lpm6_lookup_bulk_func(lpm6, keys->v6 + burst * BURST, hops_signed, BURST);
}

static uint64_t answer_signed(unsigned int at)
{
	return hops_signed[at];
}

static void make_fib6(unsigned int routes)
{
	struct rte_fib6_conf config = {.type = RTE_FIB6_TRIE, .max_routes = routes + 1};

	config.trie.nh_sz = RTE_FIB6_TRIE_4B;
	config.trie.num_tbl8 = TBL8_V6;
	fib6 = rte_fib6_create("bench", SOCKET_ID_ANY, &config);
	if (fib6 != NULL)
		(void)rte_fib6_select_lookup(fib6, RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512);
}

static int add_fib6(const struct record *route)
{
	return rte_fib6_add(fib6, route->address, route->length, route->hop);
}

static void look_up_fib6(const struct keys *keys, size_t burst)
{
	rte_fib6_lookup_bulk(fib6, keys->v6 + burst * BURST, hops64, BURST);
}

static const struct kind KINDS[] = {
	{"lpm", false, make_lpm, add_lpm, look_up_lpm, answer32},
	{"fib", false, make_fib, add_fib, look_up_fib, answer64},
	{"lpm6", true, make_lpm6, add_lpm6, look_up_lpm6, answer_signed},
	{"fib6", true, make_fib6, add_fib6, look_up_fib6, answer64},
};

static const struct kind *kind_of(const char *name)
{
	for (size_t at = 0; at < RTE_DIM(KINDS); at++)
		if (strcmp(KINDS[at].name, name) == 0)
			return &KINDS[at];
	fail("KIND is lpm, fib, lpm6 or fib6");
	return NULL;
}

static struct record *read_records(const char *path, size_t *count)
{
	FILE *file = fopen(path, "rb");
	struct record *records;
	long size;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0 || (size = ftell(file)) < 0)
		fail("a file cannot be read");
	rewind(file);
	*count = size / sizeof(struct record);
	records = malloc(size);
	if (records == NULL || fread(records, sizeof(struct record), *count, file) != *count)
		fail("a file cannot be read");
	fclose(file);
	return records;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static int advise(const struct rte_memseg_list *list, void *advice)
{
	/* Refused where there are no such pages. */
	(void)madvise(list->base_va, list->len, *(int *)advice);
	return 0;
}

static void start_environment(char *cpu)
{
	char *arguments[] = {"lookup", "--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "-m", "2048", "--log-level=error", "--force-max-simd-bitwidth=512",
		"-l", cpu};
	int huge = MADV_HUGEPAGE;

	if (rte_eal_init(RTE_DIM(arguments), arguments) < 0)
		fail(rte_strerror(rte_errno));
	rte_memseg_list_walk(advise, &huge);
}

/* Returns how many seconds it took. */
static double load(const struct kind *kind, const char *path)
{
	size_t count;
	struct record *routes = read_records(path, &count);
	double began = now(), took;

	kind->make(count);
	if (lpm == NULL && lpm6 == NULL && fib == NULL && fib6 == NULL)
		fail("no table could be made");
	for (size_t at = 0; at < count; at++)
		if (kind->add(&routes[at]) != 0)
			fail("a route was refused");
	took = now() - began;
	free(routes);
	return took;
}

/* Keeps the addresses and checks each answer. */
static struct keys prepare(const struct kind *kind, const char *path)
{
	size_t count;
	struct record *records = read_records(path, &count);
	struct keys keys = {.bursts = count / BURST};

	keys.v4 = malloc(count * sizeof(*keys.v4));
	keys.v6 = malloc(count * sizeof(*keys.v6));
	if (keys.v4 == NULL || keys.v6 == NULL)
		fail("no memory for keys");
	for (size_t at = 0; at < count; at++) {
		keys.v4[at] = v4(records[at].address);
		memcpy(keys.v6[at], records[at].address, sizeof(*keys.v6));
	}
	for (size_t burst = 0; burst < keys.bursts; burst++) {
		kind->look_up(&keys, burst);
		for (unsigned int at = 0; at < BURST; at++)
			if (kind->answer(at) != records[burst * BURST + at].hop)
				fail("an answer is wrong");
	}
	free(records);
	return keys;
}

static double measure(const struct kind *kind, struct keys *keys, unsigned long bursts)
{
	double began = now();

	for (unsigned long done = 0; done < bursts; done++) {
		kind->look_up(keys, keys->next);
		asm volatile("" ::: "memory");
		if (++keys->next == keys->bursts)
			keys->next = 0;
	}
	return (double)bursts * BURST / (now() - began) / 1e6;
}

int main(int count, char **arguments)
{
	const struct kind *kind;
	struct keys keys[KEYS_MAX];
	unsigned long which, bursts;
	double loaded;
	int files = count - 4;

	if (files < 1 || files > KEYS_MAX)
		fail("usage: lookup KIND CPU ROUTES KEYS...");
	kind = kind_of(arguments[1]);
	start_environment(arguments[2]);
	loaded = load(kind, arguments[3]);
	for (int file = 0; file < files; file++)
		keys[file] = prepare(kind, arguments[4 + file]);
	/* By now all files have been read. */
	printf("%.6f\n", loaded);
	fflush(stdout);
	while (scanf("%lu %lu", &which, &bursts) == 2 && which < (unsigned long)files) {
		printf("%.3f\n", measure(kind, &keys[which], bursts));
		fflush(stdout);
	}
	return 0;
}

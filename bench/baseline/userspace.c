/* Baseline (c): the same detector in user space. Packets come from a packet socket with a ring, or with -DPCAP from
 * libpcap; features are kept in a hash table; at FIN or RST, onnxruntime judges the flow.
 *
 *   userspace INTERFACE MODEL.onnx LIBONNXRUNTIME.so INPUTS OUTPUTS
 *
 * With `-` for the library, flows are kept and nothing is judged.
 * Prints `ready`, works until SIGTERM, and prints what it did as JSON. A stamp in the payload of the last packet is
 * the time at which it was sent (`tools/traffic.c`): the distance to its verdict is the latency.
 * onnxruntime is opened at run time; its functions are taken by their places in `OrtApi`, which never change.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#ifdef PCAP
#include <pcap/pcap.h>
#endif

#define SLOTS (1 << 14)
#define FEATURES 6
#define MOST_FEATURES 64
#define LATENCIES (1 << 16)
#define RING_BLOCK (1 << 18)
#define RING_BLOCKS 32
#define RING_FRAME 2048
#define MEASURED_RUNS 20000

struct key {
	uint32_t source, destination;
	uint16_t source_port, destination_port;
};

struct flow {
	struct key key;
	int used;
	long long last, max_gap, header_bytes, packets;
	uint32_t max_length, min_length;
};

static struct flow table[SLOTS];
static long long latencies[LATENCIES];
static long long packets, verdicts, stamped;
static volatile sig_atomic_t ended;

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "userspace: %s\n", what);
	exit(1);
}

/* onnxruntime. */
enum { CREATE_ENV = 3, ERROR_MESSAGE = 2, CREATE_SESSION = 7, RUN = 9, CREATE_OPTIONS = 10, INTRA_THREADS = 24, TENSOR_WITH_DATA = 49, CPU_MEMORY = 69 };
typedef void *status;
struct api_base {
	void *const *(*get)(uint32_t version);
	const char *(*version)(void);
};

static void *const *api;
static void *session, *tensors[2];
static float input[MOST_FEATURES], output[MOST_FEATURES];

static void check(status failed)
{
	if (failed)
		die(((const char *(*)(status))api[ERROR_MESSAGE])(failed));
}

static void prepare(const char *model, const char *library, int64_t inputs, int64_t outputs)
{
	void *handle = dlopen(library, RTLD_NOW), *env, *options, *memory;
	struct api_base *(*base)(void) = handle ? (struct api_base * (*)(void)) dlsym(handle, "OrtGetApiBase") : NULL;
	int64_t shapes[2][2] = {{1, inputs}, {1, outputs}};
	float *values[2] = {input, output};

	if (!base || inputs > MOST_FEATURES || outputs > MOST_FEATURES)
		die(handle ? "no onnxruntime, or too many features" : dlerror());
	api = base()->get(1);
	if (!api)
		die("onnxruntime does not have version 1 of its interface");
	check(((status(*)(int, const char *, void **))api[CREATE_ENV])(3, "bench", &env));
	check(((status(*)(void **))api[CREATE_OPTIONS])(&options));
	check(((status(*)(void *, int))api[INTRA_THREADS])(options, 1));
	check(((status(*)(void *, const char *, void *, void **))api[CREATE_SESSION])(env, model, options, &session));
	check(((status(*)(int, int, void **))api[CPU_MEMORY])(1, 0, &memory));
	for (int which = 0; which < 2; which++)
		check(((status(*)(void *, void *, size_t, const int64_t *, size_t, int, void **))api[TENSOR_WITH_DATA])(
			memory, values[which], shapes[which][1] * sizeof(float), shapes[which], 2, 1, &tensors[which]));
}

static void infer(void)
{
	static const char *const names[2] = {"features", "logits"};

	if (!session)
		return;
	check(((status(*)(void *, void *, const char *const *, void *const *, size_t, const char *const *, size_t, void **))api[RUN])(
		session, NULL, &names[0], &tensors[0], 1, &names[1], 1, &tensors[1]));
}

static struct flow *find(const struct key *key)
{
	uint32_t hash = (key->source * 2654435761u) ^ (key->destination * 40503u) ^ (key->source_port << 16 | key->destination_port) * 2246822519u;

	for (uint32_t probe = 0; probe < 16; probe++) {
		struct flow *flow = &table[(hash + probe) % SLOTS];

		if (flow->used && !memcmp(&flow->key, key, sizeof(*key)))
			return flow;
		if (!flow->used || probe == 15) {
			*flow = (struct flow){.key = *key, .used = 1, .last = -1, .min_length = UINT32_MAX};
			return flow;
		}
	}
	return NULL;
}

static void packet(const unsigned char *data, uint32_t size, long long time)
{
	const struct ether_header *ethernet = (void *)data;
	const struct iphdr *ip = (void *)(data + sizeof(*ethernet));
	const struct tcphdr *tcp;
	struct flow *flow;
	struct key key;
	uint32_t length;
	long long stamp;

	if (size < sizeof(*ethernet) + sizeof(*ip) || ethernet->ether_type != htons(ETHERTYPE_IP) || ip->protocol != IPPROTO_TCP)
		return;
	tcp = (void *)((const unsigned char *)ip + ip->ihl * 4);
	if ((const unsigned char *)(tcp + 1) > data + size)
		return;
	packets++;
	key = (struct key){ip->saddr, ip->daddr, tcp->source, tcp->dest};
	flow = find(&key);
	length = ntohs(ip->tot_len) - ip->ihl * 4;
	if (flow->last >= 0 && time - flow->last > flow->max_gap)
		flow->max_gap = time - flow->last;
	flow->last = time;
	flow->max_length = length > flow->max_length ? length : flow->max_length;
	flow->min_length = length < flow->min_length ? length : flow->min_length;
	flow->header_bytes += tcp->doff * 4;
	flow->packets++;
	if (!tcp->fin && !tcp->rst)
		return;
	float values[FEATURES] = {flow->max_length, flow->max_gap, flow->min_length, ntohs(tcp->dest), flow->header_bytes, flow->packets};
	memcpy(input, values, sizeof(values));
	infer();
	verdicts++;
	flow->used = 0;
	if (data + size >= (const unsigned char *)(tcp + 1) + sizeof(stamp)) {
		memcpy(&stamp, tcp + 1, sizeof(stamp));
		long long late = now() - stamp;

		/* Other payloads are no time of the last seconds. */
		if (late > 0 && late < 10000000000LL)
			latencies[stamped++ % LATENCIES] = late;
	}
}

static void end(int number)
{
	(void)number;
	ended = 1;
}

#ifdef PCAP
static pcap_t *capture;

static void each(u_char *unused, const struct pcap_pkthdr *header, const u_char *data)
{
	(void)unused;
	packet(data, header->caplen, header->ts.tv_sec * 1000000000LL + header->ts.tv_usec * 1000LL);
}

static void work(const char *interface)
{
	char error[PCAP_ERRBUF_SIZE];

	capture = pcap_create(interface, error);
	if (!capture || pcap_set_snaplen(capture, 128) || pcap_set_immediate_mode(capture, 1) || pcap_set_timeout(capture, 10) ||
	    pcap_activate(capture) < 0 || pcap_setdirection(capture, PCAP_D_IN))
		die("libpcap cannot capture there");
	pcap_setnonblock(capture, 1, error);
	puts("ready");
	fflush(stdout);
	struct pollfd wait = {.fd = pcap_get_selectable_fd(capture), .events = POLLIN};
	while (!ended) {
		if (pcap_dispatch(capture, -1, each, NULL) == 0)
			poll(&wait, 1, 100);
	}
}

static long long lost(void)
{
	struct pcap_stat stat = {};

	pcap_stats(capture, &stat);
	return stat.ps_drop;
}
#else
static int fd;

static void work(const char *interface)
{
	struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = if_nametoindex(interface)};
	struct tpacket_req ring = {RING_BLOCK, RING_BLOCKS, RING_FRAME, RING_BLOCK / RING_FRAME * RING_BLOCKS};
	int version = TPACKET_V2;
	unsigned char *frames;

	fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)) || bind(fd, (void *)&address, sizeof(address)))
		die("no packet socket there");
	frames = mmap(NULL, (size_t)RING_BLOCK * RING_BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (frames == MAP_FAILED)
		die("no ring");
	puts("ready");
	fflush(stdout);
	struct pollfd wait = {.fd = fd, .events = POLLIN};
	for (unsigned at = 0; !ended;) {
		struct tpacket2_hdr *header = (void *)(frames + (size_t)at * RING_FRAME);
		struct sockaddr_ll *from = (void *)((unsigned char *)header + TPACKET_ALIGN(sizeof(*header)));

		if (!(__atomic_load_n(&header->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
			poll(&wait, 1, 100);
			continue;
		}
		if (from->sll_pkttype != PACKET_OUTGOING)
			packet((unsigned char *)header + header->tp_mac, header->tp_snaplen, header->tp_sec * 1000000000LL + header->tp_nsec);
		__atomic_store_n(&header->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		at = (at + 1) % ring.tp_frame_nr;
	}
}

static long long lost(void)
{
	struct tpacket_stats stats = {};
	socklen_t size = sizeof(stats);

	getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size);
	return stats.tp_drops;
}
#endif

static int order(const void *left, const void *right)
{
	long long a = *(const long long *)left, b = *(const long long *)right;

	return (a > b) - (a < b);
}

static long long cpu(struct rusage *usage)
{
	getrusage(RUSAGE_SELF, usage);
	return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000000LL + (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000LL;
}

int main(int count, char **word)
{
	struct sigaction action = {.sa_handler = end};
	struct rusage before, after;
	long long begin, spent, runs;

	if (count != 6)
		die("usage: userspace INTERFACE MODEL.onnx LIBONNXRUNTIME.so INPUTS OUTPUTS");
	if (strcmp(word[3], "-"))
		prepare(word[2], word[3], atoi(word[4]), atoi(word[5]));
	sigaction(SIGTERM, &action, NULL);
	infer();
	begin = cpu(&before);
	work(word[1]);
	spent = cpu(&after) - begin;
	long long missing = lost(), kept = stamped < LATENCIES ? stamped : LATENCIES;
	qsort(latencies, kept, sizeof(*latencies), order);
	runs = now();
	for (int index = 0; index < MEASURED_RUNS; index++)
		infer();
	printf("{\"packets\": %lld, \"verdicts\": %lld, \"lost\": %lld, \"cpu_ns\": %lld, \"switches\": %ld, \"infer_ns\": %lld, "
	       "\"latencies\": %lld, \"latency_median\": %lld, \"latency_99\": %lld, \"latency_max\": %lld}\n",
	       packets, verdicts, missing, spent, after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw,
	       (now() - runs) / MEASURED_RUNS, kept, kept ? latencies[kept / 2] : 0, kept ? latencies[kept * 99 / 100] : 0,
	       kept ? latencies[kept - 1] : 0);
	return 0;
}

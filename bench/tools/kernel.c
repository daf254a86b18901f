/* Programs in the kernel, under the harness's command: one command per line on standard input, one line of JSON
 * per answer. Everything that is loaded or attached goes away with this process.
 *
 *   load NAME OBJECT                    programs and maps, with the verifier's work and locked memory
 *   tail NAME MAP INDEX PROGRAM         an entry of a program array
 *   set NAME MAP KEY VALUE              a map entry in hexadecimal; per-CPU maps get it on every processor
 *   file NAME MAP KEY PATH              the same with the content of a file
 *   run NAME PROGRAM FRAME REPEAT       nanoseconds per run, by the kernel's own test run
 *   live NAME PROGRAM FRAME REPEAT      nanoseconds of processor time per frame, by live XDP frames
 *   attach NAME PROGRAM INTERFACE       XDP on an interface of this network namespace
 *   stats on|off                        run time accounting of all programs
 *   spent NAME PROGRAM                  nanoseconds and runs since accounting began
 *   events NAME MAP MILLISECONDS        time and source port of each record, and when it was read
 */
#define _GNU_SOURCE
#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>

#define OBJECTS 256
#define PROGRAMS 64
#define LOG_BYTES (1 << 16)
#define LIVE_BATCH 64
#define FRAME_BYTES 4096
/* Offset of the source port in a verdict's record. */
#define EVENT_PORT 64
#define EVENT_BYTES 80

static struct loaded {
	char name[64];
	struct bpf_object *object;
} loaded[OBJECTS];

static int stats = -1;
/* The first thing that libbpf has complained of since the last command. */
static char complaint[256];

static void answer(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	putchar('\n');
	fflush(stdout);
}

static void fail(const char *what, int error)
{
	for (char *at = complaint; *at; at++)
		if (*at == '"' || *at == '\\' || *at < ' ')
			*at = ' ';
	answer("{\"error\": \"%s: %s %s\"}", what, strerror(error < 0 ? -error : error), complaint);
}

static long long clock_ns(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static long long now(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

static struct bpf_object *find(const char *name)
{
	for (int index = 0; index < OBJECTS; index++)
		if (loaded[index].object && !strcmp(loaded[index].name, name))
			return loaded[index].object;
	return NULL;
}

static int program_fd(const char *name, const char *program)
{
	struct bpf_object *object = find(name);
	struct bpf_program *found = object ? bpf_object__find_program_by_name(object, program) : NULL;

	return found ? bpf_program__fd(found) : -ENOENT;
}

/* A number of /proc/self/fdinfo. */
static long long fdinfo(int fd, const char *field)
{
	char path[64], line[256];
	long long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "r");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (!strncmp(line, field, strlen(field)) && line[strlen(field)] == ':')
			value = atoll(line + strlen(field) + 1);
	fclose(file);
	return value;
}

static long long after(const char *log, const char *words)
{
	const char *at = strstr(log, words);

	return at ? atoll(at + strlen(words)) : -1;
}

static void load(const char *name, const char *path)
{
	struct bpf_object *object = bpf_object__open_file(path, NULL);
	struct bpf_program *program;
	struct bpf_map *map;
	char *logs[PROGRAMS] = {};
	const char *comma = "";
	long long begin, end;
	int count = 0, slot = 0, error;

	while (slot < OBJECTS && loaded[slot].object && strcmp(loaded[slot].name, name))
		slot++;
	if (!object || slot == OBJECTS)
		return fail("open", errno);
	if (loaded[slot].object)
		bpf_object__close(loaded[slot].object);
	loaded[slot].object = NULL;
	bpf_object__for_each_program(program, object) {
		if (count == PROGRAMS)
			break;
		logs[count] = calloc(1, LOG_BYTES);
		bpf_program__set_log_buf(program, logs[count++], LOG_BYTES);
		bpf_program__set_log_level(program, 4);
	}
	begin = now();
	error = bpf_object__load(object);
	end = now();
	if (error) {
		bpf_object__close(object);
		return fail("load", error);
	}
	snprintf(loaded[slot].name, sizeof(loaded[slot].name), "%s", name);
	loaded[slot].object = object;
	printf("{\"load_ms\": %.3f, \"programs\": [", (end - begin) / 1e6);
	count = 0;
	bpf_object__for_each_program(program, object) {
		struct bpf_prog_info info = {};
		__u32 size = sizeof(info);
		char *log = count < PROGRAMS ? logs[count++] : "";

		bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size);
		printf("%s{\"name\": \"%s\", \"instructions\": %u, \"walked\": %lld, \"verifier_us\": %lld, \"memlock\": %lld}",
		       comma, bpf_program__name(program), info.xlated_prog_len / 8, after(log, "processed "),
		       after(log, "verification time "), fdinfo(bpf_program__fd(program), "memlock"));
		comma = ", ";
	}
	printf("], \"maps\": [");
	comma = "";
	bpf_object__for_each_map(map, object) {
		printf("%s{\"name\": \"%s\", \"value_size\": %u, \"max_entries\": %u, \"memlock\": %lld}", comma,
		       bpf_map__name(map), bpf_map__value_size(map), bpf_map__max_entries(map),
		       fdinfo(bpf_map__fd(map), "memlock"));
		comma = ", ";
	}
	answer("]}");
	while (count)
		free(logs[--count]);
}

static size_t hex(const char *text, unsigned char *bytes, size_t room)
{
	size_t count = 0;
	unsigned value;

	for (; count < room && sscanf(text + 2 * count, "%2x", &value) == 1 && text[2 * count]; count++)
		bytes[count] = value;
	return count;
}

/* Copies the value to every processor's place where the map has several. */
static void set(const char *name, const char *map_name, const char *key_text, const unsigned char *value, size_t size)
{
	struct bpf_object *object = find(name);
	struct bpf_map *map = object ? bpf_object__find_map_by_name(object, map_name) : NULL;
	unsigned char key[64] = {}, *all;
	size_t padded = (size + 7) & ~(size_t)7, copies = 1;
	int error;

	if (!map)
		return fail(map_name, ENOENT);
	if (size != bpf_map__value_size(map) || hex(key_text, key, sizeof(key)) != bpf_map__key_size(map))
		return fail(map_name, EMSGSIZE);
	if (bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY || bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_HASH)
		copies = libbpf_num_possible_cpus();
	all = calloc(copies, padded);
	for (size_t copy = 0; copy < copies; copy++)
		memcpy(all + copy * padded, value, size);
	error = bpf_map_update_elem(bpf_map__fd(map), key, all, BPF_ANY);
	free(all);
	if (error)
		return fail(map_name, errno);
	answer("{}");
}

static unsigned char *content(const char *path, size_t *size)
{
	FILE *file = fopen(path, "rb");
	unsigned char *bytes;

	if (!file)
		return NULL;
	fseek(file, 0, SEEK_END);
	*size = ftell(file);
	rewind(file);
	bytes = calloc(1, *size + 1);
	if (fread(bytes, 1, *size, file) != *size)
		*size = 0;
	fclose(file);
	return bytes;
}

static void tail(const char *name, const char *map_name, __u32 index, const char *program)
{
	struct bpf_object *object = find(name);
	struct bpf_map *map = object ? bpf_object__find_map_by_name(object, map_name) : NULL;
	int fd = program_fd(name, program);

	if (!map || fd < 0)
		return fail(map_name, ENOENT);
	if (bpf_map_update_elem(bpf_map__fd(map), &index, &fd, BPF_ANY))
		return fail(map_name, errno);
	answer("{}");
}

static void run(const char *name, const char *program, const char *path, int repeat, int live)
{
	int fd = program_fd(name, program), error;
	struct xdp_md context = {};
	unsigned char *frame;
	size_t size;
	long long begin;
	LIBBPF_OPTS(bpf_test_run_opts, options, .repeat = repeat);

	if (fd < 0)
		return fail(program, fd);
	frame = content(path, &size);
	if (!frame)
		return fail(path, errno);
	options.data_in = frame;
	options.data_size_in = size;
	if (live) {
		context.data_end = size;
		context.ingress_ifindex = 1;
		options.ctx_in = &context;
		options.ctx_size_in = sizeof(context);
		options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
		options.batch_size = LIVE_BATCH;
	}
	/* This thread's time: what else runs on the processor meanwhile is no part of a live sample. */
	begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
	error = bpf_prog_test_run_opts(fd, &options);
	if (error)
		fail("test run", errno);
	else if (live)
		answer("{\"ns\": %.2f}", (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - begin) / repeat);
	else
		answer("{\"ns\": %u, \"returned\": %u}", options.duration, options.retval);
	free(frame);
}

static void attach(const char *name, const char *program, const char *interface)
{
	struct bpf_object *object = find(name);
	struct bpf_program *found = object ? bpf_object__find_program_by_name(object, program) : NULL;

	/* The link is never destroyed: it ends with the process. */
	if (!found || !bpf_program__attach_xdp(found, if_nametoindex(interface)))
		return fail("attach", found ? errno : ENOENT);
	answer("{}");
}

static void spent(const char *name, const char *program)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);
	int fd = program_fd(name, program);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &size))
		return fail(program, ENOENT);
	answer("{\"ns\": %llu, \"runs\": %llu}", info.run_time_ns, info.run_cnt);
}

static int print_event(void *first, void *data, size_t size)
{
	unsigned char *record = data;
	unsigned long long time;
	unsigned short port;

	if (size < EVENT_BYTES)
		return 0;
	memcpy(&time, record, sizeof(time));
	memcpy(&port, record + EVENT_PORT, sizeof(port));
	printf("%s[%llu, %u, %lld]", *(int *)first ? "" : ", ", time, port, now());
	*(int *)first = 0;
	return 0;
}

static void events(const char *name, const char *map_name, int milliseconds)
{
	struct bpf_object *object = find(name);
	int fd = object ? bpf_object__find_map_fd_by_name(object, map_name) : -ENOENT, first = 1;
	struct ring_buffer *ring = fd < 0 ? NULL : ring_buffer__new(fd, print_event, &first, NULL);
	long long end = now() + milliseconds * 1000000LL;

	if (!ring)
		return fail(map_name, ENOENT);
	printf("[");
	while (now() < end)
		ring_buffer__poll(ring, 10);
	answer("]");
	ring_buffer__free(ring);
}

static int remember(enum libbpf_print_level level, const char *format, va_list arguments)
{
	if (level == LIBBPF_WARN && !*complaint)
		vsnprintf(complaint, sizeof(complaint), format, arguments);
	return 0;
}

int main(void)
{
	static char line[1 << 20];

	libbpf_set_print(remember);
	while (fgets(line, sizeof(line), stdin)) {
		char *word[6] = {"", "", "", "", "", ""}, *rest = line;

		*complaint = '\0';
		for (int index = 0; index < 6 && (rest = strtok(index ? NULL : line, " \n")); index++)
			word[index] = rest;
		if (!strcmp(word[0], "load")) {
			load(word[1], word[2]);
		} else if (!strcmp(word[0], "tail")) {
			tail(word[1], word[2], atoi(word[3]), word[4]);
		} else if (!strcmp(word[0], "set")) {
			unsigned char value[4096];
			size_t size = hex(word[4], value, sizeof(value));

			set(word[1], word[2], word[3], value, size);
		} else if (!strcmp(word[0], "file")) {
			size_t size = 0;
			unsigned char *value = content(word[4], &size);

			set(word[1], word[2], word[3], value, size);
			free(value);
		} else if (!strcmp(word[0], "run") || !strcmp(word[0], "live")) {
			run(word[1], word[2], word[3], atoi(word[4]), word[0][0] == 'l');
		} else if (!strcmp(word[0], "attach")) {
			attach(word[1], word[2], word[3]);
		} else if (!strcmp(word[0], "stats")) {
			if (stats >= 0)
				close(stats);
			stats = strcmp(word[1], "on") ? -1 : bpf_enable_stats(BPF_STATS_RUN_TIME);
			answer("{}");
		} else if (!strcmp(word[0], "spent")) {
			spent(word[1], word[2]);
		} else if (!strcmp(word[0], "events")) {
			events(word[1], word[2], atoi(word[3]));
		} else {
			fail("no such command", EINVAL);
		}
	}
	return 0;
}

/* Traffic of the benchmark.
 *
 *   serve PORT                          takes TCP connections and reads them, until it is ended
 *   load ADDRESS PORT FLOWS MS BYTES    that many connections at once for so long, each sending BYTES, closing,
 *                                       and connecting anew; prints bytes and connections as JSON
 *   frames INTERFACE FLOWS GAP_US       flows of 10 TCP segments; the last one has FIN and, in its payload, the
 *                                       time at which it was sent; prints [port, time] of each flow as JSON
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER (128 << 10)
#define EVENTS 64
#define MOST_FLOWS 1024
#define SEGMENTS 10
#define PAYLOAD 60
#define FIRST_PORT 1024

static char buffer[BUFFER];

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void __attribute__((noreturn)) serve(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct epoll_event events[EVENTS], event = {.events = EPOLLIN};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, MOST_FLOWS))
		die("serve");
	event.data.fd = listener;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
	puts("ready");
	fflush(stdout);
	for (;;) {
		int count = epoll_wait(epoll, events, EVENTS, -1);

		for (int index = 0; index < count; index++) {
			int fd = events[index].data.fd;

			if (fd == listener) {
				fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
				event.data.fd = fd;
				if (fd >= 0)
					epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
			} else {
				ssize_t got = recv(fd, buffer, sizeof(buffer), 0);

				if (got == 0 || (got < 0 && errno != EAGAIN))
					close(fd);
			}
		}
	}
}

struct flow {
	int fd;
	long long left;
};

static void connect_flow(int epoll, struct flow *flow, struct sockaddr_in *to, long long bytes)
{
	struct epoll_event event = {.events = EPOLLOUT, .data.ptr = flow};

	flow->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	flow->left = bytes;
	if (flow->fd < 0 || (connect(flow->fd, (void *)to, sizeof(*to)) && errno != EINPROGRESS))
		die("connect");
	epoll_ctl(epoll, EPOLL_CTL_ADD, flow->fd, &event);
}

static int load(const char *address, int port, int flows, int milliseconds, long long bytes)
{
	static struct flow all[MOST_FLOWS];
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct epoll_event events[EVENTS];
	long long end = now() + milliseconds * 1000000LL, sent = 0, connections = 0;
	int epoll = epoll_create1(0);

	inet_pton(AF_INET, address, &to.sin_addr);
	for (int index = 0; index < flows && index < MOST_FLOWS; index++)
		connect_flow(epoll, &all[index], &to, bytes);
	while (now() < end) {
		int count = epoll_wait(epoll, events, EVENTS, 10);

		for (int index = 0; index < count; index++) {
			struct flow *flow = events[index].data.ptr;
			size_t size = flow->left < BUFFER ? flow->left : BUFFER;
			ssize_t done = send(flow->fd, buffer, size, MSG_NOSIGNAL);

			if (done < 0 && errno != EAGAIN)
				die("send");
			if (done <= 0)
				continue;
			sent += done;
			flow->left -= done;
			if (!flow->left) {
				connections++;
				close(flow->fd);
				connect_flow(epoll, flow, &to, bytes);
			}
		}
	}
	printf("{\"bytes\": %lld, \"connections\": %lld}\n", sent, connections);
	return 0;
}

static int frames(const char *interface, int flows, long gap_us)
{
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(interface)};
	struct {
		struct ether_header ethernet;
		struct iphdr ip;
		struct tcphdr tcp;
		unsigned char payload[PAYLOAD];
	} __attribute__((packed)) frame = {};
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	long long next = now();

	if (fd < 0 || bind(fd, (void *)&to, sizeof(to)))
		die(interface);
	memset(frame.ethernet.ether_dhost, 0xff, 6);
	frame.ethernet.ether_shost[0] = 2;
	frame.ethernet.ether_type = htons(ETHERTYPE_IP);
	frame.ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons(sizeof(frame) - 14)};
	/* Addresses of RFC 5737. */
	frame.ip.saddr = htonl(0xc0000201);
	frame.ip.daddr = htonl(0xc0000202);
	frame.tcp.dest = htons(22);
	frame.tcp.doff = 5;
	frame.tcp.ack = 1;
	printf("[");
	for (int flow = 0; flow < flows; flow++) {
		long long stamp = 0;

		frame.tcp.source = htons(FIRST_PORT + flow % (65536 - FIRST_PORT));
		for (int segment = 0; segment < SEGMENTS; segment++) {
			frame.tcp.fin = segment == SEGMENTS - 1;
			while (gap_us && now() < next)
				;
			next += gap_us * 1000;
			stamp = frame.tcp.fin ? now() : 0;
			memcpy(frame.payload, &stamp, sizeof(stamp));
			while (send(fd, &frame, sizeof(frame), 0) < 0)
				if (errno != ENOBUFS && errno != EAGAIN)
					die("send");
		}
		if (gap_us)
			printf("%s[%d, %lld]", flow ? ", " : "", FIRST_PORT + flow % (65536 - FIRST_PORT), stamp);
	}
	printf("]\n");
	return 0;
}

int main(int count, char **word)
{
	if (count == 3 && !strcmp(word[1], "serve"))
		serve(atoi(word[2]));
	if (count == 7 && !strcmp(word[1], "load"))
		return load(word[2], atoi(word[3]), atoi(word[4]), atoi(word[5]), atoll(word[6]));
	if (count == 5 && !strcmp(word[1], "frames"))
		return frames(word[2], atoi(word[3]), atol(word[4]));
	fputs("usage: traffic serve PORT | load ADDRESS PORT FLOWS MS BYTES | frames INTERFACE FLOWS GAP_US\n", stderr);
	return 2;
}

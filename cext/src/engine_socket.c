#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"

enum { BACKLOG = 1024 };

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static socklen_t to_socket(const struct dp_address *a, union socket_address *out) {
    memset(out, 0, sizeof *out);
    if (a->family == 4) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(a->port);
        memcpy(&out->v4.sin_addr, a->ip, 4);
        return sizeof out->v4;
    }
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(a->port);
    memcpy(&out->v6.sin6_addr, a->ip, 16);
    return sizeof out->v6;
}

static struct dp_address from_socket(const union socket_address *s) {
    struct dp_address a = {0};
    if (s->any.sa_family == AF_INET) {
        a.family = 4;
        a.port = ntohs(s->v4.sin_port);
        memcpy(a.ip, &s->v4.sin_addr, 4);
    } else if (s->any.sa_family == AF_INET6) {
        a.family = 6;
        a.port = ntohs(s->v6.sin6_port);
        memcpy(a.ip, &s->v6.sin6_addr, 16);
    }
    return a;
}

static int stream_socket(const struct dp_address *a) {
    return socket(a->family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                  0);
}

static bool set(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) == 0;
}

static bool prepare_listener(int fd, const struct dp_address *a) {
    return set(fd, SOL_SOCKET, SO_REUSEADDR, 1) && set(fd, SOL_SOCKET, SO_REUSEPORT, 1) &&
           (a->family == 4 || set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1));
}

int socket_listen(const struct dp_address *a, uint16_t *port) {
    union socket_address address;
    socklen_t len = to_socket(a, &address);
    int fd = stream_socket(a);
    if (fd < 0)
        return -1;
    if (prepare_listener(fd, a) && bind(fd, &address.any, len) == 0 && listen(fd, BACKLOG) == 0 &&
        getsockname(fd, &address.any, &len) == 0) {
        *port = from_socket(&address).port;
        return fd;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int socket_connect(const struct dp_address *a) {
    union socket_address address;
    socklen_t len = to_socket(a, &address);
    int fd = stream_socket(a);
    if (fd < 0)
        return -1;
    if (connect(fd, &address.any, len) == 0 || errno == EINPROGRESS)
        return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

int socket_accept(int listener, struct dp_address *remote) {
    union socket_address address;
    socklen_t len = sizeof address;
    int fd = accept4(listener, &address.any, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        *remote = from_socket(&address);
    return fd;
}

int socket_error(int fd) {
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

/* A kernel that refuses one of these still carries the bytes. */

void socket_no_delay(int fd) {
    (void)set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

void socket_low_water(int fd, uint32_t bytes) {
    (void)set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)bytes);
}

uint64_t socket_unsent(int fd) {
    int unsent = 0;
    return ioctl(fd, SIOCOUTQNSD, &unsent) == 0 && unsent > 0 ? (uint64_t)unsent : 0;
}

static bool same_prefix(const struct dp_address *a, const struct dp_address *b, size_t ipv4,
                        size_t ipv6) {
    size_t len = a->family == 4 ? ipv4 : ipv6;
    return a->family == b->family && memcmp(a->ip, b->ip, len) == 0;
}

bool same_source(const struct dp_address *a, const struct dp_address *b) {
    return same_prefix(a, b, 4, 8);
}

bool same_network(const struct dp_address *a, const struct dp_address *b) {
    return same_prefix(a, b, 3, 6);
}

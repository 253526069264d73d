/* The edge: sockets, epoll and the clock. Drives the links of one node. */
#ifndef DP2P_ENGINE_H
#define DP2P_ENGINE_H

#include <sys/epoll.h>

#include "node.h"
#include "pace.h"

enum {
    WATCHES_MAX = 32,
    LISTENERS_MAX = 16,
    EVENTS_PER_POLL = 256,
    RX_CAP = 262144,   /* read at a time */
    SHAKE_CAP = 36864, /* and until a link is established: more than a message or a frame */
    TX_CAP = PACE_CHUNK_MAX
};

enum source_kind { SOURCE_LISTENER, SOURCE_CONNECTION, SOURCE_WATCH };

/* What an epoll entry points at; the first member of each kind. */
struct source {
    enum source_kind kind;
    int fd; /* -1 when unused */
};

struct watch {
    struct source source;
    uint32_t tag;
};

struct connection {
    struct source source;
    struct dp_engine *engine;
    struct link *link;
    struct buffer *in;  /* bytes that the link has not taken, or NULL */
    struct buffer *out; /* bytes that the kernel has not taken, or NULL */
    struct connection *next_resumed;
    struct pace pace;
    uint32_t interest;  /* epoll events asked for */
    uint32_t low_water; /* the socket's, bytes */
    bool connecting, blocked, resumed;
};

struct dp_engine {
    dp_node *node;
    int epoll;
    int spare_fd; /* given up for a moment to refuse politely when descriptors run out */
    struct source listeners[LISTENERS_MAX];
    struct watch watches[WATCHES_MAX];
    uint64_t bytes_in_before;   /* when it last waited */
    bool prompt;                /* events came soon after it last fell asleep */
    struct connection *resumed; /* whose links read again */
    uint8_t *rx, *tx;           /* scratch of RX_CAP and TX_CAP bytes */
};

/* --- engine_socket.c: what differs between transports and address families --- */
int socket_listen(const struct dp_address *address, uint16_t *port);
/* Returns a descriptor that connects, or -1 with errno. */
int socket_connect(const struct dp_address *address);
int socket_accept(int listener, struct dp_address *remote);
int socket_error(int fd);
void socket_no_delay(int fd);
/* Below how many unsent bytes it is writable. */
void socket_low_water(int fd, uint32_t bytes);
/* Bytes that the kernel has not sent yet; 0 when it does not say. */
uint64_t socket_unsent(int fd);
/* The part of an address that caps count by: all of IPv4, the /64 of IPv6. */
bool same_source(const struct dp_address *a, const struct dp_address *b);
/* And the part that neighbours share: the /24 of IPv4, the /48 of IPv6. */
bool same_network(const struct dp_address *a, const struct dp_address *b);

/* --- engine_accept.c --- */
void engine_accept(struct dp_engine *engine, int listener);

/* --- engine_connection.c --- */
/* Give `fd` to `link`. Errors: DP_E_IO, DP_E_MEMORY; the caller keeps both then. */
int connection_open(struct dp_engine *engine, struct link *link, int fd, bool connecting);
/* Close the socket of a dead link and forget what was not read or written. */
void connection_close(struct connection *connection);
void connection_write(struct connection *connection);
void connection_on_events(struct connection *connection, uint32_t events);
/* Note that a link reads again; connections_resume then offers it what it has left. */
void connection_resume_later(struct link *link);
void connections_resume(struct dp_engine *engine);

/* --- engine.c --- */
uint64_t engine_now_us(void); /* monotonic */
int engine_add_source(struct dp_engine *engine, struct source *source, uint32_t events);

#endif

#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { KEEP_MAPPED = 32 << 20, KEEP_FREE = 64 << 20, GROW_BY = 1 << 20 }; /* bytes, for malloc */
enum { STREAMS_FROM = 65536, LOOK_US = 200 };                             /* ours */

uint64_t engine_now_us(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t dp_engine_now(void) {
    return engine_now_us() / 1000;
}

/* --- connections --- */

int engine_add_source(struct dp_engine *engine, struct source *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(engine->epoll, EPOLL_CTL_ADD, source->fd, &event) == 0 ? DP_OK : DP_E_IO;
}

static void reap(struct dp_engine *engine) {
    while (engine->node->reap) {
        struct link *link = engine->node->reap;
        engine->node->reap = link->next_reap;
        if (link->owner)
            connection_close(link->owner);
        link_free(link);
    }
}

/* A farewell waits for bytes that were refused, but not for a short queue. */
static bool may_write(const struct connection *c) {
    uint8_t state = c->link->state;
    bool waits = c->blocked && (c->out || state < DP_LINK_CLOSING);
    return !c->connecting && !waits && state < DP_LINK_DEAD;
}

void dp_engine_flush(dp_engine *engine) {
    dp_node *node = engine->node;
    struct link *last = node->dirty_tail;
    for (bool more = last != NULL; more;) {
        struct link *link = node->dirty;
        more = link != last;
        node->dirty = link->next_dirty;
        if (!node->dirty)
            node->dirty_tail = NULL;
        link->dirty = false;
        if (link->owner && may_write(link->owner))
            connection_write(link->owner);
    }
}

/* --- events --- */

static void dispatch(struct dp_engine *engine, const struct epoll_event *event, uint64_t *woken) {
    struct source *source = event->data.ptr;
    switch (source->kind) {
    case SOURCE_LISTENER:
        engine_accept(engine, source->fd);
        break;
    case SOURCE_CONNECTION:
        connection_on_events((struct connection *)source, event->events);
        break;
    case SOURCE_WATCH:
        *woken |= UINT64_C(1) << ((struct watch *)source)->tag;
        break;
    }
}

/* How long epoll may sleep. */
static int sleep_ms(const struct dp_engine *engine, int timeout_ms, uint64_t next_ms) {
    uint64_t caps_ms = caps_due(engine->node); /* of who has come to wait since the tick */
    next_ms = caps_ms < next_ms ? caps_ms : next_ms;
    if (engine->node->dirty || engine->node->busy)
        return 0;
    if (next_ms == UINT64_MAX)
        return timeout_ms;
    uint64_t wait = next_ms > engine->node->now_ms ? next_ms - engine->node->now_ms : 0;
    return timeout_ms >= 0 && (uint64_t)timeout_ms < wait ? timeout_ms
           : wait < 60000                                 ? (int)wait
                                                          : 60000;
}

/* Look for events again and again, for LOOK_US at most. */
static int look(struct dp_engine *engine, struct epoll_event *events) {
    uint64_t until = engine_now_us() + LOOK_US;
    int n;
    while ((n = epoll_wait(engine->epoll, events, EVENTS_PER_POLL, 0)) == 0 &&
           engine_now_us() < until)
        sched_yield();
    return n;
}

/* While bytes stream in so fast that the next ones are only microseconds away, to look again costs
 * less than to sleep, and spares the sender the work of waking this process. How long the last sleep
 * took tells whether they are. */
static int wait_events(struct dp_engine *engine, struct epoll_event *events, int timeout_ms) {
    uint64_t in = engine->node->stats.bytes_in;
    bool streams = in - engine->bytes_in_before >= STREAMS_FROM;
    engine->bytes_in_before = in;
    int n = streams && engine->prompt && timeout_ms != 0 ? look(engine, events) : 0;
    if (n != 0)
        return n;
    uint64_t asleep_us = engine_now_us();
    n = epoll_wait(engine->epoll, events, EVENTS_PER_POLL, timeout_ms);
    engine->prompt = engine_now_us() - asleep_us < LOOK_US;
    return n;
}

int dp_engine_poll(dp_engine *engine, int timeout_ms, uint64_t *woken) {
    dp_node *node = engine->node;
    struct epoll_event events[EVENTS_PER_POLL];
    *woken = 0;
    uint64_t next = dp_node_tick(node, dp_engine_now());
    connections_resume(engine);
    dp_engine_flush(engine);
    reap(engine);
    if (node->events.count)
        timeout_ms = 0;
    int n = wait_events(engine, events, sleep_ms(engine, timeout_ms, next));
    if (n < 0 && errno != EINTR)
        return DP_E_IO;
    node->now_ms = dp_engine_now();
    for (int i = 0; i < n; i++)
        dispatch(engine, &events[i], woken);
    dp_engine_flush(engine);
    reap(engine);
    int rc = node->stats.events_lost ? DP_E_MEMORY : dp_node_collect(node);
    *woken |= (node->events.count ? DP_WOKEN_EVENTS : 0) | (node->busy ? DP_WOKEN_OUTPUT : 0);
    return rc;
}

/* --- sockets by request --- */

int dp_engine_listen(dp_engine *engine, const struct dp_address *address, uint16_t *port) {
    struct source *free_slot = NULL;
    if (address->family != 4 && address->family != 6)
        return DP_E_ARGUMENT;
    for (int i = 0; i < LISTENERS_MAX && !free_slot; i++)
        if (engine->listeners[i].fd < 0)
            free_slot = &engine->listeners[i];
    if (!free_slot)
        return DP_E_LIMIT;
    int fd = socket_listen(address, port);
    if (fd < 0)
        return DP_E_IO;
    *free_slot = (struct source){SOURCE_LISTENER, fd};
    int rc = engine_add_source(engine, free_slot, EPOLLIN);
    if (rc != DP_OK) {
        free_slot->fd = -1;
        close(fd);
    }
    return rc;
}

void dp_engine_stop_listening(dp_engine *engine) {
    for (int i = 0; i < LISTENERS_MAX; i++) {
        if (engine->listeners[i].fd >= 0)
            close(engine->listeners[i].fd);
        engine->listeners[i].fd = -1;
    }
}

int dp_engine_dial(dp_engine *engine, const struct dp_address *address,
                   const struct dp_known *known, uint64_t dial, uint64_t *handle) {
    struct link *link;
    if (address->family != 4 && address->family != 6)
        return DP_E_ARGUMENT;
    int fd = socket_connect(address);
    if (fd < 0)
        return DP_E_IO;
    socket_no_delay(fd);
    int rc = link_new(engine->node, &link, true, known, address, dial, dp_engine_now());
    if (rc != DP_OK) {
        close(fd);
        return rc;
    }
    rc = connection_open(engine, link, fd, true);
    if (rc != DP_OK) {
        link_free(link);
        close(fd);
        return rc;
    }
    *handle = link->handle;
    return DP_OK;
}

int dp_engine_watch(dp_engine *engine, int fd, uint32_t tag) {
    if (tag >= WATCHES_MAX || engine->watches[tag].source.fd >= 0)
        return DP_E_ARGUMENT;
    engine->watches[tag] = (struct watch){{SOURCE_WATCH, fd}, tag};
    int rc = engine_add_source(engine, &engine->watches[tag].source, EPOLLIN);
    if (rc != DP_OK)
        engine->watches[tag].source.fd = -1;
    return rc;
}

void dp_engine_unwatch(dp_engine *engine, int fd) {
    for (int i = 0; i < WATCHES_MAX; i++) {
        if (engine->watches[i].source.fd != fd)
            continue;
        (void)epoll_ctl(engine->epoll, EPOLL_CTL_DEL, fd, NULL); /* closed already: gone too */
        engine->watches[i].source.fd = -1;
    }
}

/* --- life --- */

void dp_process_tune(void) {
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, KEEP_MAPPED);
    mallopt(M_TRIM_THRESHOLD, KEEP_FREE);
    mallopt(M_TOP_PAD, GROW_BY);
#endif
}

int dp_engine_new(dp_engine **out, const struct dp_node_config *config) {
    dp_engine *engine = calloc(1, sizeof *engine);
    if (!engine)
        return DP_E_MEMORY;
    for (int i = 0; i < LISTENERS_MAX; i++)
        engine->listeners[i].fd = -1;
    for (int i = 0; i < WATCHES_MAX; i++)
        engine->watches[i].source.fd = -1;
    engine->rx = malloc(RX_CAP);
    engine->tx = malloc(TX_CAP);
    engine->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    engine->epoll = epoll_create1(EPOLL_CLOEXEC);
    int rc = !engine->rx || !engine->tx ? DP_E_MEMORY : engine->epoll < 0 ? DP_E_IO : DP_OK;
    if (rc == DP_OK)
        rc = dp_node_new(&engine->node, config);
    if (rc != DP_OK) {
        dp_engine_free(engine);
        return rc;
    }
    engine->node->on_resume = connection_resume_later;
    engine->node->now_ms = dp_engine_now();
    *out = engine;
    return DP_OK;
}

static void end_links(dp_node *node) {
    for (uint32_t i = 0; i < node->links.used; i++) {
        struct link *link = node->links.slots[i].object;
        if (link && link->state != DP_LINK_DEAD) {
            link_down(link, DP_E_EOF, 0);
            link_down(link, DP_E_EOF, 0); /* one that was closing */
        }
    }
}

void dp_engine_free(dp_engine *engine) {
    if (!engine)
        return;
    if (engine->node) {
        end_links(engine->node);
        reap(engine);
        dp_node_free(engine->node);
    }
    dp_engine_stop_listening(engine);
    if (engine->epoll >= 0)
        close(engine->epoll);
    if (engine->spare_fd >= 0)
        close(engine->spare_fd);
    free(engine->rx);
    free(engine->tx);
    free(engine);
}

dp_node *dp_engine_node(dp_engine *engine) {
    return engine->node;
}

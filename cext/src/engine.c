#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLUSH_ROUNDS = 8, DRAIN_ROUNDS = 4 }; /* ours: fairness between connections */
enum { KEEP_MAPPED = 32 << 20, KEEP_FREE = 64 << 20, GROW_BY = 1 << 20 }; /* bytes, for malloc */

uint64_t dp_engine_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- connections --- */

static int watch_source(struct dp_engine *engine, struct source *source, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = source};
    return epoll_ctl(engine->epoll, EPOLL_CTL_ADD, source->fd, &event) == 0 ? DP_OK : DP_E_IO;
}

/* Ask for what the connection can use now. */
static void update_interest(struct connection *c) {
    uint32_t want = (link_may_read(c->link) && !c->connecting ? EPOLLIN : 0) |
                    (c->blocked || c->connecting ? EPOLLOUT : 0);
    if (want == c->interest)
        return;
    struct epoll_event event = {.events = want, .data.ptr = &c->source};
    if (epoll_ctl(c->engine->epoll, EPOLL_CTL_MOD, c->source.fd, &event) != 0)
        link_down(c->link, DP_E_IO, (uint16_t)errno);
    else
        c->interest = want;
}

int connection_open(struct dp_engine *engine, struct link *link, int fd, bool connecting) {
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        return DP_E_MEMORY;
    c->source = (struct source){SOURCE_CONNECTION, fd};
    c->engine = engine;
    c->link = link;
    c->connecting = connecting;
    c->interest = connecting ? EPOLLOUT : EPOLLIN;
    int rc = watch_source(engine, &c->source, c->interest);
    if (rc != DP_OK)
        free(c);
    else
        link->owner = c;
    return rc;
}

static void unlink_resumed(struct connection *c) {
    struct connection **at = &c->engine->resumed;
    while (*at && *at != c)
        at = &(*at)->next_resumed;
    if (*at)
        *at = c->next_resumed;
}

/* What is unread when a socket closes makes the kernel cut off what was written last. */
static void drain(struct dp_engine *engine, int fd) {
    for (int i = 0; i < DRAIN_ROUNDS; i++)
        if (recv(fd, engine->rx, RX_CAP, MSG_DONTWAIT) <= 0)
            return;
}

static void connection_close(struct connection *c) {
    struct pool *pool = &c->engine->node->pool;
    if (c->out && c->link->close_sent)
        (void)!send(c->source.fd, c->out->data + c->out->start, c->out->len - c->out->start,
                    MSG_NOSIGNAL | MSG_DONTWAIT); /* a farewell: nobody is left to tell */
    shutdown(c->source.fd, SHUT_WR);
    drain(c->engine, c->source.fd);
    close(c->source.fd);
    buffer_put(pool, c->in);
    buffer_put(pool, c->out);
    if (c->resumed)
        unlink_resumed(c);
    free(c);
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

/* --- reading --- */

/* Offer `len` bytes of scratch to the link and keep what it leaves. */
static void feed(struct connection *c, size_t len) {
    struct dp_engine *engine = c->engine;
    size_t used;
    if (link_receive(c->link, engine->rx, len, &used, engine->node->now_ms) == DP_OK &&
        used < len) {
        c->in = buffer_get(&engine->node->pool, len - used);
        if (!c->in) {
            link_fail(c->link, DP_E_MEMORY);
            return;
        }
        c->in->len = len - used;
        memcpy(c->in->data, engine->rx + used, len - used);
    }
    if (c->link->state < DP_LINK_DEAD)
        update_interest(c);
}

/* Bring what was left last time to the front of the scratch. */
static size_t take_rest(struct connection *c) {
    struct buffer *in = c->in;
    if (!in)
        return 0;
    size_t len = in->len;
    memcpy(c->engine->rx, in->data, len);
    buffer_put(&c->engine->node->pool, in);
    c->in = NULL;
    return len;
}

static void read_connection(struct connection *c) {
    if (!link_may_read(c->link)) {
        update_interest(c);
        return;
    }
    size_t have = take_rest(c), cap = c->link->shake ? SHAKE_CAP : RX_CAP;
    ssize_t n = recv(c->source.fd, c->engine->rx + have, cap - have, 0);
    if (n > 0)
        have += (size_t)n;
    else if (n == 0)
        link_down(c->link, DP_E_EOF, 0);
    else if (errno != EAGAIN && errno != EINTR)
        link_down(c->link, DP_E_IO, (uint16_t)errno);
    if (have && link_may_read(c->link))
        feed(c, have);
}

static void on_resume(struct link *link) {
    struct connection *c = link->owner;
    if (!c || c->resumed)
        return;
    c->resumed = true;
    c->next_resumed = c->engine->resumed;
    c->engine->resumed = c;
}

static void resume_all(struct dp_engine *engine) {
    while (engine->resumed) {
        struct connection *c = engine->resumed;
        engine->resumed = c->next_resumed;
        c->resumed = false;
        size_t have = take_rest(c);
        if (have)
            feed(c, have);
        else if (c->link->state < DP_LINK_DEAD)
            update_interest(c);
    }
}

/* --- writing --- */

/* Give bytes to the kernel; returns how many it took, and sets *dead when the connection is. */
static size_t give(struct connection *c, const uint8_t *data, size_t len, bool *dead) {
    ssize_t n = send(c->source.fd, data, len, MSG_NOSIGNAL);
    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EINTR) {
        *dead = true;
        link_down(c->link, DP_E_IO, (uint16_t)errno);
    }
    return 0;
}

static void keep_rest(struct connection *c, const uint8_t *data, size_t len) {
    c->out = buffer_get(&c->engine->node->pool, len);
    if (!c->out) {
        link_fail(c->link, DP_E_MEMORY);
        return;
    }
    memcpy(c->out->data, data, len);
    c->out->len = len;
}

/* What the kernel did not take last time; false when it still does not take all. */
static bool write_rest(struct connection *c) {
    bool dead = false;
    if (!c->out)
        return true;
    c->out->start += give(c, c->out->data + c->out->start, c->out->len - c->out->start, &dead);
    if (dead || c->out->start < c->out->len)
        return false;
    buffer_put(&c->engine->node->pool, c->out);
    c->out = NULL;
    return true;
}

/* One scratch full; false when there is no more to write, or no more is taken. */
static bool write_more(struct connection *c) {
    struct dp_engine *engine = c->engine;
    size_t len;
    bool dead = false;
    if (link_produce(c->link, engine->tx, TX_CAP, &len, engine->node->now_ms) != DP_OK || !len)
        return false;
    size_t n = give(c, engine->tx, len, &dead);
    if (n < len && !dead)
        keep_rest(c, engine->tx + n, len - n);
    return n == len;
}

static void write_connection(struct connection *c) {
    bool more = write_rest(c);
    for (int i = 0; more && i < FLUSH_ROUNDS; i++)
        more = write_more(c);
    c->blocked = c->out != NULL;
    if (more)
        link_mark(c->link);
    if (c->link->state < DP_LINK_DEAD)
        update_interest(c);
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
        struct connection *c = link->owner;
        if (c && !c->connecting && !c->blocked && link->state < DP_LINK_DEAD)
            write_connection(c);
    }
}

/* --- events --- */

static void finish_connect(struct connection *c) {
    int error = socket_error(c->source.fd);
    if (error) {
        link_down(c->link, DP_E_IO, (uint16_t)error);
        return;
    }
    c->connecting = false;
    link_mark(c->link);
    update_interest(c);
}

static void on_connection(struct connection *c, uint32_t events) {
    if (c->link->state == DP_LINK_DEAD)
        return;
    if (c->connecting) {
        finish_connect(c);
        return;
    }
    if (events & EPOLLOUT)
        write_connection(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->link->state < DP_LINK_CLOSING) {
        if (link_may_read(c->link))
            read_connection(c);
        else if (events & (EPOLLHUP | EPOLLERR))
            link_down(c->link, DP_E_EOF, 0);
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        link_down(c->link, DP_E_EOF, 0);
    }
}

static void dispatch(struct dp_engine *engine, const struct epoll_event *event, uint64_t *woken) {
    struct source *source = event->data.ptr;
    switch (source->kind) {
    case SOURCE_LISTENER:
        engine_accept(engine, source->fd);
        break;
    case SOURCE_CONNECTION:
        on_connection((struct connection *)source, event->events);
        break;
    case SOURCE_WATCH:
        *woken |= UINT64_C(1) << ((struct watch *)source)->tag;
        break;
    }
}

/* How long epoll may sleep. */
static int sleep_ms(const struct dp_engine *engine, int timeout_ms, uint64_t next_ms) {
    if (engine->node->dirty || engine->node->busy)
        return 0;
    if (next_ms == UINT64_MAX)
        return timeout_ms;
    uint64_t wait = next_ms > engine->node->now_ms ? next_ms - engine->node->now_ms : 0;
    return timeout_ms >= 0 && (uint64_t)timeout_ms < wait ? timeout_ms
           : wait < 60000                                 ? (int)wait
                                                          : 60000;
}

int dp_engine_poll(dp_engine *engine, int timeout_ms, uint64_t *woken) {
    dp_node *node = engine->node;
    struct epoll_event events[EVENTS_PER_POLL];
    *woken = 0;
    uint64_t next = dp_node_tick(node, dp_engine_now());
    resume_all(engine);
    dp_engine_flush(engine);
    reap(engine);
    if (node->events.count)
        timeout_ms = 0;
    int n = epoll_wait(engine->epoll, events, EVENTS_PER_POLL, sleep_ms(engine, timeout_ms, next));
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
    for (int i = 0; i < LISTENERS_MAX && !free_slot; i++)
        if (engine->listeners[i].fd < 0)
            free_slot = &engine->listeners[i];
    if (!free_slot)
        return DP_E_LIMIT;
    int fd = socket_listen(address, port);
    if (fd < 0)
        return DP_E_IO;
    *free_slot = (struct source){SOURCE_LISTENER, fd};
    int rc = watch_source(engine, free_slot, EPOLLIN);
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

int dp_engine_dial(dp_engine *engine, const struct dp_address *address, const uint8_t *expected,
                   uint64_t dial, uint64_t *handle) {
    struct link *link;
    if (address->family != 4 && address->family != 6)
        return DP_E_ARGUMENT;
    int fd = socket_connect(address);
    if (fd < 0)
        return DP_E_IO;
    socket_tune(fd, engine->node->config.send_low_water);
    int rc = link_new(engine->node, &link, true, expected, address, dial, dp_engine_now());
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
    int rc = watch_source(engine, &engine->watches[tag].source, EPOLLIN);
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
    engine->node->on_resume = on_resume;
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

/* One connection: bytes between the kernel and its link. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine.h"

enum { FLUSH_ROUNDS = 8, DRAIN_ROUNDS = 4 }; /* ours: fairness between connections */

/* Ask for what the connection can use now. One that waits for a ticket reads nothing, but nothing
 * more can come of it once the peer has hung up. */
static void update_interest(struct connection *c) {
    uint32_t read = link_may_read(c->link) ? EPOLLIN : shake_rests(c->link) ? EPOLLRDHUP : 0;
    uint32_t want = (c->connecting ? 0 : read) | (c->blocked || c->connecting ? EPOLLOUT : 0);
    if (want == c->interest)
        return;
    struct epoll_event event = {.events = want, .data.ptr = &c->source};
    if (epoll_ctl(c->engine->epoll, EPOLL_CTL_MOD, c->source.fd, &event) != 0)
        link_down(c->link, DP_E_IO, (uint16_t)errno);
    else
        c->interest = want;
}

/* Let the kernel say that it takes more in good time, and not before. */
static void tune(struct connection *c) {
    uint32_t mark = pace_low_water(&c->pace);
    if (mark != c->low_water)
        socket_low_water(c->source.fd, mark);
    c->low_water = mark;
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
    pace_begin(&c->pace, engine->node->config.send_low_water);
    tune(c);
    int rc = engine_add_source(engine, &c->source, c->interest);
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

void connection_close(struct connection *c) {
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

/* --- reading --- */

/* Offer `len` bytes of scratch to the link and keep what it leaves. */
static void feed(struct connection *c, size_t len) {
    struct dp_engine *engine = c->engine;
    size_t used;
    if (link_receive(c->link, engine->rx, len, &used, engine->node->now_ms) == DP_OK &&
        used < len) {
        size_t rest = len - used; /* with room for the frame that it begins */
        c->in = buffer_get(&engine->node->pool, rest < FRAME_WIRE_MAX ? FRAME_WIRE_MAX : rest);
        if (!c->in) {
            link_fail(c->link, DP_E_MEMORY);
            return;
        }
        c->in->len = rest;
        memcpy(c->in->data, engine->rx + used, rest);
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

/* How many bytes came; 0, and perhaps the link's end, when none did. */
static size_t came(struct connection *c, ssize_t n) {
    if (n > 0)
        return (size_t)n;
    if (n == 0)
        link_down(c->link, DP_E_EOF, 0);
    else if (errno != EAGAIN && errno != EINTR)
        link_down(c->link, DP_E_IO, (uint16_t)errno);
    return 0;
}

/* Bytes that the frame begun in c->in still lacks; 0 when that is not what stands there. */
static size_t lacking(const struct connection *c) {
    const struct buffer *in = c->in;
    size_t whole = in ? link_frame_size(c->link, in->data, in->len) : 0;
    return whole && whole > in->len && whole <= in->cap ? whole - in->len : 0;
}

/* Read the end of that frame to where its beginning is, and what follows into the scratch. */
static void read_behind(struct connection *c, size_t lacks) {
    struct buffer *in = c->in;
    struct iovec parts[] = {{in->data + in->len, lacks}, {c->engine->rx, RX_CAP - in->cap}};
    size_t n = came(c, readv(c->source.fd, parts, 2)), used;
    in->len += n < lacks ? n : lacks;
    if (n < lacks || !link_may_read(c->link))
        return;
    c->in = NULL;
    int rc = link_receive(c->link, in->data, in->len, &used, c->engine->node->now_ms);
    buffer_put(&c->engine->node->pool, in);
    if (rc == DP_OK)
        feed(c, n - lacks);
    else if (c->link->state < DP_LINK_DEAD)
        update_interest(c);
}

static void read_connection(struct connection *c) {
    if (!link_may_read(c->link)) {
        update_interest(c);
        return;
    }
    size_t lacks = lacking(c);
    if (lacks) {
        read_behind(c, lacks);
        return;
    }
    size_t have = take_rest(c), cap = c->link->established ? RX_CAP : SHAKE_CAP;
    have += came(c, recv(c->source.fd, c->engine->rx + have, cap - have, 0));
    if (have && link_may_read(c->link))
        feed(c, have);
}

void connection_resume_later(struct link *link) {
    struct connection *c = link->owner;
    if (!c || c->resumed)
        return;
    c->resumed = true;
    c->next_resumed = c->engine->resumed;
    c->engine->resumed = c;
}

void connections_resume(struct dp_engine *engine) {
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

/* The peer has hung up. What it said last, above all why, may still be there. */
static void hear_last(struct connection *c) {
    if (!link_may_read(c->link))
        return;
    size_t have = take_rest(c);
    ssize_t n = recv(c->source.fd, c->engine->rx + have, RX_CAP - have, 0);
    have += n > 0 ? (size_t)n : 0;
    if (have)
        feed(c, have);
}

/* Give bytes to the kernel; returns how many it took, and sets *dead when the connection is. */
static size_t give(struct connection *c, const uint8_t *data, size_t len, bool *dead) {
    ssize_t n = send(c->source.fd, data, len, MSG_NOSIGNAL);
    if (n >= 0) {
        pace_gave(&c->pace, (size_t)n);
        return (size_t)n;
    }
    int error = errno;
    if (error == EAGAIN || error == EINTR)
        return 0;
    *dead = true;
    if (error == EPIPE || error == ECONNRESET)
        hear_last(c);
    if (c->link->state < DP_LINK_DEAD)
        link_down(c->link, DP_E_IO, (uint16_t)error);
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

/* Whether the kernel takes more now: all that was offered, and its queue is short. */
static bool takes_more(struct connection *c, bool took_all) {
    if (took_all && !pace_look_due(&c->pace))
        return true;
    uint64_t unsent = socket_unsent(c->source.fd);
    c->blocked = pace_look(&c->pace, unsent, !took_all, engine_now_us());
    return !c->blocked;
}

/* What the kernel did not take last time; false when it takes no more after that. */
static bool write_rest(struct connection *c) {
    bool dead = false;
    if (!c->out)
        return true;
    c->out->start += give(c, c->out->data + c->out->start, c->out->len - c->out->start, &dead);
    if (dead)
        return false;
    bool all = c->out->start == c->out->len;
    if (all) {
        buffer_put(&c->engine->node->pool, c->out);
        c->out = NULL;
    }
    return takes_more(c, all);
}

/* One chunk; false when there is no more to write, or no more is taken. */
static bool write_more(struct connection *c) {
    struct dp_engine *engine = c->engine;
    size_t len;
    bool dead = false;
    if (link_produce(c->link, engine->tx, pace_chunk(&c->pace), pace_frame(&c->pace), &len,
                     engine->node->now_ms) != DP_OK)
        return false;
    if (!len) {
        pace_idle(&c->pace);
        return false;
    }
    size_t n = give(c, engine->tx, len, &dead);
    if (dead)
        return false;
    if (n < len)
        keep_rest(c, engine->tx + n, len - n);
    return takes_more(c, n == len);
}

/* The kernel says that it takes more: how did its queue do meanwhile? */
static void unblock(struct connection *c) {
    pace_writable(&c->pace, socket_unsent(c->source.fd), engine_now_us());
    c->blocked = false;
}

void connection_write(struct connection *c) {
    if (c->blocked)
        unblock(c);
    bool more = write_rest(c);
    for (int i = 0; more && i < FLUSH_ROUNDS; i++)
        more = write_more(c);
    if (more)
        link_mark(c->link);
    if (c->link->state < DP_LINK_DEAD) {
        tune(c);
        update_interest(c);
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

void connection_on_events(struct connection *c, uint32_t events) {
    if (c->link->state == DP_LINK_DEAD)
        return;
    if (c->connecting) {
        finish_connect(c);
        return;
    }
    if (events & EPOLLOUT)
        connection_write(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP) && c->link->state < DP_LINK_CLOSING) {
        if (link_may_read(c->link))
            read_connection(c);
        else if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP))
            link_down(c->link, DP_E_EOF, 0);
    } else if (events & (EPOLLHUP | EPOLLERR)) {
        link_down(c->link, DP_E_EOF, 0);
    }
}

/* Incoming connections, and the caps that refuse them. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine.h"

enum { ACCEPTS_PER_EVENT = 64 };

/* Whether the source of `remote`, and its network, may have one more link in its handshake. */
static bool source_has_room(const dp_node *node, const struct dp_address *remote) {
    uint32_t source = 0, network = 0;
    const struct link *link = node->timers[LINK_TIMER_HANDSHAKE].head;
    for (; link; link = link->timer_next) {
        if (link->initiator || !same_network(&link->remote, remote))
            continue;
        network++;
        source += same_source(&link->remote, remote);
    }
    return source < node->config.max_handshakes_per_address &&
           network < node->config.max_handshakes_per_network;
}

static bool has_room(const dp_node *node, const struct dp_address *remote) {
    return node->links.count < node->config.max_links &&
           node->pending_inbound < node->config.max_handshakes && source_has_room(node, remote);
}

static void welcome(struct dp_engine *engine, int fd, const struct dp_address *remote) {
    dp_node *node = engine->node;
    struct link *link = NULL;
    if (!has_room(node, remote) ||
        link_new(node, &link, false, NULL, remote, 0, node->now_ms) != DP_OK) {
        node->stats.links_refused++;
        close(fd);
        return;
    }
    socket_tune(fd, node->config.send_low_water);
    if (connection_open(engine, link, fd, false) != DP_OK) {
        node->stats.accept_failures++;
        link_down(link, DP_E_IO, (uint16_t)errno);
        close(fd);
    }
}

/* Out of descriptors: take the next caller on the spare one and hang up, so that it learns at once
 * and the listener does not stay ready for ever. False when nobody waits (the kernel says EMFILE
 * before it looks), or there is no spare one. */
static bool refuse_one(struct dp_engine *engine, int listener) {
    struct dp_address remote;
    if (engine->spare_fd >= 0)
        close(engine->spare_fd);
    int fd = socket_accept(listener, &remote);
    if (fd >= 0)
        close(fd);
    engine->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    engine->node->stats.accept_failures += fd >= 0;
    return fd >= 0;
}

void engine_accept(struct dp_engine *engine, int listener) {
    for (int i = 0; i < ACCEPTS_PER_EVENT; i++) {
        struct dp_address remote = {0};
        int fd = socket_accept(listener, &remote);
        if (fd >= 0) {
            welcome(engine, fd, &remote);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (!refuse_one(engine, listener))
                return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

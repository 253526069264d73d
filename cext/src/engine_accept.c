/* Incoming connections, and the caps that refuse them. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "engine.h"

enum { ACCEPTS_PER_EVENT = 64, NETWORKS_TRIED = 16 };

/* Inbound links in their handshakes that share something with an address. */
struct crowd {
    uint32_t source, network;
    struct link *oldest; /* of the network */
};

static struct crowd crowd_of(const dp_node *node, const struct dp_address *remote) {
    struct crowd crowd = {0};
    struct link *link = node->timers[LINK_TIMER_HANDSHAKE].head;
    for (; link; link = link->timer_next) {
        if (link->initiator || !same_network(&link->remote, remote))
            continue;
        if (crowd.network++ == 0)
            crowd.oldest = link;
        crowd.source += same_source(&link->remote, remote);
    }
    return crowd;
}

/* Who gives way when all places for handshakes are taken: the oldest of the network that has most
 * of them, as far as every sixteenth part of the list shows it. So a flood drives out itself, and
 * one from everywhere must begin anew as often as places are taken, not once in a deadline. */
static struct link *giving_way(const dp_node *node) {
    const struct link_list *list = &node->timers[LINK_TIMER_HANDSHAKE];
    struct crowd busiest = {0};
    uint32_t step = list->count / NETWORKS_TRIED + 1, at = 0;
    for (const struct link *link = list->head; link; link = link->timer_next) {
        if (at++ % step != 0 || link->initiator)
            continue;
        struct crowd crowd = crowd_of(node, &link->remote);
        if (crowd.network > busiest.network)
            busiest = crowd;
    }
    return busiest.oldest;
}

static bool has_room(const dp_node *node, const struct dp_address *remote) {
    struct crowd crowd = crowd_of(node, remote);
    if (node->links.count >= node->config.max_links ||
        crowd.source >= node->config.max_handshakes_per_address ||
        crowd.network >= node->config.max_handshakes_per_network)
        return false;
    if (node->pending_inbound < node->config.max_handshakes)
        return true;
    struct link *link = giving_way(node);
    if (!link)
        return false;
    link_down(link, DP_E_LIMIT, 0);
    return true;
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
    socket_no_delay(fd);
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

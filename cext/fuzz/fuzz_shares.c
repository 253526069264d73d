/* Caps, windows and ends together: two links between two nodes, driven as the engine does (a link
 * writes only when it is marked, time goes on to what dp_node_tick said), while caps come, change
 * and go, windows grow and give back, and flows, sinks and links end at any moment.
 *
 * After each step the node's sums are those of its flows, and the lines of meters hold together. In
 * the end all that was sent between flows that live arrives, whatever caps are in force, without a
 * wake-up too few; and who has consumed all has granted a largest datagram.
 *
 * Input: steps of 4 bytes: what, side and flow, two arguments.
 */
#include "link_pair.h"

enum {
    STEP = 4,
    STEPS_MAX = 300,
    LINKS = 2,
    LARGEST = 9000,
    WINDOW = 40000,
    WAKES_MAX = 200000 /* until all has arrived */
};

/* The nodes, applications and flows are those of `lane[0]`; the other one is a second stream only. */
static struct pair lane[LINKS];
static struct pair *const app = &lane[0];

static int link_of(int flow) {
    return flow % LINKS;
}

/* --- as the engine does ---------------------------------------------------------------------------- */

static struct link *next_dirty(dp_node *node) {
    struct link *link = node->dirty;
    if (!link)
        return NULL;
    node->dirty = link->next_dirty;
    if (!node->dirty)
        node->dirty_tail = NULL;
    link->dirty = false;
    return link;
}

/* One write on the next link that is marked, if there is one; false when nothing came of it. */
static bool write_one(int i, size_t cap) {
    dp_node *node = app->side[i].node;
    struct link *link = next_dirty(node);
    if (!link)
        return false;
    for (int l = 0; l < LINKS; l++) {
        if (lane[l].side[i].link != link->handle)
            continue;
        lane[l].now_ms = app->now_ms;
        bool full = PAIR_WIRE - lane[l].side[1 - i].on_wire < DP_PRODUCE_MIN + cap;
        size_t len = full ? 0 : pair_produce(&lane[l], i, cap);
        if (len || full)
            link_mark(link);
        return len > 0;
    }
    return false; /* one that has ended */
}

static void deliver(int l, int i, size_t n) {
    lane[l].now_ms = app->now_ms;
    int rc = pair_deliver(&lane[l], i, n);
    CHECK(rc == DP_OK || rc == DP_E_ARGUMENT);
}

static void run(void) {
    for (bool moving = true; moving;) {
        moving = false;
        for (int i = 0; i < 2; i++) {
            const struct link *last = app->side[i].node->dirty_tail, *at = NULL;
            while (at != last) {
                at = app->side[i].node->dirty;
                moving |= write_one(i, DP_PRODUCE_MIN);
            }
            for (int l = 0; l < LINKS; l++) {
                size_t before = lane[l].side[1 - i].on_wire;
                deliver(l, 1 - i, PAIR_WIRE);
                moving |= lane[l].side[1 - i].on_wire < before;
            }
            pair_gather(app, 1 - i);
        }
        pair_gather(app, 0);
    }
}

static void open_link(int l) {
    for (int i = 0; i < 2; i++) {
        lane[l].side[i].node = app->side[i].node;
        CHECK(dp_link_new(app->side[i].node, &lane[l].side[i].link, i == 0, NULL, NULL, 0,
                          app->now_ms) == DP_OK);
        link_mark(pair_link(&lane[l], i));
    }
    run();
    for (int i = 0; i < 2; i++) {
        pair_admit(&lane[l], i);
        run();
    }
    for (int i = 0; i < 2; i++)
        CHECK(pair_state(&lane[l], i) == DP_LINK_OPEN);
}

/* --- flows that come and go -------------------------------------------------------------------------- */

static void close_flow(int flow, int i, bool tombstone) {
    uint32_t *handle = &app->flow[flow].handle[i];
    if (!*handle)
        return;
    pair_gather(app, i);
    CHECK(dp_flow_close(app->side[i].node, *handle, tombstone) == DP_OK);
    *handle = 0;
}

static void open_flow(int flow, uint8_t a, uint8_t b) {
    struct pair *stream = &lane[link_of(flow)];
    if (app->flow[flow].handle[0] && app->flow[flow].handle[1])
        return;
    close_flow(flow, 0, true);
    close_flow(flow, 1, true);
    run();
    uint32_t window = a & 1 ? WINDOW : LARGEST + DP_DATAGRAM_COST;
    for (int i = 0; i < 2; i++) {
        uint8_t number = (uint8_t)(10 + 2 * flow + i), peer = (uint8_t)(10 + 2 * flow + 1 - i);
        struct dp_flow_config c = {.sink = app->side[i].sink,
                                   .number = number,
                                   .peer_number = peer,
                                   .priority = (uint8_t)((a >> 1) % DP_CLASS_COUNT),
                                   .weight = (uint8_t)(1 + (b & 63)),
                                   .max_datagram = LARGEST,
                                   .types = 7,
                                   .window = window,
                                   .peer_window = window,
                                   .group = (uint8_t)(b >> 7)};
        if (c.priority == DP_BULK && b & 64) {
            c.lift_count = 1;
            c.lifts[0] = (struct dp_lift){6, 6, DP_URGENT};
        }
        CHECK(dp_flow_bury(stream->side[i].node, stream->side[i].link, number) == DP_OK);
        app->flow[flow].lane[i] = (struct pair_lane){.limit = window};
        CHECK(dp_flow_open(stream->side[i].node, stream->side[i].link, &c,
                           &app->flow[flow].handle[i]) == DP_OK);
    }
}

static void end_link(int l, bool farewell) {
    for (int i = 0; i < 2; i++) {
        pair_gather(app, i);
        for (int flow = 0; flow < PAIR_FLOWS; flow++)
            if (link_of(flow) == l)
                app->flow[flow].handle[i] = 0;
        if (farewell)
            CHECK(dp_link_close(app->side[i].node, lane[l].side[i].link, 1) == DP_OK);
        if (farewell) /* as one that is closing may be asked */
            CHECK(dp_link_limit(app->side[i].node, lane[l].side[i].link, 1, 1) == DP_OK);
        (void)dp_link_end(app->side[i].node, lane[l].side[i].link, DP_E_EOF);
        (void)dp_link_end(app->side[i].node, lane[l].side[i].link, DP_E_EOF);
        pair_gather(app, i);
        lane[l].side[i].on_wire = lane[l].side[i].arrived = 0;
    }
    open_link(l);
}

static void close_sink(int i) {
    pair_gather(app, i);
    dp_sink_close(app->side[i].node, app->side[i].sink);
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        app->flow[flow].handle[i] = 0;
    CHECK(dp_sink_open(app->side[i].node, &app->side[i].sink) == DP_OK);
}

/* --- steps -------------------------------------------------------------------------------------------- */

static uint64_t rate_from(uint8_t a) {
    static const uint64_t RATES[] = {0,     0,      1,       700,         5000,
                                     50000, 400000, 9000000, DP_RATE_MAX, 20000};
    return RATES[a % (sizeof RATES / sizeof *RATES)];
}

static void limit(int i, int scope, uint8_t up, uint8_t down) {
    dp_node *node = app->side[i].node;
    uint64_t u = rate_from(up), d = rate_from(down);
    if (scope == 0)
        CHECK(dp_node_limit(node, u, d) == DP_OK);
    else if (scope == 1)
        CHECK(dp_link_limit(node, lane[up & 1].side[i].link, u, d) == DP_OK);
    else
        CHECK(dp_group_limit(node, (uint32_t)scope - 2, u, d) == DP_OK);
}

static void tick(void) {
    for (int i = 0; i < 2; i++)
        CHECK(dp_node_tick(app->side[i].node, app->now_ms) > app->now_ms);
}

static void step(const uint8_t *s) {
    int i = s[1] & 1, flow = s[1] >> 1 & 3;
    uint32_t arg = load16(s + 2);
    bool is_open = app->flow[flow].handle[i] != 0;
    switch (s[0] % 13) {
    case 0:
    case 1:
        (void)write_one(i, arg);
        break;
    case 2:
        deliver(flow & 1, i, arg);
        break;
    case 3:
        pair_gather(app, i);
        break;
    case 4:
        (void)(is_open && pair_send(app, i, flow, s[2], s[3]));
        break;
    case 5:
        (void)(is_open && pair_send(app, i, flow, 1, arg % (LARGEST + 1)));
        break;
    case 6:
        if (is_open)
            pair_consume(app, i, flow);
        break;
    case 7:
        limit(i, flow, s[2], s[3]);
        break;
    case 8:
    case 9:
        app->now_ms += s[2];
        tick();
        break;
    case 10:
        if (s[3] % 8 == 0)
            close_flow(flow, i, true);
        else
            open_flow(flow, s[2], s[3]);
        break;
    case 11:
        if (s[3] % 8 == 0)
            end_link(flow & 1, s[2] & 1);
        else if (s[3] % 8 == 1)
            close_sink(i);
        else
            run();
        break;
    default:
        (void)(is_open && pair_send_epoch(app, i, flow));
        break;
    }
}

/* --- what holds at any moment ------------------------------------------------------------------------- */

static void check_sums(const dp_node *node) {
    struct dp_stats sums = {0};
    for (uint32_t n = 0; n < node->flows.used; n++) {
        const struct flow *f = node->flows.slots[n].object;
        if (!f)
            continue;
        sums.window_bytes += f->receive.granted;
        sums.peer_window_bytes += f->send.limit - f->send.confirmed.bytes;
        sums.unread_bytes += f->receive.received.bytes - f->receive.consumed.bytes;
        sums.queued_bytes += f->send.accepted.bytes - f->send.sent.bytes;
        CHECK(f->receive.granted >= f->window);
        CHECK(f->window <= node->config.window_max);
        CHECK(f->send.accepted.bytes <= f->send.limit);
        CHECK(!f->send.head || f->ring || f->up.meter);
        CHECK(f->send.head || !f->ring);
    }
    CHECK(sums.window_bytes == node->stats.window_bytes);
    CHECK(sums.peer_window_bytes == node->stats.peer_window_bytes);
    CHECK(sums.unread_bytes == node->stats.unread_bytes);
    CHECK(sums.queued_bytes == node->stats.queued_bytes);
}

static void check_lines(const struct meters *all) {
    const struct meter *before = NULL;
    for (const struct meter *m = all->waiting; m; before = m, m = m->next) {
        CHECK(m->prev == before && m->head && m->rate && m->due_ms >= all->due_ms);
        for (const struct waiter *w = m->head; w; w = w->next)
            CHECK(w->meter == m && (w->next ? w->next->prev == w : m->tail == w));
    }
    CHECK(!all->waiting || all->due_ms < UINT64_MAX);
}

static void check_capped(const dp_node *node) {
    uint32_t up = node->caps.up.rate != 0, down = node->caps.down.rate != 0;
    for (int g = 0; g < DP_GROUP_COUNT; g++) {
        up += node->groups[g].caps.up.rate != 0;
        down += node->groups[g].caps.down.rate != 0;
    }
    for (uint32_t n = 0; n < node->links.used; n++) {
        const struct link *link = node->links.slots[n].object;
        up += link && link->caps.up.rate;
        down += link && link->caps.down.rate;
    }
    CHECK(up == node->up.capped && down == node->down.capped);
}

static void check_nodes(void) {
    for (int i = 0; i < 2; i++) {
        check_sums(app->side[i].node);
        check_lines(&app->side[i].node->up);
        check_lines(&app->side[i].node->down);
        check_capped(app->side[i].node);
    }
}

/* --- the end ------------------------------------------------------------------------------------------ */

static bool lives(int flow) {
    return app->flow[flow].handle[0] && app->flow[flow].handle[1];
}

static struct flow *flow_at(int flow, int i) {
    return table_get_short(&app->side[i].node->flows, app->flow[flow].handle[i]);
}

/* Something is queued, or credit is waited for. */
static bool waits(void) {
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        for (int i = 0; i < 2 && lives(flow); i++)
            if (flow_at(flow, i)->send.head || flow_at(flow, i)->down.meter)
                return true;
    return false;
}

static void consume_all(void) {
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        for (int i = 0; i < 2 && lives(flow); i++)
            if (app->flow[flow].lane[1 - i].consumed_bytes <
                app->flow[flow].lane[1 - i].received_bytes)
                pair_consume(app, i, flow);
}

static void settle(void) {
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        for (int i = 0; i < 2 && !lives(flow); i++)
            close_flow(flow, i, true);
    run();
    consume_all();
    run();
    for (int wakes = 0; waits(); wakes++) {
        uint64_t due[2] = {caps_due(app->side[0].node), caps_due(app->side[1].node)};
        uint64_t next = due[0] < due[1] ? due[0] : due[1];
        CHECK(wakes < WAKES_MAX && next < UINT64_MAX);
        app->now_ms = next > app->now_ms ? next : app->now_ms;
        tick();
        run();
        consume_all();
        run();
    }
    check_nodes();
    for (int flow = 0; flow < PAIR_FLOWS; flow++) {
        for (int i = 0; i < 2 && lives(flow); i++) {
            const struct pair_lane *way = &app->flow[flow].lane[i];
            const struct flow *f = flow_at(flow, i);
            CHECK(way->received == way->sent && way->received_bytes == way->sent_bytes);
            CHECK(f->send.confirmed.bytes == way->sent_bytes);
            CHECK(f->send.limit - f->send.accepted.bytes >= LARGEST + DP_DATAGRAM_COST);
            CHECK(way->limit - way->sent_bytes >= LARGEST + DP_DATAGRAM_COST);
        }
    }
    for (int i = 0; i < 2; i++)
        CHECK(app->side[i].seen.refused == 0 && app->side[i].kept == 0);
}

static void begin(void) {
    struct dp_node_config config = pair_config();
    config.idle_ms = UINT32_MAX;
    config.keepalive_ms = UINT32_MAX / 4; /* time goes on in large steps here */
    config.window_max = 3 * WINDOW;
    config.window_bytes_max = 12 * WINDOW;
    struct dp_node_config both[2] = {config, config};
    pair_nodes(app, both);
    for (int l = 1; l < LINKS; l++)
        memset(&lane[l], 0, sizeof lane[l]);
    for (int l = 0; l < LINKS; l++)
        open_link(l);
    for (int flow = 0; flow < PAIR_FLOWS; flow++)
        open_flow(flow, (uint8_t)(3 * flow), (uint8_t)(flow << 6));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    begin();
    for (size_t n = 0; n < STEPS_MAX && size >= STEP; n++, data += STEP, size -= STEP) {
        step(data);
        check_nodes();
    }
    settle();
    for (int l = 1; l < LINKS; l++)
        for (int i = 0; i < 2; i++) {
            (void)dp_link_end(app->side[i].node, lane[l].side[i].link, DP_E_EOF);
            pair_gather(app, i);
        }
    pair_free(app);
    return 0;
}
